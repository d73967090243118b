/**
 * Carries one upstream answer to one client, byte for byte, in step with the slower of the two, and ends the operation
 * exactly once, whichever side goes first. The last byte waits for the journal; nothing else does, but the short answers
 * whose cost is said in a header.
 */
import type { IncomingHttpHeaders } from 'node:http';
import type { Dispatcher } from 'undici';

import type { Arrival, Hold, Target } from './exchange.ts';
import {
  chargeInHeaderBytesMax,
  chargeKnownMs,
  clientStallMs,
  discardBytesMax,
  drainUpstreamBytesMax,
  drainUpstreamMs,
  requestIdleMs,
  requestLifeMsMax,
} from './limits.ts';
import type { Log } from './log.ts';
import { meterFor } from './measure.ts';
import type { Measured, Meter } from './measure.ts';
import type { Metrics } from './metrics.ts';
import type { Ending, Operation } from './operation.ts';
import { bodyTooLarge } from './check-framing.ts';
import { answerHeaders, creditLines } from './answer-headers.ts';
import { refuse } from './refuse.ts';
import type { Refusal } from './refusal.ts';
import { BodyTooLarge } from './request-body.ts';
import type { SettleResult } from '../shards/port.ts';

/** All that a relay shares with the others of its process. */
export type RelayDeps = {
  readonly log: Log;
  readonly metrics: Metrics;
  readonly relays: Set<Relay>;
  /** Takes one of the bounded places for reading on without a client; false: there is none. */
  claimDrain(): boolean;
  returnDrain(): void;
};

type Phase =
  /** Sent, or waiting for a connection; no answer yet. */
  | 'asked'
  /** The answer passes through. */
  | 'relaying'
  /** The answer is short and waits for the word on its cost. */
  | 'gathering'
  /** The client has gone; the rest is read for its report of usage. */
  | 'draining'
  /** The upstream failed and was answered for; the rest of its answer is thrown away. */
  | 'discarding'
  /** Nothing more is done with the upstream. */
  | 'over';

export class Relay implements Dispatcher.DispatchHandler {
  readonly arrival: Arrival;
  readonly operation: Operation;
  readonly #target: Target;
  readonly #deps: RelayDeps;
  readonly #askedMs = performance.now();
  #phase: Phase = 'asked';
  #controller: Dispatcher.DispatchController | null = null;
  #meter: Meter | null = null;
  #status = 0;
  #headers: IncomingHttpHeaders = {};
  /** Bytes until the declared end; null: the end is marked by the framing. */
  #remaining: number | null = null;
  #tail: Buffer | null = null;
  #gathered: Buffer[] = [];
  #hasTrailer = false;
  #bytes = 0;
  #isClientGone = false;
  #stalledMs = 0;
  readonly #beganMs = performance.now();
  #hasDrainListener = false;
  #drainTimer: NodeJS.Timeout | null = null;
  #seenBytes = 0;
  #seenMs = performance.now();

