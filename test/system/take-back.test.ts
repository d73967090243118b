import assert from 'node:assert/strict';

import { Account } from '../../bin/demo/account.ts';
import { openDb } from '../../store/db.ts';
import { findViolations } from '../../store/invariants.ts';
import { systemStack } from './stack.ts';

/** In the running product: 32 clients spend what the operator gives back to the card. */
describe('system › the unspent part of a top-up is given back', function () {
  this.timeout(180_000);

  it('while requests spend it: each credit is spent or given money for, never both', async () => {
    const { api, databaseUrl, ...stack } = await systemStack();
    const account = await Account.open({ api, ...stack }, 'Refund', {
      plan: {
        ...{ type: 'CREDITS', credit_price: '0.02' },
        credit_rates: [{ meter_id: 'api_calls', credits: '1' }],
      },
    });
    const { subscriberId } = account;
    const topUp = await api.post(`/subscribers/${subscriberId}/top_ups`, {
      ...{ credits: '250', amount: '5.00', currency: 'USD' },
    });
    assert.equal(topUp.text('state'), 'granted');
    const path = `/invoices/${topUp.text('invoice_id')}`;
    const [used, answer] = await Promise.all([
      account.send(120, { concurrency: 32 }),
      api.post(`${path}/credit_notes`, {
        ...{ full: true, reason: 'goodwill', refund_to: 'payment_method' },
      }),
    ]);
    assert.ok(answer.status === 201 || answer.status === 202);
    await api.until(
      `${path}/take_backs`,
      (now) => now.list('data').every((one) => one.text('state') === 'credited'),
      30_000,
    );
    const note = await api.until(
      `${path}/credit_notes`,
      (now) => now.text('data.0.refund.state') === 'succeeded',
      30_000,
    );
    const taken = Number(note.text('data.0.credits_taken_back.credits'));
    assert.ok(taken > 0);
    assert.equal(note.text('data.0.refunded'), (taken / 50).toFixed(2));
    // What requests held when the credits were taken came back with none of them; nothing else is left.
    const rest = await account.send(200, { concurrency: 8 });
    assert.equal(used.served + rest.served + taken, 250);
    const balance = await api.until(
      `/subscribers/${subscriberId}/balance`,
      (now) => now.text('wallets.0.available') === '0',
      30_000,
    );
    assert.deepEqual(
      ['granted', 'spent', 'refunded'].map((name) => Number(balance.text(`wallets.0.${name}`))),
      [250, 250 - taken, taken],
    );
    const db = openDb(databaseUrl);
    const found = await findViolations(db);
    await db.destroy();
    assert.deepEqual(
      found.filter(({ kind }) => kind === 'always'),
      [],
    );
  });
});
