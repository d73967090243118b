import assert from 'node:assert/strict';
import fc from 'fast-check';
import { formatCredits, formatCreditUnits, microMax, parseCredits } from '../../billing/credits.ts';
import {
  formatQuantity,
  formatUnits,
  isQuantity,
  parseQuantity,
  quantityMax,
} from '../../billing/quantity.ts';

describe('billing/quantity', () => {
  it('accepts one spelling only', () => {
    assert.equal(parseQuantity('0'), 0);
    assert.equal(parseQuantity('999999999999999'), quantityMax);
    const refused = [
      '',
      ' ',
      '00',
      '01',
      '+1',
      '-1',
      '-0',
      '1.0',
      '1e3',
      '0x10',
      'NaN',
      'Infinity',
      '1000000000000000',
      '9007199254740992',
      '1 ',
      ' 1',
      '1\n',
      '１',
      '1,000',
    ];
    for (const text of refused) assert.equal(parseQuantity(text), null, JSON.stringify(text));
  });

  it('judges numbers likewise', () => {
    for (const value of [0, 1, quantityMax]) assert.ok(isQuantity(value));
    for (const value of [-1, 0.5, NaN, Infinity, quantityMax + 1, 2 ** 53, '1', 1n, null]) {
      assert.ok(!isQuantity(value), String(value));
    }
  });

  it('prints whole units, grouped', () => {
    assert.equal(formatQuantity(82_450n, 0), '82,450');
    assert.equal(formatQuantity(4_200n, 6), '0.0042');
    assert.equal(formatQuantity(1_234_500_000n, 6), '1,234.5');
    assert.equal(formatQuantity(0n, 6), '0');
    assert.equal(formatQuantity(-1_500n, 0), '-1,500');
    const calls = { unit_one: 'call', unit_other: 'calls', scale: 0 };
    assert.equal(formatUnits(1n, calls), '1 call');
    assert.equal(formatUnits(0n, calls), '0 calls');
    assert.equal(formatUnits(82_450n, calls), '82,450 calls');
    const dollars = { unit_one: 'dollar', unit_other: 'dollars', scale: 6 };
    assert.equal(formatUnits(1_000_000n, dollars), '1 dollar');
    assert.equal(formatUnits(1n, dollars), '0.000001 dollars');
  });
});

describe('billing/credits', () => {
  it('reads and prints decimal credits', () => {
    assert.equal(parseCredits('12.5'), 12_500_000n);
    assert.equal(parseCredits('0.000001'), 1n);
    assert.equal(parseCredits('7'), 7_000_000n);
    assert.equal(parseCredits('999999999.999999'), microMax);
    for (const text of ['', '-1', '1e3', '01', '.5', '1.', '0.0000001', '1000000000', '1,0']) {
      assert.equal(parseCredits(text), null, text);
    }
    assert.equal(formatCredits(12_500_000n), '12.5');
    assert.equal(formatCredits(0n), '0');
    assert.equal(formatCreditUnits(500_000_000n, 'credit'), '500 credits');
    assert.equal(formatCreditUnits(1_000_000n, 'credit'), '1 credit');
    assert.equal(formatCreditUnits(1_000_500_000n, 'image_token'), '1,000.5 image tokens');
  });
  it('reads back what it printed', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: microMax }), (micro) => {
        assert.equal(parseCredits(formatCredits(micro)), micro);
      }),
    );
  });
});
