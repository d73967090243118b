import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  type CreditableInvoice,
  type CreditNote,
  creditNote,
  type CreditRequest,
} from '../../billing/credit-note.ts';
import type { Coupon } from '../../billing/discount.ts';
import type { Taxation } from '../../billing/tax.ts';
import { totalUp } from '../../billing/totals.ts';

const exclusive: Taxation = {
  kind: 'exclusive',
  rates: { general: [{ name: 'VAT', percent: '25' }] },
};
const coupon: Coupon = {
  id: 'cpn',
  name: 'Third',
  off: { kind: 'percent', percent: '33.333' },
  on: { kind: 'invoice' },
};

function invoice(amounts: readonly bigint[], taxation: Taxation, coupons: readonly Coupon[]) {
  const lines = amounts.map((amountMinor, index) => ({ chargeId: `c${index}`, amountMinor }));
  const totals = totalUp(lines, { coupons, taxation, balanceMinor: 0n });
  return { lines, ...totals };
}

function credited(
  of: CreditableInvoice,
  request: CreditRequest,
  before: ReadonlyMap<number, bigint> = new Map(),
): CreditNote {
  const result = creditNote(of, before, request);
  assert.ok(result.kind === 'ok', result.kind);
  return result.note;
}
const part = (...amounts: readonly (readonly [number, bigint])[]): CreditRequest => ({
  kind: 'lines',
  amounts: new Map(amounts),
});

