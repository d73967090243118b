import assert from 'node:assert/strict';
import {
  eventDayOf,
  formatExternalOpId,
  formatOpId,
  isEventId,
  isOpId,
  sliceId,
} from '../../billing/op-id.ts';

describe('billing/op-id', () => {
  it('writes what it accepts', () => {
    const opId = formatOpId({ day: '20250131', incarnation: 'k3x9q2', sequence: 35 });
    assert.equal(opId, '20250131-k3x9q2-z');
    assert.ok(isOpId(opId));
    assert.equal(eventDayOf(opId), '2025-01-31');
    assert.equal(sliceId(opId, 36), '20250131-k3x9q2-z.10');
    assert.ok(isEventId(sliceId(opId, 36)));
    assert.ok(!isOpId(sliceId(opId, 36)));
    assert.equal(
      formatExternalOpId({ day: '20240229', random: 'abcdefghijklmno', row: 99 }),
      '20240229-xabcdefghijklmno-2r',
    );
    const last = { day: '20250131', incarnation: 'abcdef', sequence: Number.MAX_SAFE_INTEGER };
    assert.ok(isOpId(formatOpId(last)));
  });
  it('refuses days that do not exist and parts that do not fit', () => {
    const bad = [
      '20250229-abcdef-1',
      '21000229-abcdef-1',
      '20250431-abcdef-1',
      '20251301-abcdef-1',
      '20250100-abcdef-1',
      '20250131-abcde-1',
      '20250131-abcdefghijklmnopq-1',
      '20250131-abcdef-',
      '20250131-ABCDEF-1',
      '20250131-abcdef-1 ',
      '2025-01-31-abcdef-1',
      '',
    ];
    for (const text of bad) assert.ok(!isOpId(text), text);
    assert.ok(isOpId('20000229-abcdef-1'));
    assert.ok(!isEventId('20250131-abcdef-1.'));
    assert.ok(!isEventId('20250229-abcdef-1.1'));
    assert.throws(
      () => formatOpId({ day: '20250131', incarnation: 'abcdef', sequence: -1 }),
      new RangeError("not an operation's name: 20250131-abcdef--1"),
    );
    // Both would make a name that fits: it would only not be one of fifteen characters.
    for (const random of ['abcdefghijklmn', 'abcdef']) {
      assert.throws(
        () => formatExternalOpId({ day: '20250131', random, row: 0 }),
        new RangeError('an external name has 15 random characters'),
      );
    }
    assert.throws(
      () => sliceId('20250131-abcdef-1.1', 1),
      new RangeError("not a slice's id: 20250131-abcdef-1.1.1"),
    );
  });
  it('takes the first and the last day of every month, and no day around them', () => {
    for (let month = 1; month <= 12; month += 1) {
      const mm = String(month).padStart(2, '0');
      const last = new Date(Date.UTC(2023, month, 0)).getUTCDate();
      const known = ['00', '01', String(last), String(last + 1)].map((day) =>
        isOpId(`2023${mm}${day}-abcdef-1`),
      );
      assert.deepEqual(known, [false, true, true, false], mm);
    }
    for (const month of ['00', '13']) assert.ok(!isOpId(`2023${month}01-abcdef-1`));
  });
});
