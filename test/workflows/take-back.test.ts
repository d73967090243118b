import assert from 'node:assert/strict';

import type { TestWorkflowEnvironment } from '@temporalio/testing';

import { reconcile } from '../../activities/reconcile.ts';
import { workflowIdOf } from '../../bin/worker-parts/start-workflow.ts';
import { readAccountBalance } from '../../store/account-balance.ts';
import { inTransaction } from '../../store/db.ts';
import { beginTakeBack } from '../../store/take-backs.ts';
import { type RefundResult, type TakeBackResult, workflowIds } from '../../workflows/contracts.ts';
import { buyCredits, shardAnswers } from '../store/top-up-stage.ts';
import { timeSkipping } from '../support/temporal.ts';
import { until } from '../support/until.ts';
import { ofEnvironment, quietRuntime, type Rig, startRig, whileTimePasses } from './support/rig.ts';
import { checksum, faultsOf, seedSubscriber } from './support/world.ts';

describe('workflows/takeBack', function () {
  this.timeout(60_000);
  let environment: TestWorkflowEnvironment;
  let rig: Rig;

  before(async () => {
    quietRuntime();
    environment = await timeSkipping();
    rig = await startRig(ofEnvironment(environment));
  });
  after(async () => {
    await rig.stop();
    await environment.teardown();
  });
  afterEach(async () => {
    assert.deepEqual(await faultsOf(rig.db), []);
  });

  type Begun = { readonly subscriberId: string; readonly takeBackId: string };

  /** 1,000 credits for 25.00, of which 10.00 are wanted back. */
  async function begun(to: 'balance' | 'refund'): Promise<Begun> {
    const subscriberId = await seedSubscriber(rig.db, 'card_ok');
    const bought = await buyCredits(rig.db, subscriberId, {
      ...{ credits: 1000, minor: 2500n },
      charge: async (payment) => {
        const outcome = await rig.deps.payments.charge({
          ...{ idempotencyKey: payment.id, amountMinor: 2500n, currency: 'USD' },
          ...{ method: 'card_ok', description: '1,000 credits' },
        });
        return outcome.kind === 'succeeded' ? outcome.providerRef : assert.fail(outcome.kind);
      },
    });
    const answer = await inTransaction(rig.db, (tx) =>
      beginTakeBack(tx, {
        ...{ invoiceId: bought.invoiceId, businessKey: `note:${bought.topUpId}`, to },
        ...{ wish: { kind: 'amount', minor: 1000n }, reason: 'goodwill', actor: 'test' },
        onShard: null,
      }),
    );
    return answer.kind === 'begun'
      ? { subscriberId, takeBackId: answer.takeBackId }
      : assert.fail(answer.code);
  }
  const start = ({ takeBackId }: Begun): Promise<void> =>
    rig.deps.startWorkflow({ kind: 'takeBack', takeBackId, summary: { number: 'INV-1' } });
  const ended = ({ takeBackId }: Begun): Promise<TakeBackResult> =>
    whileTimePasses(
      environment,
      rig.client.workflow.getHandle(workflowIds.takeBack(takeBackId)).result(),
    );
  const notesOf = (of: Begun): Promise<readonly { readonly id: string; total_minor: bigint }[]> =>
    rig.db('credit_notes').where({ subscriber_id: of.subscriberId });
  const balanceOf = ({ subscriberId }: Begun): Promise<bigint> =>
    readAccountBalance(rig.db, { environment: 'test', subscriberId, currency: 'USD' });

  it('issues the note when the shard has said what it took, and the refund goes its way', async () => {
    const of = await begun('refund');
    await start(of);
    // Long enough that the first look is over: it is tried again.
    await environment.sleep(2_000);
    assert.deepEqual(await notesOf(of), []);
    await shardAnswers(rig.db, of.takeBackId);
    const result = await ended(of);
    const [note] = await notesOf(of);
    assert.deepEqual(result, { state: 'credited', creditNoteId: note?.id });
    assert.equal(note?.total_minor, 1000n);
    const [refund] = await rig.db('refunds').where({ credit_note_id: note?.id });
    const refunded: RefundResult = await whileTimePasses(
      environment,
      rig.client.workflow.getHandle(workflowIds.refund(refund.id)).result(),
    );
    assert.deepEqual([refunded, await balanceOf(of)], [{ state: 'succeeded' }, 0n]);
  });

  it('of less than was asked gives money for what was there', async () => {
    const of = await begun('balance');
    await start(of);
    await shardAnswers(rig.db, of.takeBackId, () => 100_000_000n);
    assert.equal((await ended(of)).state, 'credited');
    assert.equal(await balanceOf(of), 250n);
  });

  it('of nothing gives nothing', async () => {
    const of = await begun('balance');
    await shardAnswers(rig.db, of.takeBackId, () => 0n);
    await start(of);
    assert.deepEqual(await ended(of), { state: 'refused' });
    assert.deepEqual([await notesOf(of), await balanceOf(of)], [[], 0n]);
  });

  it('is started by the reconciler when nobody did, and changes nothing a second time', async () => {
    const of = await begun('balance');
    await shardAnswers(rig.db, of.takeBackId);
    const later = new Date(Date.now() + 120_000);
    const reconciled = (): Promise<number> =>
      reconcile(
        {
          ...{ db: rig.db, startWorkflow: rig.deps.startWorkflow, idOf: workflowIdOf },
          runningIds: () => Promise.resolve(new Set()),
        },
        later,
      );
    assert.equal(await reconciled(), 1);
    assert.equal((await ended(of)).state, 'credited');
    assert.equal(await balanceOf(of), 1000n);
    const before = await checksum(rig.db);
    assert.equal(await reconciled(), 0);
    await rig.client.workflow.start('takeBack', {
      ...{ workflowId: `${workflowIds.takeBack(of.takeBackId)}/again`, args: [{ v: 1, ...of }] },
      taskQueue: 'billing-workflows',
    });
    const again = rig.client.workflow.getHandle(`${workflowIds.takeBack(of.takeBackId)}/again`);
    await whileTimePasses(environment, again.result());
    assert.equal(await checksum(rig.db), before);
  });

  it('is found by its subscriber and its invoice', async () => {
    const of = await begun('balance');
    await start(of);
    const attributes = await until(async () => {
      const { searchAttributes } = await rig.client.workflow
        .getHandle(workflowIds.takeBack(of.takeBackId))
        .describe();
      return searchAttributes['BillingState'] === undefined ? null : searchAttributes;
    });
    assert.deepEqual(attributes['SubscriberId'], [of.subscriberId]);
    const { invoice_id: invoiceId } = await rig
      .db('take_backs')
      .where({ id: of.takeBackId })
      .first();
    assert.deepEqual(attributes['InvoiceId'], [invoiceId]);
    assert.deepEqual(attributes['BillingState'], ['pending']);
    await shardAnswers(rig.db, of.takeBackId);
    await ended(of);
  });
});