describe('billing/credit-note', () => {
  it('a full one gives back the whole invoice: lines, discount, tax, total', () => {
    const given = invoice([10_000n, 2_999n], exclusive, [coupon]);
    const note = credited(given, { kind: 'full' });
    assert.equal(note.subtotalMinor, given.subtotalMinor);
    assert.equal(note.discountMinor, given.discountMinor);
    assert.deepEqual(note.taxes, given.taxes);
    assert.equal(note.totalMinor, given.totalMinor);
    assert.equal(note.lines.length, 2);
  });

  it('a part carries its part of discount and tax', () => {
    const given = invoice([10_000n, 5_000n], exclusive, [coupon]);
    const note = credited(given, part([0, 1_000n]));
    assert.deepEqual(note.lines, [{ position: 0, amountMinor: 1_000n, discountMinor: 333n }]);
    // (1000 − 333) × 25 % = 166.75
    assert.deepEqual(
      [note.subtotalMinor, note.discountMinor, note.taxMinor, note.totalMinor],
      [1_000n, 333n, 167n, 834n],
    );
    assert.equal(note.taxes[0]?.baseMinor, 667n);
  });

  it('two halves of an odd cent add up to the whole', () => {
    const given = invoice([1n, 1n], { ...exclusive }, []);
    assert.equal(given.taxMinor, 1n);
    const first = credited(given, part([0, 1n]));
    const second = credited(given, part([1, 1n]), new Map([[0, 1n]]));
    assert.deepEqual([first.taxMinor, second.taxMinor], [0n, 1n]);
  });

  it('each note says what its own tax is on', () => {
    const general = [
      { name: 'State', percent: '7' },
      { name: 'City', percent: '1.5' },
    ];
    const of = invoice([1_000n, 333n], { kind: 'exclusive', rates: { general } }, []);
    const first = credited(of, part([0, 400n]));
    const rest = credited(of, { kind: 'full' }, new Map([[0, 400n]]));
    assert.deepEqual(
      [first, rest].map((note) => note.taxes.map(({ name, baseMinor }) => [name, baseMinor])),
      [
        [
          ['State', 400n],
          ['City', 400n],
        ],
        [
          ['State', 933n],
          ['City', 933n],
        ],
      ],
    );
    // Nothing of a line, of either sign, is nothing to refuse.
    const settled = invoice([500n, 0n, -200n], { kind: 'reverse_charge' }, []);
    const note = credited(settled, part([0, 500n], [1, 0n], [2, 0n]));
    assert.deepEqual([note.lines.map(({ position }) => position), note.totalMinor], [[0], 500n]);
  });
  it('an inclusive tax is told and not added', () => {
    const taxation: Taxation = { ...exclusive, kind: 'inclusive' };
    const note = credited(invoice([12_500n], taxation, []), part([0, 1_250n]));
    assert.deepEqual([note.taxMinor, note.totalMinor], [250n, 1_250n]);
  });

  it('refuses more than is left of a line, the wrong sign, and a line that is not there', () => {
    const given = invoice([100n, -50n], exclusive, []);
    const before = new Map([[0, 60n]]);
    for (const [position, amount, leftMinor] of [
      [0, 41n, 40n],
      [0, -1n, 40n],
      [1, 1n, -50n],
      [1, -51n, -50n],
      [2, 1n, 0n],
    ] as const) {
      assert.deepEqual(creditNote(given, before, part([position, amount])), {
        kind: 'above_line',
        position,
        leftMinor,
      });
    }
    assert.equal(credited(given, part([0, 40n], [1, -50n]), before).subtotalMinor, -10n);
  });

  it('refuses an empty note, and a second full one', () => {
    const given = invoice([100n], exclusive, []);
    assert.deepEqual(creditNote(given, new Map(), part()), { kind: 'nothing_to_credit' });
    assert.deepEqual(creditNote(given, new Map(), part([0, 0n])), { kind: 'nothing_to_credit' });
    assert.deepEqual(creditNote(given, new Map([[0, 100n]]), { kind: 'full' }), {
      kind: 'nothing_to_credit',
    });
  });

  it('a line that gives money back is given back in turn', () => {
    const given = invoice([1_000n, -300n], exclusive, []);
    const note = credited(given, { kind: 'full' });
    assert.equal(note.totalMinor, given.totalMinor);
    assert.deepEqual(
      note.lines.map((line) => line.amountMinor),
      [1_000n, -300n],
    );
  });

  it('however an invoice is credited, its notes add up to it (with coupons, several rates, both kinds)', () => {
    const amounts = fc.array(fc.bigInt({ min: -500n, max: 5_000n }), {
      minLength: 1,
      maxLength: 4,
    });
    const cuts = fc.array(fc.array(fc.bigInt({ min: 0n, max: 100n }), { maxLength: 4 }), {
      maxLength: 4,
    });
    fc.assert(
      fc.property(amounts, cuts, fc.boolean(), (given, percents, isInclusive) => {
        const taxation: Taxation = {
          kind: isInclusive ? 'inclusive' : 'exclusive',
          rates: {
            general: [{ name: 'VAT', percent: '19' }],
            byCharge: new Map([
              [
                'c1',
                [
                  { name: 'VAT', percent: '7' },
                  { name: 'X', percent: '1.5' },
                ],
              ],
            ]),
          },
        };
        const of = invoice(given, taxation, [coupon]);
        const before = new Map<number, bigint>();
        const notes: CreditNote[] = [];
        const apply = (request: CreditRequest): void => {
          const result = creditNote(of, before, request);
          if (result.kind !== 'ok') return;
          notes.push(result.note);
          for (const { position, amountMinor } of result.note.lines) {
            before.set(position, (before.get(position) ?? 0n) + amountMinor);
          }
        };
        for (const cut of percents) {
          apply(
            part(
              ...given.map(
                (amount, at) =>
                  [at, ((amount - (before.get(at) ?? 0n)) * (cut[at] ?? 0n)) / 100n] as const,
              ),
            ),
          );
        }
        apply({ kind: 'full' });
        const sum = (pick: (note: CreditNote) => bigint) =>
          notes.reduce((all, note) => all + pick(note), 0n);
        assert.equal(
          sum((note) => note.subtotalMinor),
          of.subtotalMinor,
        );
        assert.equal(
          sum((note) => note.discountMinor),
          of.discountMinor,
        );
        assert.equal(
          sum((note) => note.totalMinor),
          of.totalMinor,
        );
        of.taxes.forEach((tax, index) => {
          assert.equal(
            sum((note) => note.taxes[index]?.amountMinor ?? 0n),
            notes.length === 0 ? 0n : tax.amountMinor,
          );
        });
      }),
    );
  });
});
