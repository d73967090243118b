/** The scripts in a real Redis as a subject, over a clock that stands where the test puts it. */
import { createHash } from 'node:crypto';

import type { SegmentConstraints } from '../../billing/constraints.ts';
import { slotOf } from '../../billing/slot.ts';
import { dueKey, epochsKey, factsKey, operationsKey, stateKey } from '../../shards/keys.ts';
import {
  readApplyReply,
  readAuthorizeReply,
  readCreditReply,
  readRecordReply,
  readSealReply,
  readSettleReply,
  readStateReply,
  type Reply,
} from '../../shards/replies.ts';
import {
  applyArguments,
  authorizeArguments,
  creditArguments,
  recordArguments,
  settleArguments,
} from '../../shards/script-arguments.ts';
import { type ScriptName, scriptsOf } from '../../shards/scripts.ts';
import type { Bucket, Command, Plan, Subject } from './command.ts';
import { quantitiesOf } from './model.ts';
import { newSetting, type Setting, type TestShard } from './support.ts';

const clockBody = `local time = call('TIME')
  return time[1] * 1000 + floor(time[2] / 1000)`;

/** Loads the scripts with nothing changed but the clock, which reads a key. */
export async function loadStandingClock(shard: TestShard): Promise<(name: ScriptName) => string> {
  const shas = new Map<string, string>();
  for (const [name, { text }] of Object.entries(scriptsOf('s1', 1))) {
    const changed = text.replace(clockBody, `return tonumber(call('GET', 'test:clock'))`);
    if (changed === text && text.includes('= clock()')) {
      throw new Error(`the clock of ${name} was not found`);
    }
    await shard.raw.script('LOAD', changed);
    shas.set(name, createHash('sha1').update(changed).digest('hex'));
  }
  return (name) => shas.get(name) ?? '';
}

export type ScriptsSubject = Subject & { readonly setting: Setting; readonly base: number };

/** A new subscriber on the shard. `base`: the instant that the commands count from. */
export function createScriptsSubject(
  shard: TestShard,
  sha: (name: ScriptName) => string,
  base: number,
): ScriptsSubject {
  const setting = newSetting();
  const { subscriberId, productId, subscriptionId, keyId } = setting;
  let seq = 0;
  const ops = new Map<string, string>();
  const opOf = (name: string): string => {
    const known = ops.get(name) ?? `20261121-${subscriberId.slice(4, 14)}-${ops.size.toString(36)}`;
    ops.set(name, known);
    return known;
  };
  const run = async (name: ScriptName, rest: readonly string[]): Promise<Reply> => {
    const reply = await shard.raw.evalsha(
      sha(name),
      6,
      stateKey(subscriberId),
      operationsKey(subscriberId, 0),
      operationsKey(subscriberId, 1),
      epochsKey,
      dueKey,
      factsKey,
      String(slotOf(subscriberId)),
      '1',
      subscriberId,
      ...rest,
    );
    if (!Array.isArray(reply)) throw new Error(`${name} answered no list`);
    return reply;
  };
  const digests = {
    good: setting.digest16,
    expired: 'expired000000000000000',
    other_product: 'other00000000000000000',
    unknown: 'unknown000000000000000',
  };
  let now = base;

  const settle = async (
    verb: 'settle' | 'release' | 'slice' | 'extend',
    op: string,
    quantities: ReturnType<typeof quantitiesOf>,
  ): Promise<string> => {
    const result = readSettleReply(
      await run(
        'settle',
        settleArguments({
          subscriberId,
          opId: op,
          generation: Math.floor(now / 300_000),
          atMs: now,
          segmentId: '1',
          subscriptionId,
          productId,
          keyId,
          verb,
          status: 200,
          actuals: quantities.map(({ name, quantity }) => ({ meter: name, quantity })),
          flags: [],
        }),
      ),
    );
    switch (result.kind) {
      case 'ok':
        return `ok charged=${result.chargedMicro} overage=${result.overageMicro} written=${result.writtenOffMicro} available=${result.availableMicro ?? 'none'}`;
      case 'already':
        return `already ${result.verb} ${result.chargedMicro}`;
      case 'late':
        return `late ${result.chargedMicro}`;
      case 'recorded':
      case 'short':
        return result.kind;
      default:
        return result satisfies never;
    }
  };

  const authorize = async (command: Extract<Command, { do: 'authorize' }>): Promise<string> => {
    const result = readAuthorizeReply(
      await run(
        'authorize',
        authorizeArguments({
          subscriberId,
          opId: opOf(command.op),
          digest16: digests[command.key ?? 'good'],
          productId,
          feature: command.feature ?? '',
          ttlMs: command.ttl ?? 60_000,
          estimates: quantitiesOf(command).map(({ name, quantity }) => ({ meter: name, quantity })),
        }),
      ),
    );
    if (result.kind === 'ok') {
      return `ok held=${result.heldMicro} overage=${result.overageMicro} available=${result.availableMicro ?? 'none'}`;
    }
    const { code, limit, used, held, retryable } = result.refusal;
    return `${code} ${limit}/${used}/${held} ${retryable}`;
  };

  const credit = async (
    verb: 'grant' | 'void' | 'debit',
    bucket: Bucket,
    micro: number,
  ): Promise<string> => {
    seq += 1;
    const result = readCreditReply(
      await run(
        'credit',
        creditArguments({
          subscriberId,
          seq,
          verb,
          amountMicro: micro,
          bucket: bucketOf(bucket, base),
        }),
      ),
    );
    if (result.kind !== 'applied') return result.kind;
    return `applied taken=${result.takenMicro} available=${result.availableMicro}`;
  };

  const apply = async (version: number, plans: readonly Plan[]): Promise<string> => {
    const reply = await run(
      'apply',
      applyArguments({
        subscriberId,
        version,
        clockOffsetMs: 0,
        products: [
          { productId, subscriptionId, segments: plans.map((plan) => segmentOfPlan(plan, base)) },
        ],
        keys: [
          { keyId, digest16: digests.good, expiresMs: null, productIds: [productId] },
          { keyId, digest16: digests.expired, expiresMs: 1, productIds: [] },
          {
            keyId,
            digest16: digests.other_product,
            expiresMs: null,
            productIds: [`prod_${'z'.repeat(22)}`],
          },
        ],
      }),
    );
    return readApplyReply(reply).kind;
  };

  const read = async (): Promise<string> => {
    const state = readStateReply(await run('read', []));
    const product = state?.products[0];
    const limits = (product?.limits ?? []).map(({ name, used, held }) => `${name}=${used}+${held}`);
    const buckets = (state?.buckets ?? [])
      .filter((bucket) => bucket.availableMicro > 0 || bucket.heldMicro > 0)
      .map((bucket) => `${bucket.id}=${bucket.availableMicro}+${bucket.heldMicro}`);
    return `segment=${product?.segmentId ?? 'none'} open=${product?.openHolds ?? 0} ${[...limits, ...buckets].join(' ')}`.trim();
  };

  const step = async (command: Command): Promise<string> => {
    switch (command.do) {
      case 'at':
        now = base + command.ms;
        await shard.raw.set('test:clock', now);
        return '';
      case 'apply':
        return apply(command.version, command.plans);
      case 'grant':
      case 'void':
      case 'debit':
        return credit(command.do, command.bucket, command.micro);
      case 'authorize':
        return authorize(command);
      case 'settle':
        return settle('settle', opOf(command.op), quantitiesOf(command));
      case 'release':
      case 'extend':
        return settle(command.do, opOf(command.op), []);
      case 'slice':
        return settle('slice', `${opOf(command.op)}.${command.k.toString(36)}`, [
          { name: 'calls', quantity: command.calls },
        ]);
      case 'expire':
        return String((await run('expire', [opOf(command.op)]))[0]);
      case 'record': {
        const result = readRecordReply(
          await run(
            'record',
            recordArguments({
              subscriberId,
              opId: opOf(command.op),
              productId,
              atMs: command.at === undefined ? now : base + command.at,
              quantities: [{ meter: 'calls', quantity: command.calls }],
            }),
          ),
        );
        if (result.kind === 'already') return 'already';
        return `ok over=${result.overLimit} charged=${result.chargedMicro} overage=${result.overageMicro}`;
      }
      case 'seal': {
        const result = readSealReply(await run('seal', [productId, periodOf(command.period)]), {
          name: 's1',
          incarnation: 1,
        });
        return result.kind === 'open_holds' ? `open_holds ${result.count}` : result.kind;
      }
      case 'read':
        return read();
      default:
        return command satisfies never;
    }
  };
  return { run: step, setting, base };
}

