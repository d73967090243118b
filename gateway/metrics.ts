import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';

const secondsBuckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30];

/** What the gateway counts. Labels are codes and names of shards: never a subscriber, a path or a key. */
export type Metrics = {
  /** One for each request: `allowed` or the code of the refusal. */
  decided(code: string): void;
  /** How an admitted request ended: `settled`, `estimated`, `released`. */
  ended(how: string): void;
  authorizeMs(durationMs: number): void;
  upstreamMs(durationMs: number): void;
  upstreamFailed(reason: string): void;
  reportRefused(reason: string): void;
  settleRepeated(): void;
  settleRefused(): void;
  render(): Promise<{ readonly contentType: string; readonly text: string }>;
};

/** Gauges are asked for at each scrape. */
export function createMetrics(gauges: Gauges): Metrics {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  registerGauges(gauges, registers);
  const tallied = (name: string, help: string, label: string): ((value: string) => void) =>
    tally({ name: `tollbook_gateway_${name}_total`, help, label, registers });
  const timed = (name: string, help: string): ((durationMs: number) => void) => {
    const histogram = new Histogram({
      name: `tollbook_gateway_${name}_seconds`,
      help,
      buckets: secondsBuckets,
      registers,
    });
    return (durationMs) => {
      histogram.observe(durationMs / 1000);
    };
  };
  const repeats = tallied('settle_repeats', 'Settles that were not answered at once.', 'kind');
  return {
    decided: tallied('decisions', 'Requests by decision.', 'code'),
    ended: tallied('requests_ended', 'Admitted requests by end.', 'how'),
    authorizeMs: timed('authorize', 'From the arrival of a request to its decision.'),
    upstreamMs: timed('upstream', 'From the forwarding to the head of the answer.'),
    upstreamFailed: tallied('upstream_failures', 'Upstream failures.', 'reason'),
    reportRefused: tallied('usage_reports_refused', 'Reports of usage not believed.', 'reason'),
    settleRepeated: () => {
      repeats('unreachable');
    },
    settleRefused: () => {
      repeats('refused');
    },
    render: async () => ({ contentType: registry.contentType, text: await registry.metrics() }),
  };
}

export type Gauges = {
  readonly openHolds: () => number;
  readonly keptSettles: () => number;
  readonly journalFiles: () => number;
  readonly journalUnsettled: () => number;
};

function registerGauges(gauges: Gauges, registers: Registry[]): void {
  for (const [name, help, read] of [
    ['open_holds', 'Admitted requests that have not ended.', gauges.openHolds],
    ['kept_settles', 'Settles that wait to be sent again.', gauges.keptSettles],
    ['journal_files', 'Journal files that are not yet committed.', gauges.journalFiles],
    ['journal_unsettled', 'Journal records without an answer.', gauges.journalUnsettled],
  ] as const) {
    const gauge: Gauge = new Gauge({
      name: `tollbook_gateway_${name}`,
      help,
      registers,
      collect: () => {
        gauge.set(read());
      },
    });
  }
}

/** A counter with one label, kept in a plain map and handed over at a scrape: hashing labels costs a microsecond each. */
function tally(names: {
  readonly name: string;
  readonly help: string;
  readonly label: string;
  readonly registers: Registry[];
}): (value: string) => void {
  const { name, help, label, registers } = names;
  const counts = new Map<string, number>();
  const counter: Counter = new Counter({
    name,
    help,
    labelNames: [label],
    registers,
    collect: () => {
      counter.reset();
      for (const [value, count] of counts) counter.inc({ [label]: value }, count);
    },
  });
  return (value) => {
    counts.set(value, (counts.get(value) ?? 0) + 1);
  };
}
