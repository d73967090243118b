/** What the gateway enforces of a subscription: what was compiled of its terms, beside what its shard holds. */
import { z } from 'zod';

import { compileConstraints } from '../../billing/compile.ts';
import type { ProductConstraints } from '../../billing/constraints.ts';
import { readCompileInput, readProgress } from '../../store/projection.ts';
import { constraintWords, syncWords } from '../constraint-words.ts';
import { readers, route } from '../route.ts';
import { periodExample } from './invoice-shapes.ts';
import { answers } from './shared.ts';
import { requireSubscription } from './subscription-shapes.ts';
import { readShard } from './wallets.ts';

const Constraints = z
  .strictObject({
    object: z.literal('constraints'),
    subscription_id: z.string(),
    in_sync: z.boolean(),
    sync: z.string(),
    rules: z.array(z.string()).meta({ description: 'What was compiled, in words.' }),
    now: z.array(z.string()).meta({ description: 'What the shard counts, in words.' }),
    compiled: z.record(z.string(), z.unknown()).nullable(),
    shard: z.record(z.string(), z.unknown()).nullable(),
  })
  .meta({ id: 'Constraints' });

const constraintsExample = {
  object: 'constraints',
  subscription_id: periodExample.subscription_id,
  in_sync: true,
  sync: 'In sync: the shard holds version 3 and credit entry 0, as Postgres does.',
  rules: [
    'Active; in force until 2025-02-01T00:00:00.000Z.',
    'From then on the next period begins.',
  ],
  now: ['0 requests are running.'],
  compiled: {},
  shard: {},
};

export const showConstraints = route({
  operationId: 'showConstraints',
  method: 'get',
  path: '/subscriptions/{subscription_id}/constraints',
  tag: 'Subscriptions',
  summary: 'What the gateway enforces',
  description:
    'What was compiled from the commercial settings, beside what the shard holds, in words and in full.',
  roles: readers,
  answers: answers(200, {
    description: 'Both.',
    schema: Constraints,
    example: constraintsExample,
  }),
  handle: async (call) => {
    const row = await requireSubscription(call);
    const input = await readCompileInput(call.db, row.subscriber_id);
    const compiled = input === null ? null : compileConstraints(input);
    const product: ProductConstraints = compiled?.products.find(
      ({ subscriptionId }) => subscriptionId === row.id,
    ) ?? {
      productId: row.product_id,
      subscriptionId: row.id,
      segments: [],
    };
    const progress = await readProgress(call.db, row.subscriber_id);
    const reading = await readShard(call, row.subscriber_id);
    const state = reading.kind === 'away' ? null : reading.state;
    const sync =
      reading.kind === 'away'
        ? { inSync: false, words: 'The shard does not answer; what is compiled waits for it.' }
        : syncWords({
            version: compiled?.version ?? 0,
            coreSeq: Number(progress.coreSeq),
            state,
          });
    const words = constraintWords(product, state, Date.now());
    return {
      status: 200,
      body: {
        object: 'constraints',
        subscription_id: row.id,
        in_sync: sync.inSync,
        sync: sync.words,
        rules: words.rules,
        now: words.now,
        compiled: compiled === null ? null : { version: compiled.version, ...product },
        shard:
          state === null
            ? null
            : {
                version: state.version,
                coreSeq: state.coreSeq,
                product:
                  state.products.find(({ productId }) => productId === row.product_id) ?? null,
                buckets: state.buckets,
              },
      },
    };
  },
});
