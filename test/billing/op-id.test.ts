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
      RangeError,
    );
    assert.throws(() => formatExternalOpId({ day: '20250131', random: 'abc', row: 0 }), RangeError);
    assert.throws(() => sliceId('20250131-abcdef-1.1', 1), RangeError);
  });
});
