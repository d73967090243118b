/**
 * What a request really used: the route's estimate, or the upstream's own report where the product believes it. A report
 * that is missing, twice, no integer, negative or above the route's maximum is not believed: the estimate is charged, the
 * event carries `estimated`, and the fault is told to log and metrics.
 */
import type { IncomingHttpHeaders } from 'node:http';

import type { CatalogueProduct, MeterRule } from '../billing/catalogue.ts';
import type { MeterQuantity } from '../shards/port.ts';
import { EventStream } from './event-stream.ts';
import { pointerTokens, readPointer } from './json-pointer.ts';
import { reportJsonBytesMax } from './limits.ts';

export type Measured = {
  readonly actuals: readonly MeterQuantity[];
  readonly isEstimated: boolean;
  readonly faults: readonly ReportFault[];
};
export type ReportFault = {
  readonly meter: string;
  readonly reason: 'missing' | 'repeated' | 'not_an_integer' | 'out_of_range' | 'unreadable';
};

export type Meter = {
  /** Whether the body is looked at: the upstream is then asked for identity encoding. */
  readonly readsBody: boolean;
  /** Whether the quantities are those of the estimate whatever the answer says. */
  readonly isFixed: boolean;
  push(chunk: Buffer): void;
  /** @param isComplete false: the body ended early, so what it would have reported last is unknown. */
  result(isComplete: boolean): Measured;
};

type Rules = {
  readonly product: Pick<CatalogueProduct, 'reports_usage'>;
  readonly meters: readonly MeterRule[];
  readonly estimates: readonly MeterQuantity[];
};

/** Whether the body of the answer will have to be read, known before the request is sent. */
export function readsBody(rules: Rules): boolean {
  if (!rules.product.reports_usage) return false;
  return rules.meters.some(({ source }) => source.kind === 'json' || source.kind === 'sse');
}

/** The meter for one answer, once its status and headers are known. */
export function meterFor(rules: Rules, status: number, headers: IncomingHttpHeaders): Meter {
  if (!rules.product.reports_usage || rules.meters.every(({ source }) => source.kind === 'fixed')) {
    return fixedMeter(rules.estimates);
  }
  return new ReportMeter(rules.meters, status, headers);
}

function fixedMeter(estimates: readonly MeterQuantity[]): Meter {
  const measured: Measured = { actuals: estimates, isEstimated: false, faults: [] };
  return { readsBody: false, isFixed: true, push: () => {}, result: () => measured };
}

type Found = number | ReportFault['reason'];

class ReportMeter implements Meter {
  readonly readsBody: boolean;
  readonly isFixed = false;
  readonly #rules: readonly MeterRule[];
  readonly #isClientError: boolean;
  readonly #headers: IncomingHttpHeaders;
  readonly #json: JsonBody | null;
  readonly #events: EventReports | null;

  constructor(rules: readonly MeterRule[], status: number, headers: IncomingHttpHeaders) {
    this.#rules = rules;
    this.#isClientError = status >= 400;
    this.#headers = headers;
    const isPlain = ['identity', undefined].includes(headers['content-encoding']);
    this.#json =
      isPlain && rules.some(({ source }) => source.kind === 'json') ? new JsonBody() : null;
    this.#events = isPlain ? eventReports(rules) : null;
    this.readsBody = this.#json !== null || this.#events !== null;
  }

  push(chunk: Buffer): void {
    this.#json?.push(chunk);
    this.#events?.push(chunk);
  }

  result(isComplete: boolean): Measured {
    const document = isComplete ? this.#json?.parse() : undefined;
    if (isComplete) this.#events?.end();
    const faults: ReportFault[] = [];
    const actuals = this.#rules.map((rule) => {
      const found = this.#find(rule, document, isComplete);
      if (typeof found === 'number') return { meter: rule.meter, quantity: found };
      // A client error seldom reports; what was refused did no measured work.
      if (found === 'missing' && this.#isClientError) return { meter: rule.meter, quantity: 0 };
      faults.push({ meter: rule.meter, reason: found });
      return { meter: rule.meter, quantity: rule.estimate };
    });
    return { actuals, isEstimated: faults.length > 0, faults };
  }

  #find(rule: MeterRule, document: unknown, isComplete: boolean): Found {
    const { source } = rule;
    const max = rule.max_actual ?? rule.estimate;
    if (source.kind === 'fixed') return rule.estimate;
    if (source.kind === 'header') return fromHeader(this.#headers[source.name.toLowerCase()], max);
    if (!isComplete) return 'unreadable';
    if (source.kind === 'sse') {
      return this.#events === null
        ? 'unreadable'
        : fromJson(this.#events.found(source.pointer), max);
    }
    if (this.#json === null || document === unreadable) return 'unreadable';
    return fromJson(readPointer(document, pointerTokens(source.pointer)), max);
  }
}

function fromHeader(value: string | string[] | undefined, max: number): Found {
  if (value === undefined) return 'missing';
  if (typeof value !== 'string' || value.includes(',')) return 'repeated';
  if (!/^\d{1,15}$/.test(value.trim())) return 'not_an_integer';
  return inRange(Number(value), max);
}

function fromJson(value: unknown, max: number): Found {
  if (value === undefined || value === null) return 'missing';
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) return 'not_an_integer';
  return inRange(value, max);
}

function inRange(value: number, max: number): Found {
  return value >= 0 && value <= max ? value + 0 : 'out_of_range';
}

const unreadable = Symbol('unreadable');

/** A body kept while it streams through, up to a bound. */
class JsonBody {
  #chunks: Buffer[] = [];
  #bytes = 0;

  push(chunk: Buffer): void {
    this.#bytes += chunk.length;
    if (this.#bytes > reportJsonBytesMax) this.#chunks = [];
    else this.#chunks.push(Buffer.from(chunk));
  }

  parse(): unknown {
    if (this.#bytes > reportJsonBytesMax) return unreadable;
    try {
      return JSON.parse(Buffer.concat(this.#chunks).toString('utf8'));
    } catch {
      return unreadable;
    }
  }
}

/** For each pointer, what the last event that is JSON and has it said. */
class EventReports {
  readonly #found = new Map<string, unknown>();
  readonly #pointers: readonly { pointer: string; tokens: readonly string[]; needle: string }[];
  readonly #stream = new EventStream((data) => {
    this.#read(data);
  });

  constructor(pointers: readonly string[]) {
    this.#pointers = pointers.map((pointer) => {
      const tokens = pointerTokens(pointer);
      return { pointer, tokens, needle: JSON.stringify(tokens.at(-1) ?? '').slice(1, -1) };
    });
  }

  push(chunk: Buffer): void {
    this.#stream.push(chunk);
  }

  end(): void {
    this.#stream.end();
  }

  found(pointer: string): unknown {
    return this.#found.get(pointer);
  }

  #read(data: string): void {
    // Most events carry text, not usage: a search is ten times cheaper than a parse.
    if (!this.#pointers.some(({ needle }) => data.includes(needle))) return;
    let document: unknown;
    try {
      document = JSON.parse(data);
    } catch {
      return;
    }
    for (const { pointer, tokens } of this.#pointers) {
      const value = readPointer(document, tokens);
      if (value !== undefined && value !== null) this.#found.set(pointer, value);
    }
  }
}

function eventReports(rules: readonly MeterRule[]): EventReports | null {
  const pointers = rules.flatMap(({ source }) => (source.kind === 'sse' ? [source.pointer] : []));
  return pointers.length === 0 ? null : new EventReports(pointers);
}
