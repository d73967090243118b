/** Two implementations of rating that share no code: TypeScript in billing/, SQL over rollups. They must never differ. */
import assert from 'node:assert/strict';

import fc from 'fast-check';

import { type Currency, placesOf } from '../../billing/money.ts';
import type { Aggregation, Price, UsageCharge } from '../../billing/plan.ts';
import type { Level, UsagePartial } from '../../billing/rate.ts';
import { type Ratio, wholeRatio } from '../../billing/ratio.ts';
import { chargeIn, type Run, usageIn } from '../../billing/runs.ts';
import { usageLines } from '../../billing/usage-line.ts';
import { type Db, openDb, type Tx } from '../../store/db.ts';
import { ratingSql } from '../../store/rating-sql.ts';
import { type TestDatabase, testDatabase } from '../support/postgres.ts';

type Stage = 'earlier' | 'before' | 'now';
type Row = {
  readonly hour: number;
  readonly stage: Stage;
  readonly quantity: bigint;
  readonly eventCount: bigint;
  readonly maxQuantity: bigint;
  readonly latestQuantity: bigint;
  readonly latestAt: number;
  readonly values: readonly string[];
  readonly levels: readonly Level[];
};
type Card = {
  readonly charge: UsageCharge;
  readonly currency: Currency;
  readonly isBegun: boolean;
  readonly minimum: 'now' | 'later' | 'before';
  readonly minimumRatio: Ratio;
  /** Epoch ms: where the stretch of time begins, how far it was billed, where it ends; all within the interval. */
  readonly startMs: number;
  readonly billedUntilMs: number;
  readonly endMs: number;
  readonly rows: readonly Row[];
};
type Answer = {
  readonly amountMinor: string;
  readonly boundMinor: string;
};

/** Decimal texts of up to 12 places, most of them short, as price lists have them. */
const price = fc
  .tuple(fc.constantFrom(0, 1, 2, 4, 8, 12), fc.integer({ min: 0, max: 2_000_000 }))
  .map(([places, digits]) => {
    const text = String(digits).padStart(places + 1, '0');
    return places === 0 ? text : `${text.slice(0, -places)}.${text.slice(-places)}`;
  });
/** Bounds and quantities come from one short list, so that quantities often lie on a bound, or next to one. */
const landmarks = [1, 2, 10, 11, 99, 100, 101, 1_000, 1_001];
const bounds = fc
  .uniqueArray(fc.oneof(fc.constantFrom(...landmarks), fc.integer({ min: 1, max: 3_000 })), {
    maxLength: 4,
  })
  .map((list) => [...list.toSorted((a, b) => a - b).map(String), null]);
const tiers = bounds.chain((upTos) =>
  fc.tuple(
    ...upTos.map((up_to) =>
      fc.record({ up_to: fc.constant(up_to), unit_price: price, flat_fee: price }),
    ),
  ),
);
const steps = bounds.chain((upTos) =>
  fc.tuple(...upTos.map((up_to) => fc.record({ up_to: fc.constant(up_to), flat_fee: price }))),
);
const rule: fc.Arbitrary<Price> = fc.oneof(
  fc.record({ model: fc.constant('per_unit'), unit_price: price }),
  fc.record({ model: fc.constantFrom('graduated', 'volume'), tiers }),
  fc.record({ model: fc.constant('stairstep'), tiers: steps }),
  fc.record({
    model: fc.constant('package'),
    package_size: fc.constantFrom(...landmarks, 7, 1_500).map(String),
    package_price: price,
    round: fc.constantFrom('up', 'down'),
  }),
  fc.record({
    model: fc.constant('percentage'),
    percent: price,
    fixed_fee: price,
    free_events: fc.nat(5).map(String),
  }),
);
const quantity = fc.oneof(
  fc.constantFrom(0n, ...landmarks.map(BigInt)),
  fc.constantFrom(0n, ...landmarks.map(BigInt)),
  fc.bigInt({ min: 0n, max: 5_000n }),
  fc.bigInt({ min: 0n, max: 999_999_999_999_999n }),
);
/** The interval of every card; levels lie around and in it, at round instants, so that many of them share one. */
const interval = { startMs: 1_000, endMs: 2_000 };
const instant = fc.integer({ min: 9, max: 21 }).map((hundreds) => hundreds * 100);
const row: fc.Arbitrary<Omit<Row, 'hour'>> = fc.record({
  stage: fc.constantFrom<Stage>('earlier', 'before', 'now', 'now', 'now'),
  // Below zero: a correction.
  quantity: fc.oneof({ weight: 5, arbitrary: quantity }, fc.bigInt({ min: -200n, max: -1n })),
  eventCount: fc.bigInt({ min: -1n, max: 9n }),
  maxQuantity: quantity,
  latestQuantity: quantity,
  latestAt: fc.nat(3),
  values: fc.uniqueArray(fc.constantFrom(...Array.from({ length: 40 }, (_, index) => `v${index}`))),
  levels: fc.array(fc.record({ atMs: instant, quantity }), { maxLength: 4 }),
});
const aggregations: readonly Aggregation[] = [
  ...(['SUM', 'COUNT', 'MAX', 'LATEST', 'UNIQUE_COUNT', 'WEIGHTED_SUM'] as const),
];
const minor = fc.option(fc.nat(100_000).map(String), { nil: undefined });
const card: fc.Arbitrary<Card> = fc
  .record({
    price: rule,
    aggregation: fc.constantFrom(...aggregations),
    scale: fc.constantFrom(0, 0, 0, 2, 6, 9),
    included: fc.constantFrom(0n, 0n, 0n, ...landmarks.map(BigInt)),
    least: minor,
    most: minor,
    currency: fc.constantFrom<Currency>('USD', 'JPY', 'KWD'),
    isBegun: fc.boolean(),
    bounds: fc.tuple(instant, instant, instant),
    minimum: fc.constantFrom('now', 'later', 'before'),
    minimumRatio: fc.constantFrom([1, 1], [1, 1], [0, 31], [1, 2], [10, 31]).map(ratioOf),
    rows: fc.oneof(fc.array(row, { minLength: 1, maxLength: 2 }), fc.array(row, { maxLength: 6 })),
  })
  .map(({ price: of, aggregation, scale, included, least, most, bounds: at, ...more }) => ({
    ...more,
    ...spanOf(at),
    charge: {
      kind: 'usage',
      id: 'chg',
      display_name: 'Label',
      meter: {
        ...{ id: 'mtr', key: 'calls', name: 'Calls', unit_one: 'call', unit_other: 'calls' },
        ...{ scale, aggregation },
      },
      price: of,
      included_units: included.toString(),
      ...(least !== undefined && { minimum_minor: least }),
      ...(most !== undefined && { maximum_minor: most }),
    },
    rows: more.rows.map((one, hour) => ({ ...one, hour })),
  }));

