/**
 * A close reads rollups only: the close of a period with ten million events beside that of one with ten thousand, at
 * equal rollup rows. `npm run bench -- close [--json] [--events 10000000] [--rounds 40]`. The two take turns in one run;
 * each is the real transaction, rolled back. Needs about 5 GB of disk for the ten million.
 */
import { parseArgs } from 'node:util';

import { assembleInvoice } from '../billing/invoice.ts';
import { type Db, inTransaction, type Tx } from '../store/db.ts';
import { readInvoiceInput } from '../store/invoice-input.ts';
import { invoicePeriod } from '../store/period-invoice.ts';
import { beginClosing, openPeriods, type Period, readPeriod } from '../store/periods.ts';
import { selectRow } from '../store/query.ts';
import { changeSubscription, lockSubscription, readSubscription } from '../store/subscriptions.ts';
import { startDatabase } from './database.ts';
import { median, quantile } from './figures.ts';
import { seedWorld, subscribe, type World } from './world.ts';

const RATIO_MAX = 1.2;
const FEW_EVENTS = 10_000;
const DAYS = 30;
const METERS = 3;
const HOURS = DAYS * 24;
const LOADERS = 2;
const DAY_MS = 86_400_000;

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    events: { type: 'string', default: '10000000' },
    rounds: { type: 'string', default: '40' },
  },
});
const events = Number(values.events);
const rounds = Number(values.rounds);

type Subject = {
  readonly name: 'few' | 'many';
  readonly events: number;
  readonly subscriberId: string;
  readonly subscriptionId: string;
  readonly segmentId: bigint;
  readonly period: Period;
};
type Sample = {
  readonly name: Subject['name'];
  readonly closeMs: number;
  readonly readMs: number;
  /** Scans of event tables, as the close's transaction counted them itself. */
  readonly eventScans: number;
};

const undo = new Error('rolled back on purpose');

const database = await startDatabase({ isDurable: false });
try {
  print(await run(database.db));
} finally {
  await database.stop();
}

async function run(db: Db) {
  // Ends at midnight, so that every day of the period is one whole partition.
  const endMs = Math.floor(Date.now() / DAY_MS) * DAY_MS;
  const startAt = new Date(endMs - DAYS * DAY_MS);
  const world = await seedWorld(db, {
    meters: METERS,
    interval: { unit: 'day', count: DAYS },
    hasFee: true,
  });
  const few = await openSubject(db, world, { name: 'few', events: FEW_EVENTS, startAt });
  const many = await openSubject(db, world, { name: 'many', events, startAt });
  const begun = performance.now();
  await loadEvents(db, world, [few, many]);
  for (const subject of [few, many]) await loadRollups(db, world, subject);
  await db.raw('VACUUM ANALYZE');
  const loadSeconds = (performance.now() - begun) / 1000;

  const samples: Sample[] = [];
  for (const subject of [few, many]) for (let n = 0; n < 5; n += 1) await sample(db, subject);
  for (let round = 0; round < rounds; round += 1) {
    // Who goes first changes, so that neither always finds the other's pages.
    const order = round % 2 === 0 ? [few, many] : [many, few];
    for (const subject of order) samples.push(await sample(db, subject));
  }
  const size = await selectRow<{ mb: bigint; rollups: bigint }>(
    db,
    `SELECT (SELECT sum(pg_total_relation_size(inhrelid)) / 1000000 FROM pg_inherits
       WHERE inhparent = 'usage_events'::regclass)::bigint AS mb,
       (SELECT count(*) FROM usage_rollups WHERE subscription_id = ?) AS rollups`,
    [many.subscriptionId],
  );
  return {
    samples,
    loadSeconds,
    eventsMb: Number(size?.mb ?? 0n),
    rollupRows: Number(size?.rollups ?? 0n),
  };
}

