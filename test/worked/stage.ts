/** A whole commercial side in skipped time: the admin API over HTTP, real workflows, usage as the drain brings it. */
import { once } from 'node:events';
import { createServer } from 'node:http';

import type { TestWorkflowEnvironment } from '@temporalio/testing';

import { createAdminApp } from '../../admin/app.ts';
import { createWorkflowEngine } from '../../admin/workflow-engine.ts';
import type { UsageFact } from '../../billing/usage-fact.ts';
import { ShardUnavailable } from '../../shards/port.ts';
import { type Db, inTransaction } from '../../store/db.ts';
import { findViolations } from '../../store/invariants.ts';
import { insertToken } from '../../store/tokens.ts';
import { postUsage } from '../../store/usage-batch.ts';
import { digestOf } from '../../admin/authenticate.ts';
import { timeSkipping } from '../support/temporal.ts';
import { until } from '../support/until.ts';
import {
  ofEnvironment,
  quietRuntime,
  type Rig,
  sleepUntil,
  startRig,
} from '../workflows/support/rig.ts';

export type Json = Readonly<Record<string, unknown>>;

export type Use = {
  readonly subscriberId: string;
  readonly at: string;
  readonly meter: string;
  readonly quantity: number;
  readonly takes?: UsageFact['takes'];
  readonly overageMicro?: number;
};

export type Stage = {
  readonly db: Db;
  call(method: string, path: string, body?: unknown): Promise<Json>;
  /** What the gateway's shard would have written to its stream, straight into the drain's transaction. */
  use(uses: readonly Use[]): Promise<void>;
  /** Skips to the instant. */
  at(instant: string): Promise<void>;
  /** The subscription's invoices of a kind, once there are so many final ones. */
  invoices(subscriptionId: string, count: number): Promise<readonly Json[]>;
  violations(): Promise<readonly string[]>;
  stop(): Promise<void>;
};

const TOKEN = 'a-token-of-this-test-alone';

export async function startStage(): Promise<Stage> {
  quietRuntime();
  const environment = await timeSkipping();
  const rig = await startRig(ofEnvironment(environment));
  await inTransaction(rig.db, (tx) =>
    insertToken(tx, {
      name: 'worked',
      environment: 'test',
      role: 'admin',
      digest: digestOf(TOKEN),
    }),
  );
  const api = await serve(environment, rig);
  let sequence = 0;
  const call = async (method: string, path: string, body?: unknown): Promise<Json> => {
    const response = await fetch(`${api.url}/api/v1${path}`, {
      method,
      headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (response.status >= 300) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return asJson(JSON.parse(text));
  };
  return {
    db: rig.db,
    call,
    use: async (uses) => {
      const products = await rig.db<{ id: string }>('products').select('id');
      const productId = products[0]?.id ?? '';
      const facts = uses.map((one): UsageFact => {
        sequence += 1;
        return {
          kind: 'usage',
          opId: `${one.at.slice(0, 10).replaceAll('-', '')}-worked-${sequence}`,
          subscriberId: one.subscriberId,
          subscriptionId: '',
          segmentId: '',
          atMs: Date.parse(one.at),
          productId,
          keyId: '',
          status: 200,
          quantities: [{ meter: one.meter, quantity: one.quantity }],
          takes: one.takes ?? [],
          overageMicro: one.overageMicro ?? 0,
          writtenOffMicro: 0,
          flags: [],
        };
      });
      const outcome = await inTransaction(rig.db, (tx) => postUsage(tx, facts));
      if (outcome.refused.length > 0 || outcome.inserted !== facts.length) {
        throw new Error(`usage was refused: ${outcome.refused[0]?.reason ?? 'twice'}`);
      }
    },
    at: (instant) => sleepUntil(environment, Date.parse(instant)),
    invoices: (subscriptionId, count) =>
      until(async () => {
        const list = await call('GET', `/invoices?subscription_id=${subscriptionId}`);
        const final = listOf(list['data']).filter((one) => one['number'] !== null);
        return final.length >= count ? final.toReversed() : null;
      }),
    // I24 compares with the database's clock, which no test can skip.
    violations: async () =>
      (await findViolations(rig.db))
        .filter(({ id, kind }) => kind === 'always' && id !== 'I24')
        .map(({ id, detail }) => `${id}: ${detail}`),
    stop: async () => {
      await api.stop();
      await rig.stop();
      await environment.teardown();
    },
  };
}

async function serve(
  environment: TestWorkflowEnvironment,
  rig: Rig,
): Promise<{ readonly url: string; stop(): Promise<void> }> {
  const engine = createWorkflowEngine({
    connection: { address: environment.address },
    namespace: environment.namespace ?? 'default',
  });
  const quiet = (): void => undefined;
  const app = createAdminApp({
    db: rig.db,
    shards: {
      read: () => Promise.reject(new ShardUnavailable('shard-1', 'not_sent', 'none here')),
    },
    engine,
    log: { info: quiet, warn: quiet, error: quiet },
    waits: { appliedMs: 20, workflowMs: 10_000, closeMs: 10_000, countedMs: 20 },
    home: {
      isOpen: false,
      temporalUiUrl: 'http://127.0.0.1:9/',
      temporalNamespace: 'default',
      gatewayUrls: [],
      adminUrl: 'http://admin.example',
    },
    allowPrivateUpstreams: true,
  });
  const server = createServer(app);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return {
    url: `http://127.0.0.1:${address.port}`,
    stop: async () => {
      server.close();
      server.closeAllConnections();
      await engine.close();
    },
  };
}

function asJson(value: unknown): Json {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return {};
  return Object.fromEntries(Object.entries(value));
}

export function listOf(value: unknown): readonly Json[] {
  return Array.isArray(value) ? value.map((one: unknown) => asJson(one)) : [];
}

/** An invoice as text: what it says, and nothing that differs from run to run. */
export function printed(invoice: Json): string {
  const rows: (readonly [string, string])[] = [];
  for (const line of listOf(invoice['lines'])) {
    rows.push([String(line['description']), String(line['amount'])]);
  }
  rows.push(['Subtotal', String(invoice['subtotal'])]);
  for (const discount of listOf(invoice['discounts'])) {
    rows.push([String(discount['name']), `-${String(discount['amount'])}`]);
  }
  for (const tax of listOf(invoice['taxes'])) {
    rows.push([`${String(tax['label'])} on ${String(tax['base'])}`, String(tax['amount'])]);
  }
  rows.push(['Total', String(invoice['total'])]);
  if (invoice['balance_applied'] !== '0.00') {
    rows.push(['Account balance applied', `-${String(invoice['balance_applied'])}`]);
  }
  rows.push(['Amount due', `${String(invoice['currency'])} ${String(invoice['amount_due'])}`]);
  const width = Math.max(...rows.map(([text]) => text.length)) + 2;
  const right = Math.max(...rows.map(([, amount]) => amount.length));
  const head = String(invoice['period_text']);
  return [
    head,
    ...rows.map(([text, amount]) => `  ${text.padEnd(width)}${amount.padStart(right)}`),
  ].join('\n');
}