function ratioOf([numerator = 1, denominator = 1]: readonly number[]): Ratio {
  return { numerator: BigInt(numerator), denominator: BigInt(denominator) };
}

function spanOf(at: readonly number[]): Pick<Card, 'startMs' | 'billedUntilMs' | 'endMs'> {
  const [startMs = 0, billedUntilMs = 0, endMs = 0] = at
    .map((each) => Math.min(Math.max(each, interval.startMs), interval.endMs))
    .toSorted((a, b) => a - b);
  return { startMs, billedUntilMs, endMs };
}

/** What `billing/` says, through the functions that write invoices. */
function inTypeScript(given: Card): Answer {
  const { charge, currency, startMs, endMs, billedUntilMs, isBegun, minimum } = given;
  const rowsAt = (stage: Stage): readonly UsagePartial[] =>
    given.rows.filter((one) => one.stage === stage).map(partial);
  const run: Run = {
    ...{ planVersionId: 'pver', startMs, endMs, isBegun },
    definition: { currency, credits: null, charges: [charge] },
    usage: [
      {
        meterId: 'mtr',
        earlier: rowsAt('earlier'),
        carried: rowsAt('earlier').flatMap(({ levels = [] }) => levels),
        billedBefore: rowsAt('before'),
        thisPeriod: rowsAt('now'),
      },
    ],
    overageMicro: { billedBefore: 0n, thisPeriod: 0n },
    levels: { interval, billedUntilMs },
  };
  const lines = usageLines(
    chargeIn(run, charge),
    {
      ...usageIn({ ...run, minimumPart: { ratio: given.minimumRatio, text: '' } }, charge),
      minimum,
    },
    { currency, planVersionId: 'pver' },
  );
  const amounts = lines.map((line) => line.amountMinor.toString());
  return { amountMinor: amounts[0] ?? '0', boundMinor: amounts[1] ?? '0' };
}

function partial(one: Row): UsagePartial {
  const { stage: _stage, hour: _hour, ...rest } = one;
  return rest;
}

async function load(tx: Tx, cards: readonly Card[]): Promise<void> {
  await tx.raw('CREATE TEMP TABLE cards (id text, card jsonb) ON COMMIT DROP');
  await tx.raw('CREATE TEMP TABLE rows (id text, stage text, row jsonb) ON COMMIT DROP');
  for (let from = 0; from < cards.length; from += 2_000) {
    const batch = cards
      .slice(from, from + 2_000)
      .map((one, index) => ({ ...one, id: `${from + index}` }));
    await tx.raw(`INSERT INTO cards SELECT c->>'id', c FROM jsonb_array_elements(?::jsonb) c`, [
      JSON.stringify(
        batch.map(({ rows: _rows, minimumRatio, ...rest }) => ({
          ...rest,
          places: placesOf(rest.currency),
          numerator: minimumRatio.numerator.toString(),
          denominator: minimumRatio.denominator.toString(),
        })),
      ),
    ]);
    const rows = batch.flatMap(({ id, rows: list }) => list.map((one) => ({ ...one, id })));
    await tx.raw(
      `INSERT INTO rows SELECT r->>'id', r->>'stage', r FROM jsonb_array_elements(?::jsonb) r`,
      [
        JSON.stringify(rows, (_key, value: unknown) =>
          typeof value === 'bigint' ? `${value}` : value,
        ),
      ],
    );
  }
  await tx.raw('ANALYZE cards');
  await tx.raw('ANALYZE rows');
}

