import assert from 'node:assert/strict';

import { createFailedGuesses } from '../../gateway/failed-guesses.ts';
import { failedGuessAddressesMax, failedGuessesMax } from '../../gateway/limits.ts';

describe('gateway/failed-guesses', () => {
  const fail = (
    guesses: ReturnType<typeof createFailedGuesses>,
    address: string,
    count: number,
  ): void => {
    for (let index = 0; index < count; index += 1) guesses.failed(address, `wrong${index}`);
  };

  it('blocks an address after 20 in a minute, and forgets with the minute', () => {
    let nowMs = 1_000;
    const guesses = createFailedGuesses(() => nowMs);
    fail(guesses, '192.0.2.1', failedGuessesMax - 1);
    assert.equal(guesses.isBlocked('192.0.2.1', 'k'), false);
    fail(guesses, '192.0.2.1', 1);
    assert.equal(guesses.isBlocked('192.0.2.1', 'k'), true);
    assert.equal(guesses.isBlocked('192.0.2.2', 'k'), false);
    nowMs += 60_000;
    assert.equal(guesses.isBlocked('192.0.2.1', 'k'), false);
  });

  it('lets a key pass that was accepted, until it fails', () => {
    const guesses = createFailedGuesses(() => 0);
    guesses.accepted('good');
    fail(guesses, 'a', failedGuessesMax);
    assert.equal(guesses.isBlocked('a', 'good'), false);
    guesses.failed('a', 'good');
    assert.equal(guesses.isBlocked('a', 'good'), true);
  });

  it('counts a /64 of IPv6 as one', () => {
    const guesses = createFailedGuesses(() => 0);
    for (let index = 0; index < failedGuessesMax; index += 1) {
      guesses.failed(`2001:db8:1:2:3:4:5:${index.toString(16)}`, 'w');
    }
    assert.equal(guesses.isBlocked('2001:db8:1:2:9:9:9:9', 'k'), true);
    assert.equal(guesses.isBlocked('2001:db8:1:3:9:9:9:9', 'k'), false);
  });

  it('stays bounded', () => {
    const guesses = createFailedGuesses(() => 0);
    for (let index = 0; index < failedGuessAddressesMax; index += 1)
      guesses.failed(`h${index}`, 'w');
    fail(guesses, 'a', failedGuessesMax);
    assert.equal(guesses.isBlocked('a', 'k'), true);
  });
});
