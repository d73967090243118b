/**
 * `npm run demo`: 82,450 real requests become one paid invoice. Uses the stack that runs, or starts one for itself.
 * `-- --requests N` sends another number; `-- --scenario NAME|all` shows another plan; `--quick` reports the bulk of a
 * scenario's usage through the API instead of sending each request.
 */
import { Account, printInvoice } from './demo/account.ts';
import { readArguments, wholeNumber } from './demo/arguments.ts';
import { type Scenario, scenarios } from './demo/scenarios.ts';
import { type DemoStack, findOrStartStack } from './demo/stack.ts';
import { runMain } from './setup/main.ts';
import { SetupProblem } from './setup/problem.ts';

await runMain(async () => {
  const { values } = readArguments({
    options: {
      requests: { type: 'string', default: '82450' },
      scenario: { type: 'string' },
      quick: { type: 'boolean', default: false },
    },
  });
  const count = wholeNumber(values.requests, '--requests', 10_000_000);
  const chosen = values.scenario === undefined ? null : scenariosNamed(values.scenario);
  const stack = await findOrStartStack((line) => console.log(line));
  try {
    if (chosen === null) await fluxrate(stack, count);
    else await showScenarios(stack, chosen, !values.quick);
  } finally {
    await stack.stop();
  }
});
process.exit();

/** The price page's example: $0.001 per call, one month, one line. */
async function fluxrate(stack: DemoStack, count: number): Promise<void> {
  console.log('A plan of $0.001 per call, a subscriber and a key, through the admin API …');
  const account = await Account.open(stack, 'Pay-as-you-go', {
    plan: { type: 'USAGE' },
    charges: [
      {
        type: 'USAGE',
        meter_id: 'api_calls',
        unit_price: 0.001,
        display_name: 'API calls ($0.001 each)',
      },
    ],
  });
  console.log(
    `Sending ${count.toLocaleString('en-US')} requests through ${stack.gatewayUrls.join(' and ')} …`,
  );
  const used = await account.send(count);
  const periodId = await account.openPeriod();
  console.log(
    `Served ${used.served.toLocaleString('en-US')}, refused ${used.refused}, failed ${used.failed}. Closing the period …`,
  );
  const { invoice, workflowId } = await account.closeWith(periodId);
  console.log(`\n${printInvoice(invoice)}\n`);
  const again = await account.close(periodId);
  const isSame = JSON.stringify(again.body) === JSON.stringify(invoice.body);
  console.log(
    isSame
      ? 'Closing the same period again changed nothing.'
      : 'CLOSING AGAIN CHANGED THE INVOICE.',
  );
  if (!isSame) process.exitCode = 1;
  const workflowIds = [
    `sub/${account.subscriptionId}`,
    workflowId,
    `collect/${invoice.text('id')}`,
  ];
  if (stack.temporalUiUrl !== undefined) console.log(`Its workflows: ${stack.temporalUiUrl}`);
  const metered = invoice
    .list('lines')
    .reduce((sum, line) => sum + BigInt(line.text('quantity')), 0n);
  console.log(
    JSON.stringify({
      requests: count,
      served: used.served,
      metered: Number(metered),
      invoice: {
        number: invoice.text('number'),
        total: invoice.text('total'),
        currency: invoice.text('currency'),
        status: invoice.text('state'),
      },
      workflow_ids: workflowIds,
    }),
  );
  if (used.served !== count) process.exitCode = 1;
}

/** Throws SetupProblem with the names there are; asked before anything is started. */
function scenariosNamed(name: string): readonly Scenario[] {
  const chosen = name === 'all' ? scenarios : scenarios.filter((one) => one.name === name);
  if (chosen.length > 0) return chosen;
  throw new SetupProblem(
    `--scenario takes all or one of: ${scenarios.map((one) => one.name).join(', ')}`,
  );
}

async function showScenarios(
  stack: DemoStack,
  chosen: readonly Scenario[],
  isReal: boolean,
): Promise<void> {
  let passed = 0;
  let failed = 0;
  for (const scenario of chosen) {
    console.log(`\n${scenario.title}`);
    const { findings, invoice } = await scenario.run(stack, isReal);
    for (const { what, expected, seen } of findings) {
      const isRight = expected === seen;
      if (isRight) passed += 1;
      else failed += 1;
      console.log(
        `  ${isRight ? '✓' : '✗'} ${what}: ${seen}${isRight ? '' : ` (expected ${expected})`}`,
      );
    }
    if (invoice !== null) console.log(printInvoice(invoice));
  }
  console.log(`\n${passed} passed, ${failed} failed`);
  if (failed > 0) process.exitCode = 1;
}
