import assert from 'node:assert/strict';

import { Client, Connection } from '@temporalio/client';

import { devServer, timeSkipping } from '../support/temporal.ts';

describe('setup › test Temporal', () => {
  it('a dev server keeps workflows, retention and search attributes over kill -9', async () => {
    const server = await devServer();
    const startOne = async (): Promise<void> => {
      const connection = await Connection.connect({ address: server.address });
      await new Client({ connection }).workflow.start('nothing', {
        workflowId: 'kept',
        taskQueue: 'nobody',
        searchAttributes: { SubscriberId: ['sub_1'] },
      });
      await connection.close();
    };
    await startOne();
    await server.kill9();
    await server.restart();
    const connection = await Connection.connect({ address: server.address });
    const described = await new Client({ connection }).workflow.getHandle('kept').describe();
    assert.equal(described.status.name, 'RUNNING');
    const { config } = await connection.workflowService.describeNamespace({
      namespace: server.namespace,
    });
    assert.equal(Number(config?.workflowExecutionRetentionTtl?.seconds), 90 * 24 * 3600);
    await connection.close();
    await server.stop();
  });

  it('the time-skipping server sleeps a month at once', async () => {
    const environment = await timeSkipping();
    const before = await environment.currentTimeMs();
    await environment.sleep('30 days');
    const slept = (await environment.currentTimeMs()) - before;
    assert.ok(slept >= 30 * 24 * 3600 * 1000, `slept ${slept} ms`);
    await environment.teardown();
  });
});
