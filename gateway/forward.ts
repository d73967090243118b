import type { Dispatcher } from 'undici';

import type { Arrival, Target } from './exchange.ts';
import { readsBody } from './measure.ts';
import type { Operation } from './operation.ts';
import { Relay } from './relay.ts';
import type { RelayDeps } from './relay.ts';
import { requestBody } from './request-body.ts';
import { upstreamHeaders } from './request-headers.ts';
import type { Upstreams } from './upstreams.ts';

export type ForwardDeps = RelayDeps & { readonly upstreams: Upstreams };

/** Sends the request to its upstream, once. From here on the relay answers for the client and for the hold. */
export function forward(
  arrival: Arrival,
  target: Target,
  operation: Operation,
  deps: ForwardDeps,
): void {
  const { request, response } = arrival;
  const relay = new Relay(arrival, target, operation, deps);
  const body = requestBody(request);
  if (body !== null && request.headers.expect !== undefined) response.writeContinue();
  deps.upstreams.poolOf(target.origin).dispatch(
    {
      path: target.path,
      method: methodOf(request.method),
      headers: upstreamHeaders(arrival, operation.hold, { isIdentityAsked: readsBody(target) }),
      body,
    },
    relay,
  );
}

function methodOf(method: string | undefined): Dispatcher.HttpMethod {
  return method ?? 'GET';
}
