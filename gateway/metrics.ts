import { Counter, Gauge, Registry, collectDefaultMetrics } from 'prom-client';

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
  const authorize = timing('authorize', 'From the arrival of a request to its decision.');
  const upstream = timing('upstream', 'From the forwarding to the head of the answer.');
  const repeats = tallied('settle_repeats', 'Settles that were not answered at once.', 'kind');
  return {
    decided: tallied('decisions', 'Requests by decision.', 'code'),
    ended: tallied('requests_ended', 'Admitted requests by end.', 'how'),
    authorizeMs: authorize.observe,
    upstreamMs: upstream.observe,
    upstreamFailed: tallied('upstream_failures', 'Upstream failures.', 'reason'),
    reportRefused: tallied('usage_reports_refused', 'Reports of usage not believed.', 'reason'),
    settleRepeated: () => {
      repeats('unreachable');
    },
    settleRefused: () => {
      repeats('refused');
    },
    render: async () => ({
      contentType: registry.contentType,
      text: `${await registry.metrics()}\n${authorize.render()}${upstream.render()}`,
    }),
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

/** A histogram that counts into an array and is written out at a scrape: the library's costs a microsecond a value. */
function timing(
  name: string,
  help: string,
): { readonly observe: (durationMs: number) => void; readonly render: () => string } {
  const full = `tollbook_gateway_${name}_seconds`;
  const counts = secondsBuckets.map(() => 0);
  let sum = 0;
  let total = 0;
  return {
    observe: (durationMs) => {
      const seconds = durationMs / 1000;
      sum += seconds;
      total += 1;
      const index = secondsBuckets.findIndex((bound) => seconds <= bound);
      if (index !== -1) counts[index] = (counts[index] ?? 0) + 1;
    },
    render: () => {
      let below = 0;
      const lines = secondsBuckets.map((bound, index) => {
        below += counts[index] ?? 0;
        return `${full}_bucket{le="${bound}"} ${below}\n`;
      });
      return (
        `# HELP ${full} ${help}\n# TYPE ${full} histogram\n${lines.join('')}` +
        `${full}_bucket{le="+Inf"} ${total}\n${full}_sum ${sum}\n${full}_count ${total}\n`
      );
    },
  };
}
