import express from 'express';
import type { Express, NextFunction, Request, Response } from 'express';

import { admit } from './admit.ts';
import { authenticate } from './authenticate.ts';
import { checkFraming } from './check-framing.ts';
import type { Arrival } from './exchange.ts';
import type { FailedGuesses } from './failed-guesses.ts';
import type { FleetPort } from './fleet-port.ts';
import { forward } from './forward.ts';
import type { ForwardDeps } from './forward.ts';
import type { Journal } from './journal.ts';
import { Operation, releaseUndecided } from './operation.ts';
import type { Probes } from './probes.ts';
import { refuse } from './refuse.ts';
import type { Refusal } from './refusal.ts';
import { route } from './route.ts';
import type { RouteTable } from './route-table.ts';
import type { Settler } from './settler.ts';

export type GatewayDeps = ForwardDeps & {
  readonly fleet: Pick<FleetPort, 'shards'>;
  readonly guesses: FailedGuesses;
  readonly decisionMs: number;
  readonly journal: Journal;
  readonly settler: Settler;
  readonly probes: Probes;
  readonly routeTable: () => RouteTable | null;
  readonly nextOpId: () => string;
  /** The process ends: connections are not kept for another request. */
  readonly isClosing: () => boolean;
};

/** The gateway as an Express app: what happens to a request, in order. */
export function gatewayApp(deps: GatewayDeps): Express {
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  // One layer: the router's way from one to the next costs more than the probes themselves.
  app.use((request: Request, response: Response) =>
    deps.probes.answer(request, response, () => serve(request, response, deps)),
  );
  app.use((error: unknown, request: Request, response: Response, _next: NextFunction) => {
    deps.log.error({ error }, 'a request failed by a fault of ours');
    refuse(arrive(request, response, deps), { kind: 'refused', code: 'internal_error' });
  });
  return app;
}

async function serve(request: Request, response: Response, deps: GatewayDeps): Promise<void> {
  const arrival = arrive(request, response, deps);
  const table = deps.routeTable();
  if (table === null || !deps.journal.isHealthy()) return deny(arrival, unavailable, deps);

  const malformed = checkFraming(request);
  if (malformed !== null) return deny(arrival, malformed, deps);

  const authenticated = authenticate(request, arrival.address, deps.guesses);
  if (authenticated.kind === 'refused') return deny(arrival, authenticated, deps);
  const { caller } = authenticated;

  const routed = route(request, caller, table);
  if (routed.kind === 'refused') return deny(arrival, routed, deps);
  const { target } = routed;

  const admission = await admit(arrival, caller, target, deps);
  deps.metrics.authorizeMs(performance.now() - arrival.startedMs);
  if (admission.kind === 'refused') return deny(arrival, admission, deps);
  if (admission.kind === 'undecided') {
    const { shard, cause } = admission;
    const ids = { subscriberId: caller.subscriberId, productId: target.product.id };
    deps.log.warn({ opId: arrival.opId, shard, error: cause }, 'no decision could be had');
    if (!admission.isOutcomeKnown) releaseUndecided({ ...ids, opId: arrival.opId }, deps);
    return deny(arrival, unavailable, deps);
  }

  // After this line a hold exists, and the operation ends it, come what may.
  deps.metrics.decided('allowed');
  const operation = new Operation(admission.hold, deps);
  // The client may have left while the shard was asked: nothing is sent, or the answer would wait for a dead socket.
  if (response.destroyed) {
    operation.end({ kind: 'release', status: 499 });
    return;
  }
  try {
    forward(arrival, target, operation, deps);
  } catch (error) {
    // A fault of ours, but not the subscriber's: the hold goes back before anything else is done about it.
    operation.end({ kind: 'release', status: 500 });
    throw error;
  }
}

function deny(arrival: Arrival, refusal: Refusal, deps: GatewayDeps): void {
  deps.metrics.decided(refusal.code);
  deps.log.debug({ opId: arrival.opId, code: refusal.code }, 'refused');
  refuse(arrival, refusal);
}

const unavailable: Refusal = { kind: 'refused', code: 'enforcement_unavailable' };

function arrive(request: Request, response: Response, deps: GatewayDeps): Arrival {
  const opId = deps.nextOpId();
  if (deps.isClosing()) response.shouldKeepAlive = false;
  const given = request.headers['x-request-id'];
  const isGivenKept = typeof given === 'string' && /^[A-Za-z0-9._:=+/-]{1,128}$/.test(given);
  return {
    request,
    response,
    opId,
    requestId: isGivenKept ? given : opId,
    address: request.socket.remoteAddress ?? '',
    startedMs: performance.now(),
  };
}
