/** One gateway process: its parts, how they start, and how they end. */
import type { Server } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

import { gatewayApp } from './app.ts';
import { createFailedGuesses } from './failed-guesses.ts';
import type { FleetPort } from './fleet-port.ts';
import { openJournal } from './journal.ts';
import type { Journal, StreamPlace } from './journal.ts';
import {
  closeIdleEveryMs,
  decisionMs,
  drainProcessMs,
  drainUpstreamsMax,
  housekeepingEveryMs,
  repeatEveryMs,
  settleAtExitMs,
} from './limits.ts';
import type { Log } from './log.ts';
import { createMetrics } from './metrics.ts';
import { createOpIds } from './op-ids.ts';
import { createProbes } from './probes.ts';
import type { Relay } from './relay.ts';
import { compileRouteTable } from './route-table.ts';
import type { RouteTable } from './route-table.ts';
import { gatewayServer } from './server.ts';
import { createSettler } from './settler.ts';
import type { Settler } from './settler.ts';
import { createUpstreams } from './upstreams.ts';
import type { Upstreams, UpstreamTimes } from './upstreams.ts';
import { createWarmUp } from './warm-up.ts';
import type { WarmUp } from './warm-up.ts';

export type GatewayOptions = {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  readonly journalDir: string;
  readonly fleet: FleetPort;
  readonly log: Log;
  readonly upstreamTimes?: UpstreamTimes;
  /** How long a decision may take before 503. Default 230; a shard client with longer timeouts needs more. */
  readonly decisionMs?: number;
  /** How long requests in flight may take after `close` was called. Default 20,000. */
  readonly drainMs?: number;
};

export type Gateway = {
  readonly port: number;
  /** Admitted requests that have not ended. */
  openHolds(): number;
  /** Renews holds, cuts stalled clients, forgets what is committed. Done by itself every few seconds; `nowMs` for tests. */
  look(nowMs?: number): void;
  /** Stops accepting, lets requests finish, settles, closes the journal. The fleet is the caller's to close. */
  close(): Promise<void>;
};

/** Starts a gateway. Throws JournalLocked when another process has its journal; rejects when the port is taken. */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const process = new GatewayProcess(options);
  try {
    await process.listen(options.host, options.port);
  } catch (error) {
    await process.close();
    throw error;
  }
  return process;
}

class GatewayProcess implements Gateway {
  readonly #options: GatewayOptions;
  readonly #journal: Journal;
  readonly #settler: Settler;
  readonly #upstreams: Upstreams;
  readonly #routes: RouteTables;
  readonly #warmUp: WarmUp;
  readonly #relays = new Set<Relay>();
  readonly #server: Server;
  readonly #ends: (() => void)[] = [];
  #port = 0;
  #drains = 0;
  #closing: Promise<void> | null = null;

  constructor(options: GatewayOptions) {
    const { fleet, log } = options;
    this.#options = options;
    this.#journal = openJournal(options.journalDir);
    const metrics = createMetrics({
      openHolds: () => this.#relays.size,
      keptSettles: () => this.#settler.keptCount(),
      journalFiles: () => this.#journal.files().length,
      journalUnsettled: () => this.#unsettled(),
    });
    this.#settler = createSettler({ fleet, journal: this.#journal, log, metrics });
    this.#upstreams = createUpstreams(options.upstreamTimes);
    this.#routes = routeTables(fleet, log);
    this.#warmUp = createWarmUp(fleet);
    const app = gatewayApp({
      fleet,
      log,
      metrics,
      journal: this.#journal,
      settler: this.#settler,
      upstreams: this.#upstreams,
      relays: this.#relays,
      claimDrain: () => this.#claimDrain(),
      returnDrain: () => {
        this.#drains -= 1;
      },
      guesses: createFailedGuesses(),
      decisionMs: options.decisionMs ?? decisionMs,
      routeTable: this.#routes.current,
      nextOpId: createOpIds(),
      isClosing: () => this.#closing !== null,
      probes: createProbes({
        metrics,
        isProductHost: this.#routes.isHost,
        missing: () => this.#missing(),
      }),
    });
    this.#server = gatewayServer(app);
  }

  get port(): number {
    return this.#port;
  }

  openHolds(): number {
    return this.#relays.size;
  }

