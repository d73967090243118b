import assert from 'node:assert/strict';

import fc from 'fast-check';

import { documentLocale, formatsFor } from '../../../admin/documents/formats.ts';
import { wordsFor } from '../../../admin/documents/words.ts';
import { type Currency, formatMoney } from '../../../billing/money.ts';

describe('admin › documents › formats', () => {
  const of = (locale: string, currency: Currency, zone = 'UTC') =>
    formatsFor({ locale, zone, currency });
  const spaced = (text: string): string => text.replaceAll(/[\u00a0\u202f\u2009]/g, ' ');

  it('writes amounts with the places of the currency, as the locale does', () => {
    const rows: readonly (readonly [string, Currency, bigint, string])[] = [
      ['en-US', 'USD', 123_456_789n, '$1,234,567.89'],
      ['en-US', 'USD', -5n, '-$0.05'],
      ['en-US', 'KWD', 1234n, 'KWD 1.234'],
      ['en-US', 'JPY', 1024n, '¥1,024'],
      ['de-DE', 'EUR', 123_456_789n, '1.234.567,89 €'],
      ['fr-FR', 'EUR', 123_456_789n, '1 234 567,89 €'],
      ['es-ES', 'EUR', 1_234_567n, '12.345,67 €'],
      ['ja-JP', 'JPY', 1024n, '￥1,024'],
      ['de-CH', 'CHF', 123_456n, "CHF 1'234.56"],
      // Currencies that the field itself writes with other places than they are billed in here.
      ['en-US', 'IDR', 150_000n, 'IDR 1,500.00'],
    ];
    for (const [locale, currency, minor, text] of rows) {
      assert.equal(spaced(of(locale, currency).money(minor)), text);
    }
  });

  it('writes what no float holds exactly', () => {
    const { money, price, quantity } = of('en-US', 'USD');
    assert.equal(money(999_999_999_999_999n), '$9,999,999,999,999.99');
    assert.equal(money(123_456_789_012_345_678_901n), '$1,234,567,890,123,456,789.01');
    assert.equal(price('0.000000000001'), '$0.000000000001');
    assert.equal(price('123456789012345.123456789012'), '$123,456,789,012,345.123456789012');
    assert.equal(quantity('999999999999999.999999999'), '999,999,999,999,999.999999999');
  });

  it('writes unit prices with at least the places of the currency and no more than needed', () => {
    const prices = ['0.001', '0.5', '3', '0.50'];
    assert.deepEqual(prices.map(of('en-US', 'USD').price), ['$0.001', '$0.50', '$3.00', '$0.50']);
    assert.deepEqual(prices.map(of('de-DE', 'EUR').price).map(spaced), [
      '0,001 €',
      '0,50 €',
      '3,00 €',
      '0,50 €',
    ]);
    assert.equal(of('ja-JP', 'JPY').price('3'), '￥3');
  });

  it('agrees with the amounts of the API in its own locale, whatever the amount', () => {
    const { money } = of('en-US', 'USD');
    fc.assert(
      fc.property(fc.bigInt({ min: -(10n ** 18n), max: 10n ** 18n }), (minor) => {
        assert.equal(money(minor), formatMoney(minor, 'USD'));
      }),
    );
  });

  it('writes days in the zone of the subscriber', () => {
    const at = new Date('2025-03-31T22:30:00Z');
    assert.equal(of('en-US', 'USD').date(at), 'Mar 31, 2025');
    assert.equal(of('en-US', 'USD', 'Europe/Berlin').date(at), 'Apr 1, 2025');
    assert.equal(of('de-DE', 'EUR', 'Europe/Berlin').date(at), '1. Apr. 2025');
    assert.equal(of('ja-JP', 'JPY', 'Asia/Tokyo').date(at), '2025年4月1日');
    assert.equal(of('th-TH', 'THB').date(at).includes('2025'), true);
  });

  it('writes periods with their last day, and parts of a day with their times', () => {
    const period = (locale: string, from: string, until: string, zone: string): string =>
      spaced(of(locale, 'EUR', zone).period(new Date(from), new Date(until)));
    const january = ['2024-12-31T23:00:00Z', '2025-01-31T23:00:00Z', 'Europe/Berlin'] as const;
    assert.equal(period('en-US', ...january), 'Jan 1 – Jan 31, 2025');
    assert.equal(period('de-DE', ...january), '1.–31. Jan. 2025');
    assert.equal(period('fr-FR', ...january), '1–31 janv. 2025');
    const day = ['2025-01-01T00:00:00Z', '2025-01-02T00:00:00Z', 'UTC'] as const;
    assert.equal(period('de-DE', ...day), '1. Jan. 2025');
    const hour = ['2025-01-01T10:00:00Z', '2025-01-01T11:00:00Z', 'UTC'] as const;
    assert.equal(period('de-DE', ...hour), '1. Jan. 2025, 10:00–11:00 Uhr');
    const lastHour = ['2025-01-01T23:00:00Z', '2025-01-02T00:00:00Z', 'UTC'] as const;
    assert.match(period('de-DE', ...lastHour), /23:00/);
  });

  it('takes paper from the region, words from the language, and English for what it does not know', () => {
    assert.equal(of('en', 'USD').paper, 'LETTER');
    assert.equal(of('en-GB', 'GBP').paper, 'A4');
    assert.equal(of('fr-CA', 'CAD').paper, 'LETTER');
    assert.equal(of('es', 'EUR').paper, 'A4');
    assert.equal(wordsFor('de-AT').language, 'de');
    assert.equal(wordsFor('pt-BR').language, 'en');
    assert.deepEqual(['EN-us', 'de_DE', '', undefined, '../x'].map(documentLocale), [
      'en-US',
      'en-US',
      'en-US',
      'en-US',
      'en-US',
    ]);
  });
});
