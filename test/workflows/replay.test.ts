import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { historyFromJSON } from '@temporalio/common/lib/proto-utils.js';
import { Worker } from '@temporalio/worker';
import { DeterminismViolationError } from '@temporalio/workflow';

import { workflowTypes } from '../../workflows/contracts.ts';
import { quietRuntime, sharedBundle } from './support/rig.ts';

const folder = fileURLToPath(new URL('./histories', import.meta.url));

/** Histories that were recorded with earlier code: what runs in production must go on from such ones. */
describe('workflows › replay of recorded histories', function () {
  this.timeout(60_000);
  before(() => {
    quietRuntime();
  });

  for (const type of Object.values(workflowTypes)) {
    const scenarios = readdirSync(join(folder, type));
    it(`${type} has a recorded history`, () => {
      assert.notEqual(scenarios.length, 0);
    });
    for (const scenario of scenarios) {
      it(`${type}/${scenario}`, async () => {
        await replay(readFileSync(join(folder, type, scenario), 'utf8'));
      });
    }
  }

  it('sees a workflow that no longer does what its history says', async () => {
    const text = readFileSync(join(folder, 'periodClose', 'holds-then-paid.json'), 'utf8');
    await assert.rejects(
      replay(text.replaceAll('"invoicePeriod"', '"forgetInvoice"')),
      DeterminismViolationError,
    );
  });
});

async function replay(history: string): Promise<void> {
  await Worker.runReplayHistory(
    { workflowBundle: await sharedBundle() },
    historyFromJSON(JSON.parse(history)),
  );
}