async function openSubject(
  db: Db,
  world: World,
  of: { readonly name: Subject['name']; readonly events: number; readonly startAt: Date },
): Promise<Subject> {
  const { subscriberId, subscriptionId } = await subscribe(db, world, of.startAt);
  // As of a day before the start, so that the first period is a whole interval.
  const before = new Date(of.startAt.getTime() - DAY_MS);
  const opened = await inTransaction(db, async (tx) => {
    const pending = await lockSubscription(tx, subscriptionId);
    const started = await changeSubscription(tx, pending, { kind: 'started', at: before });
    const period = await openPeriods(tx, started, before);
    await beginClosing(tx, period);
    return period;
  });
  const segment = await selectRow<{ id: bigint }>(
    db,
    'SELECT id FROM segments WHERE period_id = ?',
    [opened.id],
  );
  return {
    name: of.name,
    events: of.events,
    subscriberId,
    subscriptionId,
    segmentId: segment?.id ?? 0n,
    period: await readPeriod(db, opened.id),
  };
}

/** One day's partition at a time, filled before its indexes are built, as a dump is loaded: the tables come out the same. */
async function loadEvents(db: Db, world: World, subjects: readonly Subject[]): Promise<void> {
  const days = Array.from({ length: DAYS }, (_, index) => index);
  await Promise.all(
    Array.from({ length: LOADERS }, async () => {
      for (let day = days.shift(); day !== undefined; day = days.shift()) {
        await loadDay(db, world, { subjects, day });
        if (!values.json && day % 5 === 4) console.log(`loaded ${day + 1} of ${DAYS} days`);
      }
    }),
  );
}

async function loadDay(
  db: Db,
  world: World,
  of: { readonly subjects: readonly Subject[]; readonly day: number },
): Promise<void> {
  const dayMs = (of.subjects[0]?.period.startAt.getTime() ?? 0) + of.day * DAY_MS;
  const day = new Date(dayMs).toISOString().slice(0, 10).replaceAll('-', '');
  const table = `usage_events_${day}`;
  await db.raw(
    `CREATE TABLE ${table} (LIKE usage_events INCLUDING DEFAULTS INCLUDING CONSTRAINTS)`,
  );
  for (const subject of of.subjects) {
    const count = Math.round(subject.events / DAYS);
    await db.raw(
      `INSERT INTO ${table} (event_day, event_id, environment, subscriber_id, subscription_id, segment_id, period_id,
         product_id, api_key_id, occurred_at, status, meter_ids, quantities)
       SELECT to_date(:day, 'YYYYMMDD'), :day || '-gw0001-' || :name || lpad(to_hex(n), 12, '0'), 'test',
         :subscriber_id, :subscription_id, :segment_id, :period_id, :product_id, :api_key_id,
         to_timestamp((:day_ms::bigint + n * 86400000::bigint / :count) / 1000.0), 200,
         ARRAY[(:meters::text[])[1 + n % ${METERS}]], ARRAY[(1 + n % 7)::bigint]
       FROM generate_series(0, :count - 1) AS n`,
      {
        day,
        name: subject.name,
        subscriber_id: subject.subscriberId,
        subscription_id: subject.subscriptionId,
        segment_id: subject.segmentId.toString(),
        period_id: subject.period.id,
        product_id: world.productId,
        api_key_id: `key_${'0'.repeat(22)}`,
        day_ms: dayMs,
        count,
        meters: world.meters.map(({ id }) => id),
      },
    );
  }
  await db.raw(
    `ALTER TABLE ${table} ADD PRIMARY KEY (event_day, event_id);
     CREATE INDEX ON ${table} (period_id, occurred_at);
     CREATE INDEX ON ${table} (subscriber_id, occurred_at);
     ALTER TABLE usage_events ATTACH PARTITION ${table} FOR VALUES FROM ('${day}') TO (date '${day}' + 1)`,
  );
}