  constructor(arrival: Arrival, target: Target, operation: Operation, deps: RelayDeps) {
    this.arrival = arrival;
    this.operation = operation;
    this.#target = target;
    this.#deps = deps;
    deps.relays.add(this);
    arrival.response.once('close', this.#onClientClose);
  }

  // What undici calls

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    // The client may have left while a connection was awaited.
    if (this.#phase === 'over') controller.abort(gone);
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: IncomingHttpHeaders,
  ): void {
    if (status < 200 || this.#phase !== 'asked') return;
    this.#deps.metrics.upstreamMs(performance.now() - this.#askedMs);
    if (status >= 500) {
      this.#phase = 'discarding';
      this.#failUpstream({ status, code: `status_${status}` }, headers['retry-after']);
      return;
    }
    this.#status = status;
    this.#headers = headers;
    this.#meter = meterFor(this.#target, status, headers);
    this.#remaining = this.#bodyBytes();
    const { availableMicro } = this.operation.hold;
    const isCostUnknown = availableMicro !== null && !this.#meter.isFixed;
    if (isCostUnknown && this.#remaining !== null && this.#remaining <= chargeInHeaderBytesMax) {
      this.#phase = 'gathering';
      return;
    }
    this.#phase = 'relaying';
    this.#hasTrailer = isCostUnknown && this.#remaining === null;
    // With a declared length the head leaves together with the first bytes; else the client may have to wait for those.
    if (this.#remaining === null) {
      this.#writeHead(this.#heldCharge());
      this.arrival.response.flushHeaders();
    }
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#bytes += chunk.length;
    this.#meter?.push(chunk);
    switch (this.#phase) {
      case 'relaying':
        this.#pass(controller, chunk);
        return;
      case 'gathering':
        this.#gathered.push(chunk);
        return;
      case 'draining':
        if (this.#bytes > drainUpstreamBytesMax) this.#cutDrain();
        return;
      case 'discarding':
        if (this.#bytes > discardBytesMax) this.#stop();
        return;
      case 'asked':
      case 'over':
        return;
    }
  }

  onResponseEnd(): void {
    switch (this.#phase) {
      case 'relaying':
        this.#phase = 'over';
        this.#completeRelay();
        return;
      case 'gathering':
        this.#phase = 'over';
        this.#completeGathered();
        return;
      case 'draining':
        this.#settleMeasured(true);
        this.#endDrain();
        return;
      case 'discarding':
        this.#phase = 'over';
        return;
      case 'asked':
      case 'over':
        return;
    }
  }

  onResponseError(_controller: Dispatcher.DispatchController | null, error: Error): void {
    switch (this.#phase) {
      case 'asked':
        this.#phase = 'over';
        if (error instanceof BodyTooLarge) {
          this.operation.end({ kind: 'release', status: 413 });
          refuse(this.arrival, { ...bodyTooLarge, closes: true });
        } else {
          this.#failUpstream({ status: null, code: codeOf(error) });
        }
        return;
      case 'relaying':
      case 'gathering':
        this.#truncated(error);
        return;
      case 'draining':
        this.#settleMeasured(false);
        this.#endDrain();
        return;
      case 'discarding':
        this.#phase = 'over';
        return;
      case 'over':
        return;
    }
  }

  // What the process calls

  /** Renews the hold, cuts a client that neither sends nor takes, and an answer that never ends. */
  look(nowMs: number): void {
    if (nowMs - this.#beganMs > requestLifeMsMax) {
      this.cut();
      return;
    }
    this.operation.renewIfOld(nowMs);
    const { request, response } = this.arrival;
    if (this.#stalledMs > 0 && nowMs - this.#stalledMs > clientStallMs) {
      response.destroy();
      return;
    }
    if (this.#phase !== 'asked' || request.complete) return;
    // undici takes the socket off a request whose body is sent; the response still knows it.
    const bytes = response.socket?.bytesRead ?? 0;
    if (bytes !== this.#seenBytes) {
      this.#seenBytes = bytes;
      this.#seenMs = nowMs;
    } else if (nowMs - this.#seenMs > requestIdleMs) {
      response.destroy();
    }
  }

  /** The process ends: what is not finished is cut, and charged by the rules for a client that left. */
  cut(): void {
    this.arrival.response.destroy();
    if (this.#phase === 'draining') this.#cutDrain();
  }

  // Private

  readonly #onClientClose = (): void => {
    const { response } = this.arrival;
    this.#deps.relays.delete(this);
    this.#stalledMs = 0;
    if (response.writableFinished || this.#phase === 'over') return;
    this.#isClientGone = true;
    if (this.#phase === 'asked') {
      // Not one byte was answered: nothing is charged.
      this.operation.end({ kind: 'release', status: 499 });
      this.#stop();
      return;
    }
    if (this.#phase === 'discarding') {
      this.#stop();
      return;
    }
    this.#leave();
  };

  /** The client left in the middle of the answer: it is charged, by the upstream's report where that can still be had. */
  #leave(): void {
    this.#gathered = [];
    this.#tail = null;
    if (this.#meter?.readsBody === true && this.#deps.claimDrain()) {
      this.#phase = 'draining';
      this.#bytes = 0;
      // It still counts as open: its hold must be renewed and the end of the process must find it.
      this.#deps.relays.add(this);
      this.#drainTimer = setTimeout(() => {
        this.#cutDrain();
      }, drainUpstreamMs);
      this.#controller?.resume();
      return;
    }
    this.#settleMeasured(false);
    this.#stop();
  }

  #cutDrain(): void {
    this.#settleMeasured(false);
    this.#endDrain();
    this.#controller?.abort(gone);
  }

  #endDrain(): void {
    this.#phase = 'over';
    if (this.#drainTimer === null) return;
    clearTimeout(this.#drainTimer);
    this.#drainTimer = null;
    this.#deps.relays.delete(this);
    this.#deps.returnDrain();
  }

  #stop(): void {
    this.#phase = 'over';
    this.#controller?.abort(gone);
  }

  #pass(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    const { response } = this.arrival;
    if (this.#remaining !== null) {
      this.#remaining -= chunk.length;
      if (this.#remaining <= 0) {
        // The last byte of a declared length ends the answer for the client: it waits for the journal.
        this.#tail = chunk;
        return;
      }
      if (!response.headersSent) this.#writeHead(this.#heldCharge());
    }
    if (response.write(chunk)) return;
    controller.pause();
    this.#stalledMs = performance.now();
    if (this.#hasDrainListener) return;
    this.#hasDrainListener = true;
    response.on('drain', () => {
      this.#stalledMs = 0;
      if (this.#phase === 'relaying') this.#controller?.resume();
    });
  }

  #completeRelay(): void {
    const ending = this.#settleMeasured(true, (error) => {
      if (error !== null) this.arrival.response.destroy();
      else if (!this.#hasTrailer) this.#finish();
      else void this.#finishWithTrailer(ending);
    });
  }

  #completeGathered(): void {
    const ending = this.#settleMeasured(true, (error) => {
      if (error !== null) this.arrival.response.destroy();
      else void this.#finishGathered(ending);
    });
  }

  #finish(): void {
    this.#answer(() => {
      const { response } = this.arrival;
      if (!response.headersSent) this.#writeHead(this.#heldCharge());
      if (this.#tail === null) response.end();
      // As Latin-1 a byte is a letter, and Node joins a text with the head into one write; a Buffer takes two.
      else if (this.#tail.length <= joinedBytesMax) {
        response.end(this.#tail.toString('latin1'), 'latin1');
      } else response.end(this.#tail);
      this.#tail = null;
    });
  }

  /** What the upstream said may be something that Node does not write (a header value): that ends this client, not the process. */
  #answer(work: () => void): void {
    const { response, opId } = this.arrival;
    if (response.destroyed) return;
    try {
      work();
    } catch (error) {
      this.#deps.log.error({ opId, error }, 'an answer could not be written');
      response.destroy();
    }
  }

  async #finishWithTrailer(ending: Ending | null): Promise<void> {
    const charged = chargedOf(await within(ending));
    const { response } = this.arrival;
    if (charged !== null && !response.destroyed) {
      response.addTrailers(Object.fromEntries(pairs(creditLines({ chargedMicro: charged }))));
    }
    this.#finish();
  }

  async #finishGathered(ending: Ending | null): Promise<void> {
    const result = await within(ending);
    this.#answer(() => {
      this.#writeHead({ chargedMicro: chargedOf(result), availableMicro: availableOf(result) });
      this.arrival.response.end(Buffer.concat(this.#gathered));
    });
    this.#gathered = [];
  }

  /** What is known of the cost before the shard has answered: everything, when nothing is reported. */
  #heldCharge(): { chargedMicro: number | null; availableMicro: number | null } {
    const { hold } = this.operation;
    return {
      chargedMicro: this.#meter?.isFixed === true ? hold.heldMicro : null,
      availableMicro: hold.availableMicro,
    };
  }

  #writeHead(charge: { chargedMicro: number | null; availableMicro: number | null }): void {
    const { response, requestId } = this.arrival;
    const { hold } = this.operation;
    response.writeHead(
      this.#status,
      answerHeaders({
        headers: this.#headers,
        hold,
        requestId,
        charge,
        isLengthKept: this.#remaining !== null || this.arrival.request.method === 'HEAD',
        hasTrailer: this.#hasTrailer,
      }),
    );
  }

  /** Null: of no declared length. 0: no body, whatever is declared. */
  #bodyBytes(): number | null {
    if (this.arrival.request.method === 'HEAD' || this.#status === 204 || this.#status === 304) {
      return 0;
    }
    const length = this.#headers['content-length'];
    // Two lengths arrive as a list: nothing is believed of them, and the answer goes out chunked.
    if (typeof length !== 'string' || !/^\d{1,15}$/.test(length)) return null;
    return this.#headers['transfer-encoding'] === undefined ? Number(length) : null;
  }

  #settleMeasured(isComplete: boolean, onWritten?: (error: Error | null) => void): Ending | null {
    const measured = this.#meter?.result(isComplete) ?? estimateOf(this.operation.hold);
    const outcome = { kind: 'settle', status: this.#status, ...measured } as const;
    const ending = this.operation.end(outcome, onWritten);
    if (ending === null) return null;
    for (const { meter, reason } of measured.faults) {
      this.#deps.metrics.reportRefused(isComplete ? reason : 'incomplete');
      const { opId, productId } = this.operation.hold;
      this.#deps.log.warn(
        { opId, productId, meter, reason: isComplete ? reason : 'incomplete' },
        'no usable report of usage: the estimate is charged',
      );
    }
    return ending;
  }

  /** The upstream broke off. What streams was used as it came and is charged; half a document is worth nothing. */
  #truncated(error: Error): void {
    this.#phase = 'over';
    this.#deps.metrics.upstreamFailed('truncated');
    this.#deps.log.warn({ ...this.#names(), error }, 'the upstream broke off');
    const isStream = String(this.#headers['content-type']).startsWith('text/event-stream');
    const { response } = this.arrival;
    if (isStream) {
      this.#settleMeasured(false);
    } else {
      this.operation.end({ kind: 'release', status: 502 });
    }
    this.#gathered = [];
    if (response.headersSent) response.destroy();
    else refuse(this.arrival, { kind: 'refused', code: 'origin_unavailable' });
  }

  #failUpstream(
    failure: { readonly status: number | null; readonly code: string },
    retryAfter?: string,
  ): void {
    const isTimeout = failure.status === 504 || timeouts.has(failure.code);
    this.#deps.metrics.upstreamFailed(failure.code);
    this.#deps.log.warn({ ...this.#names(), code: failure.code }, 'the upstream failed');
    const status = isTimeout ? 504 : 502;
    this.operation.end({ kind: 'release', status });
    if (this.#isClientGone) return;
    if (failure.code === 'UND_ERR_INVALID_ARG') {
      refuse(this.arrival, { kind: 'refused', code: 'invalid_request', closes: true });
      return;
    }
    const seconds = /^\d{1,5}$/.test(retryAfter ?? '') ? Number(retryAfter) : undefined;
    const refusal: Refusal = {
      kind: 'refused',
      code: 'origin_unavailable',
      status,
      ...(isTimeout ? { detail: 'The upstream did not answer in time.' } : {}),
      ...(failure.status === null
        ? {}
        : {
            originStatus: failure.status,
            detail: 'The upstream answered with an error. Nothing was charged.',
          }),
      ...(seconds === undefined ? {} : { retryAfterSeconds: seconds }),
    };
    refuse(this.arrival, refusal);
  }

  #names(): { opId: string; productId: string; routeId: string } {
    return {
      opId: this.arrival.opId,
      productId: this.#target.product.id,
      routeId: this.#target.routeId,
    };
  }
}