const at = (ms: string): string => `to_timestamp((${ms})::numeric / 1000)`;
const sources = {
  charges: `SELECT id, card->'charge' AS charge, (card->>'places')::integer AS places,
    (card->>'isBegun')::boolean AS is_begun, card->>'minimum' AS minimum,
    ${at("card->>'startMs'")} AS start_at, ${at("card->>'endMs'")} AS end_at,
    ${at("card->>'billedUntilMs'")} AS billed_until_at,
    ${at(`${interval.startMs}`)} AS interval_start_at, ${at(`${interval.endMs}`)} AS interval_end_at,
    (card->>'numerator')::numeric AS minimum_numerator, (card->>'denominator')::numeric AS minimum_denominator
    FROM cards`,
  partials: `SELECT id, stage, (row->>'quantity')::numeric AS quantity, (row->>'eventCount')::bigint AS event_count,
    (row->>'maxQuantity')::bigint AS max_quantity, (row->>'latestQuantity')::bigint AS latest_quantity,
    to_timestamp((row->>'latestAt')::integer) AS latest_at FROM rows`,
  values: `SELECT id, stage, value FROM rows, jsonb_array_elements_text(row->'values') AS value`,
  levels: `SELECT id, stage, ${at("level->>'atMs'")} AS at, (level->>'quantity')::bigint AS quantity
    FROM rows, jsonb_array_elements(row->'levels') AS level`,
};

/** What SQL says, by the position of the card. */
async function inSql(tx: Tx, cards: readonly Card[]): Promise<readonly Answer[]> {
  await load(tx, cards);
  const { rows } = await tx.raw<{
    rows: { id: string; amount_minor: string; bound_minor: string }[];
  }>(ratingSql(sources));
  const answers = new Map(
    rows.map((one) => [one.id, { amountMinor: one.amount_minor, boundMinor: one.bound_minor }]),
  );
  return cards.map(
    (_, index) => answers.get(`${index}`) ?? { amountMinor: 'none', boundMinor: 'none' },
  );
}

describe('rating in SQL', () => {
  let database: TestDatabase;
  let db: Db;
  before(async () => {
    database = await testDatabase();
    db = openDb(database.url, { poolMax: 2, name: 'rating-sql' });
  });
  after(async () => {
    await db.destroy();
    await database.drop();
  });

  it('gives the amounts of billing/ on 10,000 generated rate cards and usages', async () => {
    const cards = fc.sample(card, { numRuns: 10_000, seed: 20_250_101 });
    const answers = await db.transaction((tx) => inSql(tx, cards));
    const different = cards.flatMap((one, index) => {
      const expected = inTypeScript(one);
      const actual = answers[index];
      return actual?.amountMinor === expected.amountMinor &&
        actual.boundMinor === expected.boundMinor
        ? []
        : [{ card: one, expected, actual }];
    });
    assert.deepEqual(different.slice(0, 3), []);
    // The comparison would be empty if nothing were charged, bounded or tied.
    const amounts = answers.map((one) => one.amountMinor);
    assert.ok(amounts.filter((amount) => amount !== '0').length > 4_000);
    assert.ok(answers.filter((one) => one.boundMinor !== '0').length > 1_000);
    assert.ok(new Set(amounts).size > 3_000);
    for (const aggregation of aggregations) {
      const charged = cards.filter(
        ({ charge }, index) => charge.meter.aggregation === aggregation && amounts[index] !== '0',
      );
      assert.ok(charged.length > 400, `${aggregation}: ${charged.length}`);
    }
  });

  it('works out an example by hand', async () => {
    const charge: UsageCharge = {
      kind: 'usage',
      id: 'chg',
      display_name: 'Label',
      meter: {
        ...{ id: 'mtr', key: 'calls', name: 'Calls', unit_one: 'call', unit_other: 'calls' },
        ...{ scale: 0, aggregation: 'SUM' },
      },
      price: {
        model: 'graduated',
        tiers: [
          { up_to: '10', unit_price: '10', flat_fee: '2' },
          { up_to: null, unit_price: '5', flat_fee: '3' },
        ],
      },
      included_units: '4',
      maximum_minor: '11000',
    };
    const of = (stage: Stage, units: bigint, hour: number): Row => ({
      ...{ hour, stage, quantity: units, eventCount: 1n, latestAt: 0 },
      ...{ maxQuantity: units, latestQuantity: units, values: [], levels: [] },
    });
    const one: Card = {
      ...{ charge, currency: 'USD', isBegun: true, minimum: 'now', minimumRatio: wholeRatio },
      ...{ ...interval, billedUntilMs: interval.startMs },
      rows: [of('before', 9n, 0), of('now', 8n, 1)],
    };
    // 17 − 4 = 13 units cost 102 + 3 + 15 = 120; the 5 billed before cost 52; at most 110 leaves 58.
    const [answer] = await db.transaction((tx) => inSql(tx, [one]));
    assert.deepEqual(answer, { amountMinor: '6800', boundMinor: '-1000' });
    assert.deepEqual(inTypeScript(one), answer);
  });
});
