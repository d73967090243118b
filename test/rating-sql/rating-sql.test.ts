/** Two implementations of rating that share no code: TypeScript in billing/, SQL over rollups. They must never differ. */
import assert from 'node:assert/strict';

import fc from 'fast-check';

import { assembleInvoice, type MeterUsage } from '../../billing/invoice.ts';
import { type Currency, placesOf } from '../../billing/money.ts';
import type { BillableDefinition, Price, UsageCharge } from '../../billing/plan.ts';
import type { UsagePartial } from '../../billing/rate.ts';
import { type Db, openDb, type Tx } from '../../store/db.ts';
import { ratingSql } from '../../store/rating-sql.ts';
import { type TestDatabase, testDatabase } from '../support/postgres.ts';

type Row = {
  readonly hour: number;
  readonly isBefore: boolean;
  readonly quantity: bigint;
  readonly eventCount: bigint;
  readonly maxQuantity: bigint;
  readonly latestQuantity: bigint;
  readonly latestAt: number;
};
type Card = {
  readonly charge: UsageCharge;
  readonly currency: Currency;
  readonly feeDue: boolean;
  readonly minimum: 'now' | 'later' | 'before';
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
const row: fc.Arbitrary<Omit<Row, 'hour'>> = fc.record({
  isBefore: fc.boolean(),
  quantity,
  eventCount: fc.bigInt({ min: 1n, max: 9n }),
  maxQuantity: quantity,
  latestQuantity: quantity,
  latestAt: fc.nat(3),
});
const minor = fc.option(fc.nat(100_000).map(String), { nil: undefined });
const card: fc.Arbitrary<Card> = fc
  .record({
    price: rule,
    aggregation: fc.constantFrom('SUM', 'COUNT', 'MAX', 'LATEST'),
    scale: fc.constantFrom(0, 0, 0, 2, 6, 9),
    included: fc.oneof(fc.constant(0n), fc.constantFrom(...landmarks.map(BigInt))),
    least: minor,
    most: minor,
    currency: fc.constantFrom<Currency>('USD', 'JPY', 'KWD'),
    feeDue: fc.boolean(),
    minimum: fc.constantFrom('now', 'later', 'before'),
    rows: fc.oneof(fc.array(row, { minLength: 1, maxLength: 2 }), fc.array(row, { maxLength: 6 })),
  })
  .map(({ price: of, aggregation, scale, included, least, most, ...more }) => ({
    ...more,
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

/** What `billing/` says, through the function that writes invoices. */
function inTypeScript({ charge, currency, feeDue, minimum, rows }: Card): Answer {
  const usage: MeterUsage = {
    meterId: 'mtr',
    billedBefore: rows.filter((one) => one.isBefore).map(partial),
    thisPeriod: rows.filter((one) => !one.isBefore).map(partial),
  };
  const definition: BillableDefinition = { currency, credits: null, charges: [charge] };
  const common = {
    ...{ planVersionId: 'pver', startMs: 0, endMs: 1 },
    overageMicro: { billedBefore: 0n, thisPeriod: 0n },
  };
  const isLate = minimum === 'before' && !feeDue;
  const { lines } = assembleInvoice({
    ...{ ...common, zone: 'UTC', oneTimeDue: false, taxRates: [] },
    definition: isLate ? { ...definition, charges: [] } : definition,
    feeDue,
    usage: [usage],
    late: isLate ? [{ ...common, definition, usage: [usage] }] : [],
    minimum: minimum === 'later' ? 'later' : 'now',
  });
  const amounts = lines.map((line) => line.amountMinor.toString());
  return { amountMinor: amounts[0] ?? '0', boundMinor: amounts[1] ?? '0' };
}

function partial(one: Row): UsagePartial {
  const { isBefore: _isBefore, hour: _hour, ...rest } = one;
  return rest;
}

async function load(tx: Tx, cards: readonly Card[]): Promise<void> {
  await tx.raw('CREATE TEMP TABLE cards (id text, card jsonb) ON COMMIT DROP');
  await tx.raw(
    'CREATE TEMP TABLE rows (LIKE usage_rollups INCLUDING CONSTRAINTS INCLUDING DEFAULTS) ON COMMIT DROP',
  );
  for (let from = 0; from < cards.length; from += 2_000) {
    const batch = cards
      .slice(from, from + 2_000)
      .map((one, index) => ({ ...one, id: `${from + index}` }));
    await tx.raw(`INSERT INTO cards SELECT c->>'id', c FROM jsonb_array_elements(?::jsonb) c`, [
      JSON.stringify(
        batch.map(({ rows: _rows, ...rest }) => ({ ...rest, places: placesOf(rest.currency) })),
      ),
    ]);
    const rows = batch.flatMap(({ id, rows: list }) => list.map((one) => ({ ...one, id })));
    await tx.raw(
      `INSERT INTO rows (subscription_id, segment_id, meter_id, hour, quantity, event_count, max_quantity,
         latest_quantity, latest_at)
       SELECT r->>'id', CASE WHEN (r->>'isBefore')::boolean THEN 1 ELSE 2 END, 'mtr',
         to_timestamp(3600 * (r->>'hour')::integer), (r->>'quantity')::numeric, (r->>'eventCount')::bigint,
         (r->>'maxQuantity')::bigint, (r->>'latestQuantity')::bigint, to_timestamp((r->>'latestAt')::integer)
       FROM jsonb_array_elements(?::jsonb) r`,
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

const sources = {
  charges: `SELECT id, card->'charge' AS charge, (card->>'places')::integer AS places,
    (card->>'feeDue')::boolean AS fee_due, card->>'minimum' AS minimum FROM cards`,
  rollups: `SELECT subscription_id AS id, segment_id = 1 AS is_before, quantity, event_count, max_quantity,
    latest_quantity, latest_at FROM rows`,
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
    const of = (isBefore: boolean, units: bigint, hour: number): Row => ({
      ...{ hour, isBefore, quantity: units, eventCount: 1n, latestAt: 0 },
      ...{ maxQuantity: units, latestQuantity: units },
    });
    const one: Card = {
      ...{ charge, currency: 'USD', feeDue: false, minimum: 'now' },
      rows: [of(true, 9n, 0), of(false, 8n, 1)],
    };
    // 17 − 4 = 13 units cost 102 + 3 + 15 = 120; the 5 billed before cost 52; at most 110 leaves 58.
    const [answer] = await db.transaction((tx) => inSql(tx, [one]));
    assert.deepEqual(answer, { amountMinor: '6800', boundMinor: '-1000' });
    assert.deepEqual(inTypeScript(one), answer);
  });
});
