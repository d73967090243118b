/** The unspent part of a top-up is given back: its credits are taken back, and its credit note is for what they cost. */
import assert from 'node:assert/strict';

import type { WorkflowEngine } from '../../admin/workflow-engine.ts';
import type { SubscriberState } from '../../shards/port.ts';
import { inTransaction } from '../../store/db.ts';
import { newId } from '../../store/ids.ts';
import { recordRefund } from '../../store/refunds.ts';
import { creditTakeBack } from '../../store/take-backs.ts';
import { type Bought, buyCredits, shardAnswers } from '../store/top-up-stage.ts';
import { seedSubscriber } from '../workflows/support/world.ts';
import { awayEngine, type Json, type Reply, startAdmin, type TestAdmin } from './support.ts';

const AT = new Date('2025-06-01T12:00:00Z');

describe('admin › credit notes of top-ups', () => {
  let admin: TestAdmin;
  let engine: Partial<WorkflowEngine> = {};
  /** What the shard would let a request take; null: it does not know the subscriber. */
  let onShard: { readonly bucketId: bigint; readonly credits: number } | null = null;
  /** What it takes of what it is asked for. */
  let taken = (asked: bigint): bigint => asked;

  before(async () => {
    admin = await startAdmin({
      engine: {
        ...awayEngine,
        takeBack: (id, wait) => ({ ...awayEngine, ...engine }).takeBack(id, wait),
        refund: (id, wait) => ({ ...awayEngine, ...engine }).refund(id, wait),
      },
      shards: { read: () => Promise.resolve(stateOf(onShard)) },
    });
  });
  beforeEach(() => {
    onShard = null;
    taken = (asked) => asked;
    engine = { takeBack: carriedOut, refund: refunded };
  });
  after(() => admin.stop());

  const carriedOut: WorkflowEngine['takeBack'] = async (takeBackId) => {
    await shardAnswers(admin.db, takeBackId, (asked) => taken(asked));
    const end = await inTransaction(admin.db, (tx) => creditTakeBack(tx, takeBackId, AT));
    return end.kind === 'refused'
      ? { kind: 'done', value: { state: 'refused' } }
      : { kind: 'done', value: { state: 'credited', creditNoteId: end.creditNoteId } };
  };
  const refunded: WorkflowEngine['refund'] = async (refundId) => {
    const outcome = { kind: 'succeeded', providerRef: newId('ref') } as const;
    await inTransaction(admin.db, (tx) => recordRefund(tx, { refundId, outcome, at: AT }));
    return { kind: 'done', value: { state: 'succeeded' } };
  };

  async function bought(): Promise<Bought & { readonly subscriberId: string }> {
    const subscriberId = await seedSubscriber(admin.db, 'card_ok');
    const made = await buyCredits(admin.db, subscriberId, { credits: 1000, minor: 2500n });
    return { ...made, subscriberId };
  }
  const credit = (
    of: Bought,
    body: Json,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<Reply> =>
    admin.call('POST', `/api/v1/invoices/${of.invoiceId}/credit_notes`, {
      body: { reason: 'goodwill', ...body },
      headers,
    });
  const get = (path: string): Promise<Reply> => admin.call('GET', `/api/v1${path}`);

  it('give all that is left back to the card, and the wallet says so', async () => {
    const of = await bought();
    onShard = { bucketId: of.bucketId, credits: 720.3 };
    const made = await credit(of, { full: true, refund_to: 'payment_method' });
    assert.equal(made.status, 201, made.text);
    assert.deepEqual(
      ['total', 'refunded', 'to_balance', 'credits_taken_back'].map((name) => made.body[name]),
      ['18.00', '18.00', '0.00', { credits: '720.3', unit: 'credit' }],
    );
    assert.match(made.text, /"description":"Credits taken back \(720\.3 credits\)"/);
    const { wallets } = (await get(`/subscribers/${of.subscriberId}/balance`)).body;
    assert.match(
      JSON.stringify(wallets),
      /"granted":"1000","available":"279\.7".*"refunded":"720\.3"/,
    );
    const topUp = await get(`/top_ups/${of.topUpId}`);
    assert.deepEqual(
      ['state', 'credits', 'credits_taken_back'].map((name) => topUp.body[name]),
      ['granted', '1000', '720.3'],
    );
    const invoice = await get(`/invoices/${of.invoiceId}`);
    assert.deepEqual([invoice.body['state'], invoice.body['credited']], ['paid', '18.00']);
  });

  it('take what an amount paid for, of the line or of the invoice', async () => {
    const of = await bought();
    const { lines } = (await get(`/invoices/${of.invoiceId}`)).body;
    const [line] = Array.isArray(lines) ? lines : [];
    const notes = [
      await credit(of, { amount: '10.00' }),
      await credit(of, { lines: [{ line_id: line.id, amount: '10.00' }] }),
      await credit(of, { full: true }),
    ];
    assert.deepEqual(
      notes.map(({ body }) => [body['total'], body['to_balance'], body['credits_taken_back']]),
      [
        ['10.00', '10.00', { credits: '400', unit: 'credit' }],
        ['10.00', '10.00', { credits: '400', unit: 'credit' }],
        ['5.00', '5.00', { credits: '200', unit: 'credit' }],
      ],
    );
    assert.equal((await credit(of, { amount: '0' })).body['code'], 'invalid_request');
    assert.match((await credit(of, { amount: '1', full: true })).text, /one of the three/);
    assert.match((await credit(of, { amount: '1.001' })).text, /at most 2 places/);
  });

  it('say how much can be given back when more is asked', async () => {
    const of = await bought();
    onShard = { bucketId: of.bucketId, credits: 720.3 };
    const refused = await credit(of, { amount: '18.01' });
    assert.deepEqual(
      [refused.status, refused.body['code'], refused.body['left'], refused.body['credits_left']],
      [422, 'credit_too_large', '18.00', '720.3'],
    );
    assert.match(String(refused.body['detail']), /^At most \$18\.00 of INV-.* for 720\.3 credits /);
    onShard = { bucketId: of.bucketId, credits: 0 };
    const none = await credit(of, { full: true });
    assert.match(String(none.body['detail']), /^Nothing of INV-.* 0 credits .* are left/);
    assert.deepEqual(await admin.db('take_backs').where({ invoice_id: of.invoiceId }), []);
    const taxed = await buyCredits(admin.db, of.subscriberId, {
      ...{ credits: 300, minor: 1000n, taxMinor: 190n },
    });
    onShard = { bucketId: taxed.bucketId, credits: 150 };
    const above = await credit(taxed, { amount: '11.90' });
    assert.match(String(above.body['detail']), /^At most \$5\.00 of INV-.* before its taxes can /);
    const whole = await credit(taxed, { full: true });
    assert.deepEqual([whole.body['tax'], whole.body['total']], ['0.95', '5.95']);
  });

  it('give money for what was really there, and nothing for nothing', async () => {
    const of = await bought();
    taken = () => 100_300_000n;
    const less = await credit(of, { amount: '20.00' });
    assert.deepEqual([less.status, less.body['total']], [201, '2.50']);
    taken = () => 0n;
    const none = await credit(of, { amount: '20.00' });
    assert.deepEqual(
      [none.status, none.body['code'], none.body['left']],
      [422, 'credit_too_large', '0.00'],
    );
  });

  it('go on by themselves, one at a time, while the shard or Temporal is away', async () => {
    const of = await bought();
    engine = {};
    const key = { 'idempotency-key': `back-${of.invoiceId}` };
    const begun = await credit(of, { full: true }, key);
    assert.deepEqual(
      [begun.status, begun.body['object'], begun.body['state']],
      [202, 'take_back', 'taking'],
    );
    const path = `/take_backs/${String(begun.body['id'])}`;
    assert.deepEqual((await get(path)).body, begun.body);
    const other = await credit(of, { amount: '1.00' });
    assert.deepEqual([other.status, other.body['code']], [409, 'take_back_in_progress']);
    engine = { takeBack: () => Promise.resolve({ kind: 'slow' }) };
    assert.equal((await credit(of, { full: true }, { 'idempotency-key': 'other' })).status, 409);
    await carriedOut(String(begun.body['id']), { waitMs: 1, summary: '' });
    const done = (await get(path)).body;
    assert.deepEqual(
      [done['state'], done['credits_taken'], done['amount']],
      ['credited', '1000', '25.00'],
    );
    const note = await get(`/credit_notes/${String(done['credit_note_id'])}`);
    assert.equal(note.body['total'], '25.00');
    const { data } = (await get(`/invoices/${of.invoiceId}/take_backs`)).body;
    assert.deepEqual(data, [done]);
    assert.equal((await get('/take_backs/tkb_0')).status, 404);
  });

  it('are made once for an Idempotency-Key, also without the answer', async () => {
    const of = await bought();
    const key = { 'idempotency-key': `once-${of.invoiceId}` };
    const first = await credit(of, { amount: '5.00' }, key);
    assert.equal(first.status, 201);
    // As if the process had died before it kept its answer.
    await admin
      .db('idempotency_keys')
      .where({ key: key['idempotency-key'] })
      .update({ status: null, response: '{"object_id": "x"}', created_at: AT });
    const again = await credit(of, { amount: '5.00' }, key);
    assert.deepEqual([again.status, again.body['id']], [201, first.body['id']]);
    assert.equal((await admin.db('credit_notes').where({ invoice_id: of.invoiceId })).length, 1);
  });

  it('wait for the refund only so long, and are printed', async () => {
    const of = await bought();
    engine = { takeBack: carriedOut };
    const made = await credit(of, { amount: '18.00', refund_to: 'payment_method' });
    assert.deepEqual([made.status, made.body['object']], [202, 'credit_note']);
    const html = await admin.call('GET', String(made.body['html_path']));
    assert.match(html.text, /Credits taken back \(720 credits\)/);
    const pdf = await admin.call('GET', String(made.body['pdf_path']));
    assert.equal(pdf.headers.get('content-type'), 'application/pdf');
    const paidBy = { payment_id: null };
    await admin.db('top_ups').where({ id: of.topUpId }).update(paidBy);
    const none = await credit(of, { full: true, refund_to: 'payment_method' });
    assert.deepEqual([none.status, none.body['code']], [409, 'nothing_to_refund']);
  });
});

function stateOf(
  of: { readonly bucketId: bigint; readonly credits: number } | null,
): SubscriberState | null {
  if (of === null) return null;
  return {
    ...{ version: 1, coreSeq: 1, products: [] },
    buckets: [
      {
        ...{ id: String(of.bucketId), unit: 'credit', heldMicro: 0 },
        availableMicro: Math.round(of.credits * 1_000_000),
        expiresMs: null,
      },
    ],
  };
}