/** The same hours and meters for both; what was counted in each is that of its events. */
async function loadRollups(db: Db, world: World, subject: Subject): Promise<void> {
  const each = Math.max(1, Math.round(subject.events / (HOURS * METERS)));
  await db.raw(
    `INSERT INTO usage_rollups (subscription_id, segment_id, meter_id, hour, quantity, event_count, max_quantity,
       latest_quantity, latest_at)
     SELECT :subscription_id, :segment_id, m.id, h.hour, 4 * :each, :each, 7, 3, h.hour + interval '59 minutes'
     FROM unnest(:meters::text[]) AS m(id), generate_series(:start_at::timestamptz,
       :end_at::timestamptz - interval '1 hour', interval '1 hour') AS h(hour)`,
    {
      subscription_id: subject.subscriptionId,
      segment_id: subject.segmentId.toString(),
      meters: world.meters.map(({ id }) => id),
      each,
      start_at: subject.period.startAt,
      end_at: subject.period.endAt,
    },
  );
}

async function sample(db: Db, subject: Subject): Promise<Sample> {
  const begun = performance.now();
  let closeMs = 0;
  let eventScans = 0;
  await inTransaction(db, async (tx) => {
    const closed = await invoicePeriod(tx, subject.period.id, subject.period.endAt);
    closeMs = performance.now() - begun;
    if (closed.kind !== 'invoiced') throw new Error(`the period is ${closed.kind}`);
    if (closed.invoice.totalMinor <= 4_900n) throw new Error('the usage was not billed');
    eventScans = await countEventScans(tx);
    throw undo;
  }).catch((error: unknown) => {
    if (error !== undo) throw error;
  });
  const subscription = await readSubscription(db, subject.subscriptionId);
  const readFrom = performance.now();
  assembleInvoice(await readInvoiceInput(db, subscription, subject.period));
  return { name: subject.name, closeMs, readMs: performance.now() - readFrom, eventScans };
}

async function countEventScans(tx: Tx): Promise<number> {
  const row = await selectRow<{ scans: bigint }>(
    tx,
    `SELECT coalesce(sum(seq_scan + coalesce(idx_scan, 0)), 0)::bigint AS scans FROM pg_stat_xact_all_tables
     WHERE relname LIKE 'usage_events%'`,
  );
  return Number(row?.scans ?? 0n);
}

function print(result: Awaited<ReturnType<typeof run>>): void {
  const of = (name: Subject['name'], figure: 'closeMs' | 'readMs'): readonly number[] =>
    result.samples.filter((one) => one.name === name).map((one) => one[figure]);
  const rows = (['few', 'many'] as const).map((name) => ({
    events: name === 'few' ? FEW_EVENTS : events,
    close_ms: median(of(name, 'closeMs')),
    close_p90_ms: quantile(of(name, 'closeMs'), 0.9),
    read_ms: median(of(name, 'readMs')),
  }));
  const ratio = (rows[1]?.close_ms ?? Infinity) / (rows[0]?.close_ms ?? 0);
  const eventScans = result.samples.reduce((sum, one) => sum + one.eventScans, 0);
  const isPassed = ratio <= RATIO_MAX && eventScans === 0;
  const summary = {
    rows,
    rollup_rows: result.rollupRows,
    rounds,
    load_seconds: result.loadSeconds,
    events_mb: result.eventsMb,
    event_table_scans: eventScans,
    ratio,
    ratio_max: RATIO_MAX,
    passed: isPassed,
  };
  if (!isPassed) process.exitCode = 1;
  if (values.json) {
    console.log(JSON.stringify(summary));
    return;
  }
  console.log('events     close ms  p90    read + assemble ms');
  for (const row of rows) {
    console.log(
      [
        String(row.events).padEnd(9),
        row.close_ms.toFixed(1).padEnd(8),
        row.close_p90_ms.toFixed(1).padEnd(5),
        row.read_ms.toFixed(1),
      ].join('  '),
    );
  }
  console.log(
    `${result.rollupRows} rollup rows each · ${result.eventsMb} MB of events, loaded in ${result.loadSeconds.toFixed(0)} s · ` +
      `${eventScans} scans of event tables in ${rounds * 2} closes`,
  );
  console.log(
    `ratio ${ratio.toFixed(2)} (at most ${RATIO_MAX}): ${isPassed ? 'passed' : 'NOT PASSED'}`,
  );
}
