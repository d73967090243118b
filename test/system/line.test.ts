import assert from 'node:assert/strict';

import { scenarios } from '../../bin/demo/scenarios.ts';
import { systemStack } from './stack.ts';

/** Each way of selling, from its plan to its invoice, in the running product; the bulk of the usage is reported. */
describe('system › one request becomes a paid invoice', function () {
  this.timeout(180_000);
  for (const scenario of scenarios) {
    it(scenario.title, async () => {
      const { findings } = await scenario.run(await systemStack(), false);
      for (const { what, expected, seen } of findings) assert.equal(seen, expected, what);
      assert.ok(findings.length > 0);
    });
  }
});