function periodOf(period: number): string {
  return `per_${String(period).padStart(22, '0')}`;
}

function bucketOf(bucket: Bucket, base: number) {
  return {
    id: String(bucket.id),
    unit: 'credit',
    priority: bucket.priority ?? 0,
    class: bucket.promotional === true ? ('promotional' as const) : ('paid' as const),
    effectiveMs: bucket.effective === undefined ? 0 : base + bucket.effective,
    expiresMs: bucket.expires === undefined ? null : base + bucket.expires,
    scope: bucket.scope ?? [],
  };
}

function segmentOfPlan(plan: Plan, base: number): SegmentConstraints {
  return {
    segmentId: String(plan.id),
    periodId: periodOf(plan.period),
    fromMs: base + plan.from,
    untilMs: base + plan.until,
    status: plan.status ?? 'active',
    overage: plan.overage ?? false,
    features: plan.features ?? [],
    rates: [
      ...(plan.rate === undefined ? [] : [{ kind: 'rate' as const, name: 'rate', ...plan.rate }]),
      ...(plan.concurrency === undefined
        ? []
        : [{ kind: 'concurrency' as const, name: 'at once', limit: plan.concurrency }]),
    ],
    limits: (plan.limits ?? []).map((limit) => ({
      name: limit.name,
      level: 'subscription' as const,
      meter: limit.meter ?? 'calls',
      limit: limit.limit,
      hard: limit.soft !== true,
      window:
        typeof limit.window === 'number'
          ? { kind: 'every' as const, anchorMs: base, lengthMs: limit.window }
          : {
              kind: 'span' as const,
              fromMs: base + limit.window[0],
              untilMs: base + limit.window[1],
            },
    })),
    credits:
      plan.price === undefined
        ? null
        : {
            unit: 'credit',
            rates: Object.entries(plan.price).map(([meter, microPerUnit]) => ({
              meter,
              microPerUnit,
            })),
          },
  };
}