  async listen(host: string, port: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen({ port, host }, resolve);
    });
    const address = this.#server.address();
    if (typeof address === 'object') this.#port = address?.port ?? 0;
    const timers = [
      setInterval(() => {
        this.look();
      }, housekeepingEveryMs),
      setInterval(() => {
        this.#repeat();
      }, repeatEveryMs),
    ];
    this.#ends.push(
      ...timers.map((timer) => () => {
        clearInterval(timer);
      }),
      this.#options.fleet.onChange(() => {
        this.#repeat();
      }),
      this.#routes.end,
    );
    this.#repeat();
    this.#options.log.info({ port: this.port }, 'gateway listens');
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  look(nowMs = performance.now()): void {
    for (const relay of this.#relays) relay.look(nowMs);
    this.#journal.tidy(this.#isCommitted);
  }

  #repeat(): void {
    void this.#settler.repeat();
    void this.#settler.replay();
    void this.#warmUp.warm();
  }

  readonly #isCommitted = (place: StreamPlace): boolean => this.#settler.isCommitted(place);

  #unsettled(): number {
    return this.#journal.files().reduce((sum, { unsettled }) => sum + unsettled, 0);
  }

  #claimDrain(): boolean {
    if (this.#drains >= drainUpstreamsMax || this.#closing !== null) return false;
    this.#drains += 1;
    return true;
  }

  #missing(): string[] {
    return [
      ...(this.#closing === null ? [] : ['the process is ending']),
      ...(this.#options.fleet.map() === null ? ['no slot map yet'] : []),
      ...(this.#routes.current() === null ? ['no catalogue yet'] : []),
      ...(this.#warmUp.isDone() ? [] : ['no connection to every shard yet']),
      ...(this.#journal.isHealthy() ? [] : ['the journal cannot be written']),
    ];
  }

  async #close(): Promise<void> {
    if (this.#server.listening) await this.#finishRequests();
    for (const end of this.#ends) end();
    await this.#settleRest();
    this.#journal.close(this.#isCommitted);
    await this.#upstreams.close();
    this.#options.log.info({}, 'gateway has ended');
  }

  async #finishRequests(): Promise<void> {
    const { log, drainMs = drainProcessMs } = this.#options;
    const closed = new Promise((resolve) => {
      this.#server.close(resolve);
    });
    const idle = setInterval(() => {
      this.#server.closeIdleConnections();
    }, closeIdleEveryMs);
    const isInTime = await Promise.race([
      closed.then(() => true),
      sleep(drainMs, false, { ref: false }),
    ]);
    clearInterval(idle);
    if (!isInTime) log.warn({ count: this.#relays.size }, 'requests are cut at the end');
    for (const relay of this.#relays) relay.cut();
    this.#server.closeAllConnections();
    await closed;
    // The listeners of a socket run after it was destroyed; what they settle belongs to this end too.
    await sleep(0);
  }

  async #settleRest(): Promise<void> {
    const endMs = performance.now() + settleAtExitMs;
    while (this.#unsettled() > 0 && performance.now() < endMs) {
      await this.#settler.repeat();
      await sleep(20);
    }
    const count = this.#unsettled();
    if (count > 0)
      this.#options.log.warn({ count }, 'settles stay in the journal for the next start');
  }
}

type RouteTables = {
  readonly current: () => RouteTable | null;
  readonly isHost: (host: string) => boolean;
  readonly end: () => void;
};

/** The catalogue, compiled again whenever its version changes. */
function routeTables(fleet: FleetPort, log: Log): RouteTables {
  let table: RouteTable | null = null;
  const refresh = (): void => {
    const catalogue = fleet.catalogue();
    if (catalogue === null || catalogue.version === table?.version) return;
    table = compileRouteTable(catalogue);
    log.info({ version: table.version, count: table.byKey.size }, 'catalogue is in force');
    for (const { productId, reason } of table.disabled) {
      log.error({ productId, reason }, 'a product is disabled: its row is faulty');
    }
  };
  refresh();
  const end = fleet.onChange(refresh);
  return {
    current: () => table,
    isHost: (host) =>
      table !== null && (table.byHost.has(`test/${host}`) || table.byHost.has(`live/${host}`)),
    end,
  };
}
