import { setTimeout as sleep } from 'node:timers/promises';

import { wordsOf } from './problem.ts';
import type { ServerProcess } from './server-process.ts';

/** Something that runs and is kept running. */
export type Part = {
  /** Unique in the stack: `gateway-1`. */
  readonly name: string;
  /** Starts it and waits until it is ready. */
  readonly start: () => Promise<ServerProcess>;
};

export type Supervised = {
  readonly name: string;
  /** Its process now, or null while it is being started again. */
  readonly pid: () => number | null;
  /** Orderly stop; it is not started again. */
  readonly stop: () => Promise<void>;
};

export type SupervisorReport = {
  readonly say: (line: string) => void;
  /** A process came or went: write the state file again. */
  readonly onChange: () => void;
};

const BACKOFF_MS_MIN = 250;
const BACKOFF_MS_MAX = 10_000;
/** A part that has run this long is healthy again: its next restart waits the least. */
const HEALTHY_AFTER_MS = 30_000;

/**
 * Starts the part and, whenever its process ends by itself, starts it again, waiting twice as long
 * each time. Throws when the first start fails; later failures are told and tried again.
 */
export async function supervise(part: Part, report: SupervisorReport): Promise<Supervised> {
  const stopping = new AbortController();
  let server: ServerProcess | null = await part.start();
  report.onChange();

  async function keepRunning(): Promise<void> {
    let backoffMs = BACKOFF_MS_MIN;
    let startedAt = Date.now();
    for (;;) {
      if (server !== null) {
        const { pid } = server;
        const ending = await server.ended;
        server = null;
        if (stopping.signal.aborted) return;
        report.onChange();
        if (Date.now() - startedAt > HEALTHY_AFTER_MS) backoffMs = BACKOFF_MS_MIN;
        report.say(
          `✗ ${part.name} (pid ${pid}) ended: ${ending}. Starting it again in ${backoffMs / 1000} s`,
        );
      }
      await sleep(backoffMs, undefined, { signal: stopping.signal }).catch(() => undefined);
      if (stopping.signal.aborted) return;
      backoffMs = Math.min(backoffMs * 2, BACKOFF_MS_MAX);
      startedAt = Date.now();
      try {
        server = await part.start();
        report.say(`✓ ${part.name} runs again (pid ${server.pid})`);
        report.onChange();
      } catch (error) {
        report.say(
          `✗ ${part.name} could not be started; next try in ${backoffMs / 1000} s: ${wordsOf(error)}`,
        );
      }
      // A stop that came while it was starting found nothing to stop.
      if (stopping.signal.aborted) await server?.stop();
    }
  }

  const watching = keepRunning();
  return {
    name: part.name,
    pid: () => server?.pid ?? null,
    stop: async () => {
      stopping.abort();
      await server?.stop();
      await watching;
      report.onChange();
    },
  };
}
