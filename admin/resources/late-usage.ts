/** Usage that came in after a subscription's end, billed at once instead of when nothing more can come. */
import { z } from 'zod';

import { billLateUsage, type LateBilling } from '../../store/late-invoice.ts';
import { object } from '../fields.ts';
import { ApiProblem } from '../problems.ts';
import { operators, route } from '../route.ts';
import { collect, invoiceWireOf } from './invoice-actions.ts';
import { Invoice, invoiceExample } from './invoice-shapes.ts';
import { answers } from './shared.ts';
import { requireSubscription } from './subscription-shapes.ts';

const LateUsageBilling = z
  .strictObject({
    object: z.literal('late_usage_billing'),
    subscription_id: z.string(),
    text: z.string().meta({ description: 'For people: what became of it.' }),
    invoice_id: z.string().nullable(),
    invoice: Invoice.nullable().meta({
      description: 'Null: nothing came in that is to be billed.',
    }),
  })
  .meta({ id: 'LateUsageBilling' });

const [exampleLine] = invoiceExample.lines;
const lateExample = {
  ...invoiceExample,
  kind: 'late',
  lines: [
    {
      ...exampleLine,
      kind: 'adjustment',
      description: `${exampleLine?.description ?? ''}, ${invoiceExample.period_text}`,
    },
  ],
};
const billedExample = {
  object: 'late_usage_billing',
  subscription_id: invoiceExample.subscription_id,
  text: `${invoiceExample.number} bills what came in since the end.`,
  invoice_id: invoiceExample.id,
  invoice: lateExample,
};
const nothingExample = {
  ...billedExample,
  text: 'Nothing came in since the end that is to be billed.',
  invoice_id: null,
  invoice: null,
};

export const billLateUsageNow = route({
  operationId: 'billLateUsage',
  method: 'post',
  path: '/subscriptions/{subscription_id}/bill_late_usage',
  tag: 'Subscriptions',
  summary: 'Bill late usage of a subscription that has ended',
  description: `Usage is accepted until it is 35 days old, also after its subscription has ended; then it is invoiced by itself, without
anybody asking. This issues that invoice now, each line at the prices and tiers of the period that it belongs to. What comes in
afterwards makes a further invoice. Doing it again bills nothing twice: where nothing is left, that is the answer.`,
  roles: operators,
  bodyOptional: true,
  body: object({}),
  answers: answers(
    201,
    { description: 'Invoiced.', schema: LateUsageBilling, example: billedExample },
    {
      200: {
        description: 'Nothing is to be billed.',
        schema: LateUsageBilling,
        example: nothingExample,
      },
    },
  ),
  problems: ['subscription_not_ended'],
  handle: async (call) => {
    const row = await requireSubscription(call);
    const billed: { invoice: z.output<typeof Invoice> | null } = { invoice: null };
    const answer = await call.write(async (tx, at) => {
      const billing = await billLateUsage(tx, { subscriptionId: row.id, at, isOver: false });
      if (billing.kind === 'refused') throw notEnded(row.id, billing.code);
      const head = { object: 'late_usage_billing', subscription_id: row.id } as const;
      if (billing.kind === 'nothing') {
        const body = { ...head, text: nothingExample.text, invoice_id: null, invoice: null };
        return { answer: { status: 200, body }, audit: null };
      }
      const { id, number } = billing.invoice;
      billed.invoice = await invoiceWireOf(tx, { id, environment: call.environment });
      const text = `${number ?? id} bills what came in since the end.`;
      return {
        answer: {
          status: 201,
          body: { ...head, text, invoice_id: id, invoice: billed.invoice },
        },
        audit: { action: 'subscription.bill_late_usage', objectId: row.id, details: { number } },
      };
    });
    if (billed.invoice !== null) await collect(call, billed.invoice);
    return answer;
  },
});

function notEnded(
  subscriptionId: string,
  code: Extract<LateBilling, { kind: 'refused' }>['code'],
): ApiProblem {
  const what =
    code === 'not_ended'
      ? 'has not ended: the next invoice of it bills'
      : 'has ended, and its last invoice is not issued yet: that one bills';
  return new ApiProblem(
    'subscription_not_ended',
    `Subscription ${subscriptionId} ${what} what comes in late. Nothing needs to be done.`,
  );
}
