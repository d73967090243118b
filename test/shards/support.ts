/** One real shard for a test, open, owning every slot; and constraints to put on it. */
import { Redis } from 'ioredis';

import type {
  LimitConstraint,
  ProductConstraints,
  RateConstraint,
  SegmentConstraints,
  SubscriberConstraints,
} from '../../billing/constraints.ts';
import { type StreamFact, parseFact } from '../../billing/usage-fact.ts';
import { slotCount } from '../../billing/slot.ts';
import { openShardLink, type ShardLink } from '../../shards/admin-client.ts';
import { createShards } from '../../shards/client.ts';
import type {
  AuthorizeRequest,
  AuthorizeResult,
  CreditEntry,
  SettleRequest,
  Shards,
  SlotMap,
} from '../../shards/port.ts';
import { newId } from '../../store/ids.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';

export type TestShard = {
  readonly redis: TestRedis;
  /** A plain connection, to look at what the scripts left. */
  readonly raw: Redis;
  readonly link: ShardLink;
  readonly shards: Shards;
  map: SlotMap;
  facts(subscriberId: string): Promise<StreamFact[]>;
  close(): Promise<void>;
};

export function mapOf(url: string, incarnation = 1, epoch = 1, version = 1): SlotMap {
  return {
    version,
    shards: [{ name: 's1', url, incarnation, state: 'open' }],
    owners: new Int16Array(slotCount),
    epochs: new Uint32Array(slotCount).fill(epoch),
  };
}

export async function openTestShard(
  settings: Readonly<Record<string, string>> = {},
): Promise<TestShard> {
  const redis = await startRedis({ settings });
  const raw = new Redis(redis.url);
  raw.on('error', () => {});
  const link = openShardLink({ name: 's1', url: redis.url });
  await link.loadScripts(1);
  await link.writeEpochs(new Map(Array.from({ length: slotCount }, (_, slot) => [slot, 1])));
  const state = { map: mapOf(redis.url) };
  const shards = createShards({
    mapSource: () => state.map,
    connectionOptions: { commandTimeoutMs: 5000, connectWaitMs: 5000 },
  });
  return {
    redis,
    raw,
    link,
    shards,
    get map() {
      return state.map;
    },
    set map(map) {
      state.map = map;
    },
    facts: async (subscriberId) =>
      (await link.readStream('0-0', 100_000, 0))
        .map((entry) => parseFact(entry.fact))
        .filter((fact) => fact.subscriberId === subscriberId),
    close: async () => {
      await shards.close();
      await link.close();
      raw.disconnect();
      await redis.stop();
    },
  };
}

/** One product, one key, one segment that began an hour ago and lasts 30 days; `segment` overrides. */
export type Setting = {
  readonly subscriberId: string;
  readonly productId: string;
  readonly subscriptionId: string;
  readonly keyId: string;
  readonly digest16: string;
};

let counter = 0;
export function newSetting(): Setting {
  counter += 1;
  return {
    subscriberId: newId('sbr'),
    productId: newId('prod'),
    subscriptionId: newId('sub'),
    keyId: newId('key'),
    digest16: `digest${String(counter).padStart(16, '0')}`,
  };
}

const hourMs = 3_600_000;
let segmentNumber = 0;

export function segmentOf(overrides: Partial<SegmentConstraints> = {}): SegmentConstraints {
  segmentNumber += 1;
  const now = Date.now();
  return {
    segmentId: String(segmentNumber),
    periodId: newId('per'),
    fromMs: now - hourMs,
    untilMs: now + 30 * 24 * hourMs,
    status: 'active',
    overage: false,
    features: [],
    rates: [],
    limits: [],
    credits: null,
    ...overrides,
  };
}

export function constraintsOf(
  setting: Setting,
  segments: readonly SegmentConstraints[],
  overrides: Partial<SubscriberConstraints> = {},
): SubscriberConstraints {
  return {
    subscriberId: setting.subscriberId,
    version: 1,
    clockOffsetMs: 0,
    products: [productOf(setting, segments)],
    keys: [{ keyId: setting.keyId, digest16: setting.digest16, expiresMs: null, productIds: [] }],
    ...overrides,
  };
}

function productOf(setting: Setting, segments: readonly SegmentConstraints[]): ProductConstraints {
  return { productId: setting.productId, subscriptionId: setting.subscriptionId, segments };
}

export function spanLimit(
  meter: string,
  limit: number,
  overrides: Partial<LimitConstraint> = {},
): LimitConstraint {
  return {
    name: meter,
    level: 'subscription',
    meter,
    limit,
    hard: true,
    window: { kind: 'span', fromMs: 1, untilMs: 4_000_000_000_000 },
    ...overrides,
  };
}

export function rateOf(limit: number, windowMs: number, name = 'per_window'): RateConstraint {
  return { kind: 'rate', name, limit, windowMs };
}

/** The plan sells credits; a call costs `microPerUnit`. */
export function creditsFor(microPerUnit: number, meter = 'calls'): SegmentConstraints['credits'] {
  return { unit: 'credit', rates: [{ meter, microPerUnit }] };
}

let bucketNumber = 100;
export function grantOf(
  setting: Setting,
  seq: number,
  amountMicro: number,
  bucket: Partial<CreditEntry['bucket']> = {},
): CreditEntry {
  bucketNumber += 1;
  return {
    subscriberId: setting.subscriberId,
    seq,
    verb: 'grant',
    bucket: {
      id: String(bucketNumber),
      unit: 'credit',
      priority: 0,
      class: 'paid',
      effectiveMs: 0,
      expiresMs: null,
      scope: [],
      ...bucket,
    },
    amountMicro,
  };
}

let opNumber = 0;
/** An operation's name that no other test has used. */
export function newOp(): string {
  opNumber += 1;
  return `20261121-testop${process.pid.toString(36).padStart(4, '0').slice(-4)}-${opNumber.toString(36)}`;
}

export function authorizeOf(
  setting: Setting,
  overrides: Partial<AuthorizeRequest> = {},
): AuthorizeRequest {
  return {
    subscriberId: setting.subscriberId,
    opId: newOp(),
    digest16: setting.digest16,
    productId: setting.productId,
    feature: '',
    ttlMs: 60_000,
    estimates: [{ meter: 'calls', quantity: 1 }],
    ...overrides,
  };
}

/** The settle of what an authorize held; `actual` of `calls`. */
export function settleOf(
  request: AuthorizeRequest,
  held: AuthorizeResult,
  overrides: Partial<SettleRequest> = {},
): SettleRequest {
  if (held.kind !== 'ok') throw new Error(`refused: ${held.refusal.code}`);
  return {
    subscriberId: request.subscriberId,
    opId: request.opId,
    generation: held.generation,
    atMs: held.atMs,
    segmentId: held.segmentId,
    subscriptionId: held.subscriptionId,
    productId: request.productId,
    keyId: held.keyId,
    verb: 'settle',
    status: 200,
    actuals: request.estimates,
    flags: [],
    ...overrides,
  };
}
