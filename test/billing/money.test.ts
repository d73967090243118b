import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  allocate,
  currencies,
  formatAmount,
  formatMoney,
  formatUnitPrice,
  isCurrency,
  minorMax,
  parseAmount,
  parseUnitPrice,
  placesOf,
  roundToMinor,
  type Currency,
} from '../../billing/money.ts';

const currency = fc.constantFrom<Currency>('USD', 'JPY', 'KWD', 'EUR', 'INR');
const minor = fc.bigInt({ min: 0n, max: minorMax });

describe('billing/money', () => {
  describe('› roundToMinor', () => {
    const rows: readonly (readonly [string, Currency, bigint])[] = [
      ['0.005', 'USD', 1n],
      ['-0.005', 'USD', -1n],
      ['0.004999999999999999999999', 'USD', 0n],
      ['-0.004', 'USD', 0n],
      ['2.5', 'JPY', 3n],
      ['-2.5', 'JPY', -3n],
      ['0.0005', 'KWD', 1n],
      ['1.005', 'USD', 101n],
      ['123456789012345678901234567890.125', 'USD', 12345678901234567890123456789013n],
    ];
    for (const [amount, code, expected] of rows) {
      it(`${amount} ${code} is ${expected}`, () => {
        assert.equal(roundToMinor(amount, code), expected);
      });
    }
    it('refuses what is not a plain decimal', () => {
      for (const text of ['1e3', '', ' 1', '+1', 'NaN', 'Infinity', '0x10', '.5', '1.', '01']) {
        assert.throws(() => roundToMinor(text, 'USD'), RangeError, text);
      }
    });
  });

  it('knows the currencies of ISO 4217 that are paid in, each with its places', () => {
    const inUse = Intl.supportedValuesOf('currency').filter((code) => isCurrency(code));
    // Each of ours is one that the platform knows, and names in words: a slip of the pen would not be.
    const known = new Set(Intl.supportedValuesOf('currency'));
    const young = ['SLE', 'VES', 'XCG', 'ZWG'];
    assert.deepEqual(
      currencies.filter((code) => !known.has(code) && !young.includes(code)),
      [],
    );
    assert.ok(inUse.length > 150, `${inUse.length}`);
    assert.deepEqual(currencies.length, new Set(currencies).size);
    const rows = [
      ['JPY KRW VND CLP ISK UGX XAF XOF XPF PYG RWF BIF DJF GNF KMF VUV', 0],
      ['USD EUR GBP CHF CAD AUD SEK NOK DKK PLN INR BRL RUB HUF IDR TWD MGA MRU', 2],
      ['KWD BHD TND OMR JOD IQD LYD', 3],
    ] as const;
    for (const [codes, places] of rows) {
      for (const code of codes.split(' ')) {
        assert.ok(isCurrency(code), code);
        assert.equal(placesOf(code), places, code);
      }
    }
    const notMoney = ['CLF', 'UYW', 'XAU', 'XTS', 'XXX'];
    assert.deepEqual(
      notMoney.filter((code) => isCurrency(code)),
      [],
    );
    assert.ok(!isCurrency('usd'));
    assert.ok(!isCurrency('toString'));
    // @ts-expect-error a code that we cannot bill in is no Currency
    const unknown: Currency = 'XXX';
    assert.ok(!isCurrency(unknown));
  });

  it('prints amounts for people', () => {
    const rows: readonly (readonly [bigint, Currency, string])[] = [
      [8245n, 'USD', '$82.45'],
      [1024n, 'JPY', '¥1,024'],
      [1234n, 'KWD', 'KWD 1.234'],
      [-100_000n, 'USD', '-$1,000.00'],
      [0n, 'EUR', '€0.00'],
      [123_456_789n, 'GBP', '£1,234,567.89'],
      [5n, 'CHF', 'CHF 0.05'],
      [100n, 'CAD', 'CA$1.00'],
    ];
    for (const [amount, code, expected] of rows) assert.equal(formatMoney(amount, code), expected);
  });

  it('prints unit prices with the currency’s places at least, and no more than needed', () => {
    const rows: readonly (readonly [string, Currency, string])[] = [
      ['0.001', 'USD', '$0.001'],
      ['0.5', 'USD', '$0.50'],
      ['0.0005', 'USD', '$0.0005'],
      ['29', 'USD', '$29.00'],
      ['1234.50', 'USD', '$1,234.50'],
      ['3', 'JPY', '¥3'],
      ['0.25', 'JPY', '¥0.25'],
      ['0.000000000001', 'USD', '$0.000000000001'],
      ['1', 'KWD', 'KWD 1.000'],
    ];
    for (const [price, code, expected] of rows)
      assert.equal(formatUnitPrice(price, code), expected);
  });

  it('reads amounts strictly', () => {
    assert.equal(parseAmount('82.45', 'USD'), 8245n);
    assert.equal(parseAmount('82.4', 'USD'), 8240n);
    assert.equal(parseAmount('29', 'USD'), 2900n);
    assert.equal(parseAmount('1.234', 'KWD'), 1234n);
    for (const text of [
      '82.455',
      '-1',
      '1e3',
      '',
      '01',
      '.5',
      '1.',
      ' 1',
      '1,000',
      '10000000000000',
    ]) {
      assert.equal(parseAmount(text, 'USD'), null, text);
    }
    assert.equal(parseAmount('1.0', 'JPY'), null);
    assert.equal(parseAmount('9999999999999.99', 'USD'), minorMax);
  });

  it('an amount reads back as it was written', () => {
    fc.assert(
      fc.property(minor, currency, (amount, code) => {
        assert.equal(parseAmount(formatAmount(amount, code), code), amount);
        assert.equal(roundToMinor(formatAmount(-amount, code), code), -amount);
      }),
    );
  });

  it('reads unit prices from the source text of a JSON number', () => {
    const rows: readonly (readonly [string, string | null])[] = [
      ['0.001', '0.001'],
      ['1e-3', '0.001'],
      ['0.50', '0.5'],
      ['5E+2', '500'],
      ['0', '0'],
      ['0.0', '0'],
      ['1e-12', '0.000000000001'],
      ['1e-13', null],
      ['999999999999999', '999999999999999'],
      ['1000000000000000', null],
      ['1e15', null],
      ['-1', null],
      ['-0', null],
      ['', null],
      ['NaN', null],
      ['0x1', null],
      ['1e999', null],
      ['1_000', null],
    ];
    for (const [text, expected] of rows) assert.equal(parseUnitPrice(text), expected, text);
  });

  describe('› allocate', () => {
    const weights = fc.array(fc.bigInt({ min: 0n, max: 1_000_000n }), {
      minLength: 1,
      maxLength: 12,
    });
    it('loses nothing and gives nobody a whole unit too much (invariant 3)', () => {
      fc.assert(
        fc.property(fc.bigInt({ min: -minorMax, max: minorMax }), weights, (total, given) => {
          const whole = given.reduce((sum, weight) => sum + weight, 0n);
          fc.pre(whole > 0n);
          const parts = allocate(total, given);
          assert.equal(
            parts.reduce((sum, part) => sum + part, 0n),
            total,
          );
          for (const [index, part] of parts.entries()) {
            const off = part * whole - total * (given[index] ?? 0n);
            assert.ok(off < whole && off > -whole);
          }
        }),
      );
    });
    it('gives equal remainders to the earlier part, and nothing to a weight of zero', () => {
      assert.deepEqual(allocate(2n, [1n, 1n, 1n]), [1n, 1n, 0n]);
      assert.deepEqual(allocate(-2n, [1n, 1n, 1n]), [-1n, -1n, 0n]);
      assert.deepEqual(allocate(1n, [0n, 3n]), [0n, 1n]);
      assert.deepEqual(allocate(0n, [0n, 0n]), [0n, 0n]);
    });
    it('refuses negative weights, and a total with nowhere to go', () => {
      assert.throws(() => allocate(1n, [2n, -1n]), RangeError);
      assert.throws(() => allocate(1n, [0n]), RangeError);
      assert.throws(() => allocate(1n, []), RangeError);
    });
  });
});
