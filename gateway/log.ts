import { pino } from 'pino';
import type { DestinationStream, Logger } from 'pino';

/**
 * The only fields that reach a log of this room. They are ids, codes, counts and times of ours: no header, no path, no
 * query, no body, no key. A new field is added here and thought about here.
 */
export type LogFields = {
  readonly code?: string;
  readonly opId?: string;
  readonly subscriberId?: string;
  readonly productId?: string;
  readonly routeId?: string;
  readonly shard?: string;
  readonly status?: number;
  readonly durationMs?: number;
  readonly meter?: string;
  readonly reason?: string;
  readonly count?: number;
  readonly file?: string;
  readonly port?: number;
  readonly version?: number;
  readonly error?: unknown;
};

export type Log = {
  debug(fields: LogFields, message: string): void;
  info(fields: LogFields, message: string): void;
  warn(fields: LogFields, message: string): void;
  error(fields: LogFields, message: string): void;
};

/** One JSON line an entry on stdout, or on `destination`. */
export function createLog(
  options: { readonly level: string; readonly name: string },
  destination?: DestinationStream,
): Log {
  const settings = { level: options.level, base: { process: 'gateway', name: options.name } };
  const logger: Logger = destination === undefined ? pino(settings) : pino(settings, destination);
  return {
    debug: (fields, message) => {
      if (logger.isLevelEnabled('debug')) logger.debug(allowed(fields), message);
    },
    info: (fields, message) => {
      logger.info(allowed(fields), message);
    },
    warn: (fields, message) => {
      logger.warn(allowed(fields), message);
    },
    error: (fields, message) => {
      logger.error(allowed(fields), message);
    },
  };
}

/** Of an error only its kind and code: messages of drivers and parsers may quote what was sent. */
function allowed(fields: LogFields): Record<string, unknown> {
  const { error, ...rest } = fields;
  if (error === undefined) return rest;
  if (!(error instanceof Error)) return { ...rest, error: typeof error };
  const code = 'code' in error && typeof error.code === 'string' ? error.code : undefined;
  const cause = error.cause instanceof Error ? error.cause.name : undefined;
  return { ...rest, error: { name: error.name, code, cause, at: firstFrame(error) } };
}

/** The first line of the stack that names code of ours. */
function firstFrame(error: Error): string | undefined {
  return error.stack
    ?.split('\n')
    .find((line) => line.includes('/gateway/') || line.includes('/shards/'))
    ?.trim()
    .replace(/.*\/(gateway|shards)\//, '$1/');
}
