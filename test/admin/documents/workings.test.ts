import assert from 'node:assert/strict';

import { formatsFor } from '../../../admin/documents/formats.ts';
import { workingsOf } from '../../../admin/documents/workings.ts';
import { wordsFor } from '../../../admin/documents/words.ts';
import type { Part } from '../../../billing/fees.ts';
import { assembleInvoice } from '../../../billing/invoice.ts';
import type { InvoiceLine } from '../../../billing/line.ts';
import type { Price } from '../../../billing/plan.ts';
import { usageLines } from '../../../billing/usage-line.ts';
import { line } from './examples.ts';

/** What stands below a line, with plain spaces. */
function workings(of: InvoiceLine, locale: string): readonly string[] {
  const { details, quantity, unitPrice: unit_price, amountMinor: amount_minor } = of;
  const hand = {
    words: wordsFor(locale),
    formats: formatsFor({ locale, zone: 'UTC', currency: 'EUR' }),
    currency: 'EUR',
  } as const;
  return workingsOf(line({ details, quantity, unit_price, amount_minor }), hand).map((text) =>
    text.replaceAll(/[\u00a0\u202f\u2009]/g, ' '),
  );
}

function usage(
  price: Price,
  more: { readonly minimum_minor?: string; readonly maximum_minor?: string } = {},
  total = 1_500n,
  minimumPart: Part | null = null,
): readonly InvoiceLine[] {
  const meter = {
    ...{ id: 'mtr_1', key: 'calls', name: 'API Calls', unit_one: 'call', unit_other: 'calls' },
    ...{ scale: 0, aggregation: 'SUM' as const },
  };
  return usageLines(
    {
      ...{ kind: 'usage', id: 'chg_1', display_name: 'Calls', meter, price, included_units: '0' },
      ...more,
    },
    { before: null, total, eventsTotal: 3n, minimumPart },
    { currency: 'EUR', planVersionId: 'pver_1' },
  );
}

const below = (price: Price, locale: string): readonly string[] =>
  usage(price).flatMap((one) => workings(one, locale));

describe('admin › documents › workings', () => {
  const prices: readonly (readonly [Price, string])[] = [
    [
      {
        model: 'volume',
        tiers: [
          { up_to: '1000', unit_price: '0.05', flat_fee: '0' },
          { up_to: null, unit_price: '0.0405', flat_fee: '2' },
        ],
      },
      '1.500 × 0,0405 € + 2,00 € = 62,75 €',
    ],
    [
      { model: 'percentage', percent: '2.9', fixed_fee: '0.305', free_events: '1' },
      '1.500 × 2,9 % + 0,61 € = 44,11 €',
    ],
    [
      {
        model: 'stairstep',
        tiers: [
          { up_to: '1000', flat_fee: '9' },
          { up_to: null, flat_fee: '1234.5' },
        ],
      },
      '1.500: 1.234,50 €',
    ],
    [{ model: 'package', package_size: '1000', package_price: '0.5' }, '2 × 0,50 €'],
    [{ model: 'per_unit', unit_price: '1.005' }, '1.500 × 1,005 €'],
  ];

  for (const [price, german] of prices) {
    it(`writes the figures of a price again, as the locale does: ${price.model}`, () => {
      assert.deepEqual(below(price, 'de-DE'), [german]);
    });

    it(`repeats nothing that the English description says: ${price.model}`, () => {
      assert.deepEqual(below(price, 'en-US'), []);
    });
  }

  it('writes what is due without any use', () => {
    const tiers = [{ up_to: null, unit_price: '0.0123', flat_fee: '1' }];
    const [unused] = usage({ model: 'graduated', tiers }, {}, 0n);
    assert.ok(unused);
    assert.deepEqual(workings(unused, 'es-ES'), ['0 × 0,0123 € + 1,00 € = 1,00 €']);
  });

  it('writes the bound that a line brings a charge to', () => {
    const price: Price = { model: 'per_unit', unit_price: '1' };
    const said = (
      bounds: { readonly minimum_minor?: string; readonly maximum_minor?: string },
      locale: string,
    ): readonly string[] =>
      usage(price, bounds)
        .slice(1)
        .flatMap((one) => workings(one, locale));
    const minimum = { minimum_minor: '200050' };
    const maximum = { maximum_minor: '100050' };
    assert.deepEqual(said(minimum, 'de-DE'), ['mindestens 2.000,50 €']);
    assert.deepEqual(said(maximum, 'de-DE'), ['höchstens 1.000,50 €']);
    assert.deepEqual(said(maximum, 'fr-FR'), ['au plus 1 000,50 €']);
    assert.deepEqual(said(minimum, 'es-ES'), ['al menos 2000,50 €']);
    assert.deepEqual(said(minimum, 'ja-JP'), ['€2,000.50 以上']);
    assert.deepEqual(said(minimum, 'en-US'), []);
  });

  it('writes the part of a minimum that is due', () => {
    const price: Price = { model: 'per_unit', unit_price: '1' };
    const part = { ratio: { numerator: 20n, denominator: 31n }, text: '20 of 31 days' };
    const [, minimum] = usage(price, { minimum_minor: '310000' }, 5n, part);
    assert.ok(minimum);
    assert.deepEqual(workings(minimum, 'en-US'), ['€3,100.00 × 20/31']);
    assert.deepEqual(workings(minimum, 'de-DE'), ['3.100,00 € × 20/31', 'mindestens 2.000,00 €']);
    // A maximum is that of a whole interval, whatever part of the minimum was due.
    const [, maximum] = usage(price, { minimum_minor: '1', maximum_minor: '200' }, 5n, part);
    assert.ok(maximum);
    assert.deepEqual(workings(maximum, 'en-US'), []);
  });

  it('writes a commitment less what counts towards it, and the part of it that is due', () => {
    const committed = (part: object): readonly InvoiceLine[] =>
      assembleInvoice({
        ...{ zone: 'UTC', startMs: 0, endMs: 86_400_000, fees: [], earlier: [], late: [] },
        current: {
          ...{ planVersionId: 'pver_1', startMs: 0, endMs: 86_400_000, isBegun: false, usage: [] },
          definition: { currency: 'EUR', charges: [], credits: null },
          overageMicro: { billedBefore: 0n, thisPeriod: 0n },
        },
        minimum: 'now',
        commitment: { commitmentMinor: 290_000n, billedMinor: 10_050n, ...part },
        ...{ coupons: [], taxation: { kind: 'reverse_charge' }, balanceMinor: 0n },
      }).lines;
    const twentyDays = { ratio: { numerator: 20n, denominator: 29n }, text: '20 of 29 days' };
    const [whole, part] = [...committed({}), ...committed({ part: twentyDays })];
    assert.ok(whole && part);
    assert.deepEqual(
      [whole, part].map(({ amountMinor }) => amountMinor),
      [279_950n, 189_950n],
    );
    assert.deepEqual(workings(whole, 'en-US'), ['€2,900.00 − €100.50']);
    assert.deepEqual(workings(part, 'en-US'), ['€2,900.00 × 20/29 − €100.50']);
    assert.deepEqual(workings(part, 'de-DE'), ['2.900,00 € × 20/29 − 100,50 €']);
  });
});
