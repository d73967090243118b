import { z } from 'zod';

import { formatCredits } from '../../billing/credits.ts';
import { parseAmount } from '../../billing/money.ts';
import { givenCreditLimits } from '../../billing/shard-limits.ts';
import { ShardUnavailable, type SubscriberState } from '../../shards/port.ts';
import { bucketsAhead, creditsAhead } from '../../store/bucket-reads.ts';
import { creditDefinitions } from '../../store/credit-definitions.ts';
import { findMeter } from '../../store/meters.ts';
import { waitForApplied } from '../../store/projection.ts';
import { findTopUp, listTopUps, type TopUpRead } from '../../store/top-up-reads.ts';
import type { Tx } from '../../store/db.ts';
import { createTopUp } from '../../store/top-ups.ts';
import { creditRoom, ensureWallet, grantCredits, walletBalances } from '../../store/wallets.ts';
import { summaries } from '../../workflows/contracts.ts';
import type { Call } from '../call.ts';
import {
  currencyCode,
  decimal,
  instant,
  integer,
  listOf,
  matching,
  object,
  oneOf,
  reference,
} from '../fields.ts';
import { ApiProblem, fieldProblem, notFound } from '../problems.ts';
import { operators, readers, route, type Route } from '../route.ts';
import { storedCurrency } from './invoice-shapes.ts';
import { amountOf } from './plan-shapes.ts';
import { readCredits } from './plan-terms.ts';
import {
  amountText,
  answers,
  instantText,
  listBody,
  listExample,
  listOfAnswers,
  listQuery,
  pageArgs,
  wireInstant,
} from './shared.ts';
import { requireSubscriber } from './subscribers.ts';

const creditText = (description: string) => z.string().meta({ description, example: '12.5' });

const TopUp = z
  .strictObject({
    id: z.string(),
    object: z.literal('top_up'),
    environment: z.enum(['test', 'live']),
    subscriber_id: z.string(),
    unit: z.string(),
    credits: creditText('What is bought.'),
    credits_taken_back: z.string().meta({
      description: 'Of them, what credit notes on its invoice took back.',
      example: '0',
    }),
    amount: amountText('What it costs.'),
    currency: z.string(),
    state: z.enum(['pending', 'granted', 'declined', 'failed']),
    decline_code: z.string().nullable(),
    invoice_id: z.string().nullable(),
    created_at: instantText(),
  })
  .meta({ id: 'TopUp' });

const Grant = z
  .strictObject({
    id: z.string(),
    object: z.literal('grant'),
    environment: z.enum(['test', 'live']),
    subscriber_id: z.string(),
    unit: z.string(),
    credits: creditText('What was given.'),
    class: z.enum(['promotional', 'paid']),
    priority: z.number().int(),
    effective_at: instantText(),
    expires_at: instantText().nullable(),
    scope: z.array(z.string()),
    in_effect: z.boolean().meta({ description: 'Whether the gateways know already.' }),
  })
  .meta({ id: 'Grant' });

const Balance = z
  .strictObject({
    object: z.literal('balance'),
    subscriber_id: z.string(),
    wallets: z.array(
      z.strictObject({
        unit: z.string(),
        credit_definition: z
          .string()
          .nullable()
          .meta({ description: 'What one of them is, in the words of the product.' }),
        granted: creditText('All that was ever given; the sum of the next four.'),
        available: creditText('What the ledger says is left, with what is held.'),
        ahead: creditText('Part of available that belongs to a period to come.'),
        spent: z.string(),
        expired: z.string(),
        refunded: z.string(),
        now: z
          .strictObject({
            spendable: creditText('What the next request may take.'),
            held: creditText('For requests that run now.'),
          })
          .nullable()
          .meta({ description: 'As the gateway sees it; null when its shard does not answer.' }),
      }),
    ),
  })
  .meta({ id: 'Balance' });

const topUpExample = {
  id: 'top_5h2k9x0q7w3m1n8b4v6c2z',
  object: 'top_up',
  environment: 'test',
  subscriber_id: 'sbr_5h2k9x0q7w3m1n8b4v6c2z',
  unit: 'credit',
  credits: '1000',
  credits_taken_back: '0',
  amount: '25.00',
  currency: 'USD',
  state: 'granted',
  decline_code: null,
  invoice_id: 'inv_5h2k9x0q7w3m1n8b4v6c2z',
  created_at: '2026-01-01T00:00:00.000Z',
};
const grantExample = {
  id: 'grant_5h2k9x0q7w3m1n8b4v6c2z',
  object: 'grant',
  environment: 'test',
  subscriber_id: 'sbr_5h2k9x0q7w3m1n8b4v6c2z',
  unit: 'credit',
  credits: '250',
  class: 'promotional',
  priority: 100,
  effective_at: '2026-01-01T00:00:00.000Z',
  expires_at: null,
  scope: [],
  in_effect: true,
};
const balanceExample = {
  object: 'balance',
  subscriber_id: 'sbr_5h2k9x0q7w3m1n8b4v6c2z',
  wallets: [
    {
      unit: 'credit',
      credit_definition: 'One credit is one call.',
      granted: '250',
      available: '237.5',
      ahead: '0',
      spent: '12.5',
      expired: '0',
      refunded: '0',
      now: { spendable: '236.5', held: '1' },
    },
  ],
};