/** Up to here copying is cheaper than a second piece to write. */
const joinedBytesMax = 8_192;

const gone = new Error('nobody waits for this answer');
const timeouts: ReadonlySet<string> = new Set([
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_BODY_TIMEOUT',
  'UND_ERR_CONNECT_TIMEOUT',
]);

function codeOf(error: Error): string {
  return 'code' in error && typeof error.code === 'string' ? error.code : error.name;
}

function estimateOf(hold: Hold): Measured {
  return { actuals: hold.estimates, isEstimated: true, faults: [] };
}

function chargedOf(result: SettleResult | null): number | null {
  return result !== null && 'chargedMicro' in result ? result.chargedMicro : null;
}

function availableOf(result: SettleResult | null): number | null {
  return result !== null && 'availableMicro' in result ? result.availableMicro : null;
}

function* pairs(lines: readonly string[]): Generator<[string, string]> {
  for (let index = 0; index < lines.length; index += 2) {
    yield [lines[index] ?? '', lines[index + 1] ?? ''];
  }
}

/** The shard's answer if it comes soon; the answer to the client does not depend on it. */
async function within(ending: Ending | null): Promise<SettleResult | null> {
  if (ending === null) return null;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<null>((resolve) => {
    timer = setTimeout(resolve, chargeKnownMs, null);
  });
  try {
    return await Promise.race([ending.settled, late]);
  } finally {
    clearTimeout(timer);
  }
}
