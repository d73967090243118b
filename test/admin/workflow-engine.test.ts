import assert from 'node:assert/strict';

import { Client, Connection } from '@temporalio/client';

import { ApiProblem } from '../../admin/problems.ts';
import { createWorkflowEngine, type WorkflowEngine } from '../../admin/workflow-engine.ts';
import { taskQueues, workflowIds, workflowTypes } from '../../workflows/contracts.ts';
import { devServer, type TestTemporal } from '../support/temporal.ts';

describe('admin › workflow engine', () => {
  let temporal: TestTemporal;
  let engine: WorkflowEngine;
  before(async function () {
    this.timeout(120_000);
    temporal = await devServer();
    engine = createWorkflowEngine({
      connection: { address: temporal.address },
      namespace: temporal.namespace,
    });
  });
  after(async () => {
    await engine.close();
    await temporal.stop();
  });

  const isAway = (error: unknown): boolean =>
    error instanceof ApiProblem && error.code === 'workflow_engine_unavailable';

  it('starts the workflow and says slow when nobody works on it; a repeat starts no second one', async () => {
    const wait = { updateId: 'activate:1', waitMs: 700, summary: 'Ada · Payg' };
    assert.deepEqual(await engine.activate('sub_slow', wait), { kind: 'slow' });
    assert.deepEqual(await engine.activate('sub_slow', wait), { kind: 'slow' });
    assert.deepEqual(
      await engine.topUp('top_slow', { waitMs: 700, summary: 'Ada buys 10 credits' }),
      { kind: 'slow' },
    );
    const connection = await Connection.connect({ address: temporal.address });
    try {
      const client = new Client({ connection, namespace: temporal.namespace });
      const top = await client.workflow.getHandle(workflowIds.topUp('top_slow')).describe();
      assert.equal(top.type, workflowTypes.topUp);
      assert.equal(top.taskQueue, taskQueues.workflows);
      assert.equal(await top.staticSummary(), 'Ada buys 10 credits');
      const slow = await client.workflow.getHandle(workflowIds.subscription('sub_slow')).describe();
      assert.equal(await slow.staticSummary(), 'Ada · Payg');
    } finally {
      await connection.close();
    }
  });

  it('says that a workflow which does not run has ended', async () => {
    const wait = { updateId: 'cancel:1', waitMs: 2_000 };
    const reply = await engine.cancel('sub_nobody', { when: 'now' }, wait);
    assert.equal(reply.kind === 'refused' && reply.code, 'workflow_not_running');
  });

  it('starts collections and refunds once, asks a close to hurry, and signals who can hear it', async () => {
    const wait = { waitMs: 2_000, summary: 'Collect INV-1' };
    assert.deepEqual(await engine.collect('inv_a', wait), { kind: 'done', value: null });
    assert.deepEqual(await engine.collect('inv_a', wait), { kind: 'done', value: null });
    const slow = { updateId: 'retry:1', waitMs: 700, summary: 'Collect INV-2' };
    assert.deepEqual(await engine.retryNow('inv_b', slow), { kind: 'slow' });
    const refund = { waitMs: 700, summary: 'Refund of CN-1' };
    assert.deepEqual(await engine.refund('ref_a', refund), { kind: 'slow' });
    const closed = await engine.finalizeNow(
      { subscriptionId: 'sub_nobody', periodSeq: 3 },
      { updateId: 'finalize:1', waitMs: 2_000 },
    );
    assert.equal(closed.kind === 'refused' && closed.code, 'workflow_not_running');
    // Nobody is there to hear the second; the first is heard by its collection.
    await engine.invoiceChanged({ id: 'inv_none', subscription_id: 'sub_none' }, 2_000);
    await engine.invoiceChanged({ id: 'inv_a', subscription_id: null }, 2_000);
    const connection = await Connection.connect({ address: temporal.address });
    try {
      const client = new Client({ connection, namespace: temporal.namespace });
      for (const [id, type] of [
        [workflowIds.collection('inv_a'), workflowTypes.collection],
        [workflowIds.collection('inv_b'), workflowTypes.collection],
        [workflowIds.refund('ref_a'), workflowTypes.refund],
      ] as const) {
        const described = await client.workflow.getHandle(id).describe();
        assert.deepEqual([described.type, described.status.name], [type, 'RUNNING']);
      }
      const { events } = await client.workflow
        .getHandle(workflowIds.collection('inv_a'))
        .fetchHistory();
      const signals = events?.filter((event) => event.workflowExecutionSignaledEventAttributes);
      assert.equal(signals?.length, 1);
    } finally {
      await connection.close();
    }
  });

  it('says that the engine is away, and finds it again by itself', async function () {
    this.timeout(60_000);
    await temporal.kill9();
    await assert.rejects(
      engine.activate('sub_2', { updateId: 'a', waitMs: 5_000, summary: 'two' }),
      isAway,
    );
    await temporal.restart();
    const until = Date.now() + 30_000;
    for (;;) {
      // oxlint-disable-next-line no-await-in-loop
      const reply = await engine
        .topUp('top_again', { waitMs: 300, summary: 'again' })
        .catch((error: unknown) => error);
      if (!isAway(reply)) {
        assert.deepEqual(reply, { kind: 'slow' });
        return;
      }
      assert.ok(Date.now() < until, 'the engine was not found again');
    }
  });

  it('answers 503 to the first caller when there never was an engine', async () => {
    const nowhere = createWorkflowEngine({
      connection: { address: '127.0.0.1:9' },
      namespace: 'default',
    });
    await assert.rejects(nowhere.topUp('top_1', { waitMs: 500, summary: 'one' }), isAway);
    await assert.rejects(nowhere.topUp('top_1', { waitMs: 500, summary: 'one' }), isAway);
    await nowhere.close();
  });
});