const unitField = () =>
  matching(
    /^[a-z][a-z0-9_]{0,62}$/,
    'must be a word such as credit',
    'Which wallet; credit when absent.',
  );

function topUpToWire(row: TopUpRead): z.output<typeof TopUp> {
  return {
    id: row.id,
    object: 'top_up',
    environment: row.environment,
    subscriber_id: row.subscriber_id,
    unit: row.unit,
    credits: formatCredits(row.credits_micro),
    credits_taken_back: formatCredits(row.taken_back_micro),
    amount: amountOf(row.amount_minor, storedCurrency(row.currency)) ?? '0',
    currency: row.currency,
    state: row.state,
    decline_code: row.decline_code,
    invoice_id: row.invoice_id,
    created_at: wireInstant(row.created_at),
  };
}

async function requireTopUp(call: Call, id: string): Promise<TopUpRead> {
  const topUp = await findTopUp(call.db, call.environment, id);
  if (topUp === null) throw notFound('top-up', id);
  return topUp;
}

/** The business key of a purchase or gift: its Idempotency-Key when there is one, else this one request. */
function businessKeyOf(call: Call, what: string): string {
  return `${what}:${call.token.id}:${call.idempotency?.key ?? call.requestId}`;
}

/** Refuses credits that the subscriber's shard would not take, before anything is paid or written. */
async function requireCreditRoom(tx: Tx, wanted: Parameters<typeof creditRoom>[1]): Promise<void> {
  const room = await creditRoom(tx, wanted);
  if (room.kind === 'balance_full') {
    const most = formatCredits(givenCreditLimits.balanceMicro);
    throw new ApiProblem(
      'conflict',
      `With these, the subscriber would hold ${formatCredits(room.wouldBeMicro)} credits that were given or bought; ${most} is the most. Take fewer, or wait until some are spent.`,
    );
  }
  if (room.kind === 'buckets_full') {
    throw new ApiProblem(
      'conflict',
      `The subscriber holds credits on ${givenCreditLimits.buckets} different terms, and there can be no more. Give them the unit, class, priority, scope, effective_at and expires_at of earlier ones, or wait until some are spent or expire.`,
    );
  }
}

const createTopUpRoute = route({
  operationId: 'createTopUp',
  method: 'post',
  path: '/subscribers/{subscriber_id}/top_ups',
  tag: 'Credits',
  summary: 'Sell credits to a subscriber',
  description: `Charges the payment method, then grants: 201 when both are done, 202 while they go on, 402 when the payment
was declined. Send an Idempotency-Key: a repeat with it never charges twice.`,
  roles: operators,
  body: object({
    credits: decimal('How many, up to 6 places.'),
    amount: decimal('What they cost, in the currency.'),
    currency: currencyCode(),
    unit: unitField().optional(),
  }),
  bodyExample: { credits: '1000', amount: '25.00', currency: 'USD' },
  answers: answers(
    201,
    { description: 'Paid and granted.', schema: TopUp, example: topUpExample },
    {
      202: {
        description: 'It goes on; ask for the top-up again.',
        schema: TopUp,
        example: { ...topUpExample, state: 'pending', invoice_id: null },
      },
    },
  ),
  problems: [
    'conflict',
    'payment_method_needed',
    'payment_declined',
    'workflow_engine_unavailable',
  ],
  handle: async (call, { body }) => {
    const subscriber = await requireSubscriber(call, call.param('subscriber_id'));
    const creditsMicro = readCredits(body.credits, 'credits');
    if (creditsMicro === 0n) throw fieldProblem('credits', 'must be above 0');
    const amountMinor = parseAmount(body.amount, body.currency);
    if (amountMinor === null) throw fieldProblem('amount', `must be an amount of ${body.currency}`);
    if (amountMinor === 0n) {
      throw fieldProblem('amount', 'must be above 0; credits that cost nothing are a grant');
    }
    if (subscriber.payment_method === null) {
      throw new ApiProblem(
        'payment_method_needed',
        `The subscriber has no payment method. Set one with PATCH /api/v1/subscribers/${subscriber.id}.`,
      );
    }
    const topUpId = await call.begin(async (tx, now) => {
      const unit = body.unit ?? 'credit';
      const businessKey = businessKeyOf(call, 'top_up');
      await requireCreditRoom(tx, {
        subscriberId: subscriber.id,
        unit,
        businessKey,
        amountMicro: creditsMicro,
        class: 'paid',
        effectiveAt: now,
        expiresAt: null,
      });
      const walletId = await ensureWallet(tx, { subscriberId: subscriber.id, unit });
      const made = await createTopUp(tx, {
        environment: call.environment,
        subscriberId: subscriber.id,
        walletId,
        creditsMicro,
        amountMinor,
        currency: body.currency,
        businessKey,
      });
      return {
        value: made.topUpId,
        audit: {
          action: 'top_up.create',
          objectId: made.topUpId,
          details: { subscriber_id: subscriber.id, credits: body.credits, amount: body.amount },
        },
      };
    });
    const reply = await call.deps.engine.topUp(topUpId, {
      waitMs: call.deps.waits.workflowMs,
      summary: summaries.topUp({ subscriberName: subscriber.name, credits: body.credits }),
    });
    const topUp = await requireTopUp(call, topUpId);
    if (topUp.state === 'declined' || topUp.state === 'failed') {
      throw new ApiProblem(
        'payment_declined',
        `The payment was ${topUp.state === 'declined' ? 'declined' : 'not made'}; no credits were granted.`,
        { extra: { top_up: topUpToWire(topUp) } },
      );
    }
    const isDone = reply.kind === 'done' && topUp.state === 'granted';
    return { status: isDone ? 201 : 202, body: topUpToWire(topUp) };
  },
});

