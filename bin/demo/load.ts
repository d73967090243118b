import { setTimeout as sleep } from 'node:timers/promises';

import { Pool } from 'undici';

const REPEAT_AFTER_MS = 250;
/** Where a line is not redrawn, a handful of requests needs no progress. */
const SHOWN_FROM = 1000;

/** What a burst of requests came to. `codes` counts the problem codes of refusals. */
export type LoadResult = {
  readonly sent: number;
  readonly served: number;
  readonly refused: number;
  readonly failed: number;
  readonly codes: ReadonlyMap<string, number>;
  readonly decisionIds: readonly string[];
};

export type LoadOptions = {
  readonly gatewayUrls: readonly string[];
  readonly path: string;
  readonly key: string;
  readonly count: number;
  readonly concurrency?: number;
  readonly method?: 'GET' | 'POST';
  readonly body?: string;
  /** Send a request again that was refused because nobody could decide it (503), as a client's library would. */
  readonly repeatsUnavailable?: boolean;
  /** Keep the decision id of every 2xx that was received in full (for the crash checks). */
  readonly keepDecisionIds?: boolean;
  readonly onProgress?: (done: number) => void;
  readonly signal?: AbortSignal;
};

type Tally = {
  sent: number;
  served: number;
  refused: number;
  failed: number;
  codes: Map<string, number>;
  decisionIds: string[];
};

/**
 * Sends `count` requests through the gateways, `concurrency` at once, turn by turn over the gateways, and reads each
 * answer to its end. A request that fails on the way is counted as failed and is not sent again. A 503 is a
 * refusal like any other unless `repeatsUnavailable` says that it is to be sent again.
 */
export async function sendRequests(options: LoadOptions): Promise<LoadResult> {
  const concurrency = options.concurrency ?? 64;
  const pools = options.gatewayUrls.map(
    (url) => new Pool(url, { connections: Math.ceil(concurrency / options.gatewayUrls.length) }),
  );
  const tally: Tally = {
    sent: 0,
    served: 0,
    refused: 0,
    failed: 0,
    codes: new Map(),
    decisionIds: [],
  };
  const worker = async (index: number): Promise<void> => {
    const pool = pools[index % pools.length];
    if (pool === undefined) throw new Error('no gateway was given');
    while (tally.sent < options.count && options.signal?.aborted !== true) {
      tally.sent += 1;
      await sendOne(pool, options, tally);
      options.onProgress?.(tally.served + tally.refused + tally.failed);
    }
  };
  try {
    await Promise.all(
      Array.from({ length: Math.min(concurrency, options.count) }, (_, index) => worker(index)),
    );
  } finally {
    await Promise.all(pools.map(async (pool) => pool.destroy()));
  }
  return tally;
}

async function sendOne(pool: Pool, options: LoadOptions, tally: Tally): Promise<void> {
  try {
    const answer = await pool.request({
      method: options.method ?? 'GET',
      path: options.path,
      headers: {
        authorization: `Bearer ${options.key}`,
        ...(options.body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      body: options.body ?? null,
    });
    const text = await answer.body.text();
    if (answer.statusCode < 400) {
      tally.served += 1;
      const decision = answer.headers['x-decision-id'];
      if (options.keepDecisionIds === true && typeof decision === 'string')
        tally.decisionIds.push(decision);
      return;
    }
    const code = problemCode(text) ?? String(answer.statusCode);
    if (options.repeatsUnavailable === true && code === 'enforcement_unavailable') {
      await sleep(REPEAT_AFTER_MS);
      return await sendOne(pool, options, tally);
    }
    tally.refused += 1;
    tally.codes.set(code, (tally.codes.get(code) ?? 0) + 1);
  } catch {
    tally.failed += 1;
  }
}

function problemCode(text: string): string | undefined {
  try {
    const body: unknown = JSON.parse(text);
    if (
      typeof body === 'object' &&
      body !== null &&
      'code' in body &&
      typeof body.code === 'string'
    )
      return body.code;
  } catch {
    // An answer that is no problem document is counted by its status.
  }
  return undefined;
}

/** A progress bar on stderr: one line that is redrawn on a terminal, one line each ten percent elsewhere. */
export function progressBar(label: string, total: number): (done: number) => void {
  const startedAt = performance.now();
  let drawnAt = 0;
  let tenths = 0;
  return (done) => {
    const now = performance.now();
    const rate = Math.round((done / Math.max(now - startedAt, 1)) * 1000);
    const text = `${label} ${done.toLocaleString('en-US')} / ${total.toLocaleString('en-US')}  ${rate.toLocaleString('en-US')} a second`;
    if (process.stderr.isTTY) {
      if (now - drawnAt < 100 && done < total) return;
      drawnAt = now;
      const filled = Math.round((done / total) * 30);
      process.stderr.write(
        `\r[${'█'.repeat(filled)}${'·'.repeat(30 - filled)}] ${text}   ${done >= total ? '\n' : ''}`,
      );
    } else if (total >= SHOWN_FROM && Math.floor((done / total) * 10) > tenths) {
      tenths = Math.floor((done / total) * 10);
      process.stderr.write(`${text}\n`);
    }
  };
}