const createGrant = route({
  operationId: 'createGrant',
  method: 'post',
  path: '/subscribers/{subscriber_id}/grants',
  tag: 'Credits',
  summary: 'Give credits',
  description: 'Without a payment: a gift, a correction, credits that were paid elsewhere.',
  roles: operators,
  body: object({
    credits: decimal('How many, up to 6 places.'),
    unit: unitField().optional(),
    class: oneOf(['promotional', 'paid'], 'promotional when absent.').optional(),
    priority: integer(0, 1000, 'Low burns first; 100 when absent.').optional(),
    effective_at: instant('Now when absent.').optional(),
    expires_at: instant('Never when absent.').nullable().optional(),
    scope: listOf(
      reference('Meter'),
      16,
      'What they may pay for; everything when absent.',
    ).optional(),
  }),
  bodyExample: { credits: '250' },
  answers: answers(201, { description: 'Given.', schema: Grant, example: grantExample }),
  problems: ['conflict'],
  handle: async (call, { body }) => {
    const subscriber = await requireSubscriber(call, call.param('subscriber_id'));
    const amountMicro = readCredits(body.credits, 'credits');
    if (amountMicro === 0n) throw fieldProblem('credits', 'must be above 0');
    const scope = await scopeOf(call, body.scope ?? []);
    const made = await call.begin(async (tx, now) => {
      const effectiveAt = body.effective_at ?? now;
      const expiresAt = body.expires_at ?? null;
      if (expiresAt !== null && expiresAt <= effectiveAt) {
        throw fieldProblem('expires_at', 'must lie after effective_at');
      }
      const terms = {
        unit: body.unit ?? 'credit',
        class: body.class ?? 'promotional',
        priority: body.priority ?? 100,
        effectiveAt,
        expiresAt,
        scope,
      } as const;
      const given = {
        ...terms,
        environment: call.environment,
        subscriberId: subscriber.id,
        businessKey: businessKeyOf(call, 'manual'),
        source: 'manual',
        amountMicro,
      } as const;
      await requireCreditRoom(tx, given);
      const granted = await grantCredits(tx, given);
      return {
        value: { granted, terms },
        audit: {
          action: 'grant.create',
          objectId: granted.grantId,
          details: { subscriber_id: subscriber.id, credits: body.credits },
        },
      };
    });
    const isApplied = await waitForApplied(
      call.db,
      subscriber.id,
      { coreSeq: made.granted.coreSeq },
      { timeoutMs: call.deps.waits.appliedMs },
    );
    const { terms } = made;
    return {
      status: 201,
      body: {
        id: made.granted.grantId,
        object: 'grant',
        environment: call.environment,
        subscriber_id: subscriber.id,
        unit: terms.unit,
        credits: formatCredits(amountMicro),
        class: terms.class,
        priority: terms.priority,
        effective_at: wireInstant(terms.effectiveAt),
        expires_at: wireInstant(terms.expiresAt),
        scope: [...scope],
        in_effect: isApplied,
      },
    };
  },
});

async function scopeOf(call: Call, refs: readonly string[]): Promise<readonly string[]> {
  const keys: string[] = [];
  for (const [index, ref] of refs.entries()) {
    // In order: the first fault is the one that is told.
    // oxlint-disable-next-line no-await-in-loop
    const meter = await findMeter(call.db, call.environment, ref);
    if (meter === null) {
      throw fieldProblem(`scope[${index}]`, 'names no meter of this environment');
    }
    keys.push(meter.lookup_id);
  }
  return keys.toSorted();
}

/** What the subscriber's shard holds, without credits of periods to come; `state` null when it holds nothing. */
export async function readShard(
  call: Pick<Call, 'deps'>,
  subscriberId: string,
): Promise<
  { readonly kind: 'state'; readonly state: SubscriberState | null } | { readonly kind: 'away' }
> {
  try {
    const state = await call.deps.shards.read(subscriberId);
    if (state === null) return { kind: 'state', state };
    const ahead = await bucketsAhead(call.deps.db, subscriberId);
    const buckets = state.buckets.filter(({ id }) => !ahead.has(id));
    return { kind: 'state', state: { ...state, buckets } };
  } catch (error) {
    if (error instanceof ShardUnavailable) return { kind: 'away' };
    throw error;
  }
}

const showBalance = route({
  operationId: 'showBalance',
  method: 'get',
  path: '/subscribers/{subscriber_id}/balance',
  tag: 'Credits',
  summary: 'Show the credits of a subscriber',
  roles: readers,
  answers: answers(200, { description: 'By unit.', schema: Balance, example: balanceExample }),
  handle: async (call) => {
    const subscriber = await requireSubscriber(call, call.param('subscriber_id'));
    const wallets = await walletBalances(call.db, subscriber.id);
    const ahead = await creditsAhead(call.db, subscriber.id);
    const definitions = await creditDefinitions(call.db, {
      environment: call.environment,
      subscriberId: subscriber.id,
    });
    const reading = await readShard(call, subscriber.id);
    return {
      status: 200,
      body: {
        object: 'balance',
        subscriber_id: subscriber.id,
        wallets: wallets.map((wallet) => ({
          unit: wallet.unit,
          credit_definition: definitions.get(wallet.unit) ?? null,
          granted: formatCredits(wallet.granted),
          available: formatCredits(wallet.available),
          ahead: formatCredits(ahead.get(wallet.unit) ?? 0n),
          spent: formatCredits(wallet.spent),
          expired: formatCredits(wallet.expired),
          refunded: formatCredits(wallet.refunded),
          now: reading.kind === 'away' ? null : spendable(reading.state, wallet.unit),
        })),
      },
    };
  },
});

function spendable(
  state: SubscriberState | null,
  unit: string,
): { readonly spendable: string; readonly held: string } {
  const buckets = (state?.buckets ?? []).filter((bucket) => bucket.unit === unit);
  const sum = (pick: (bucket: (typeof buckets)[number]) => number): bigint =>
    buckets.reduce((total, bucket) => total + BigInt(pick(bucket)), 0n);
  return {
    spendable: formatCredits(sum(({ availableMicro }) => availableMicro)),
    held: formatCredits(sum(({ heldMicro }) => heldMicro)),
  };
}

export const walletRoutes: readonly Route[] = [
  createTopUpRoute,
  route({
    operationId: 'listTopUps',
    method: 'get',
    path: '/subscribers/{subscriber_id}/top_ups',
    tag: 'Credits',
    summary: 'List the top-ups of a subscriber',
    roles: readers,
    query: listQuery,
    answers: answers(200, {
      description: 'Newest first.',
      schema: listOfAnswers(TopUp, 'TopUpList'),
      example: listExample(topUpExample),
    }),
    handle: async (call, { query }) => {
      const subscriber = await requireSubscriber(call, call.param('subscriber_id'));
      return {
        status: 200,
        body: listBody(await listTopUps(call.db, subscriber.id, pageArgs(query)), topUpToWire),
      };
    },
  }),
  route({
    operationId: 'showTopUp',
    method: 'get',
    path: '/top_ups/{top_up_id}',
    tag: 'Credits',
    summary: 'Show a top-up',
    roles: readers,
    answers: answers(200, { description: 'It.', schema: TopUp, example: topUpExample }),
    handle: async (call) => ({
      status: 200,
      body: topUpToWire(await requireTopUp(call, call.param('top_up_id'))),
    }),
  }),
  createGrant,
  showBalance,
];
