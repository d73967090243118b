import { z } from 'zod';

import { formatCredits } from '../../billing/credits.ts';
import type { ProblemCode } from '../../billing/problem.ts';
import { inTransaction, type Tx } from '../../store/db.ts';
import { readEventTime } from '../../store/external-event-reads.ts';
import {
  insertExternalEvents,
  waitForCounted,
  type ExternalResult,
  type ExternalUsage,
  type InsertedEvent,
  type NewExternalEvent,
} from '../../store/external-events.ts';
import { allMeters, type MeterRow } from '../../store/meters.ts';
import { findProduct } from '../../store/products.ts';
import { listSubscriptions, type SubscriptionRead } from '../../store/subscription-reads.ts';
import { findSubscriber } from '../../store/subscribers.ts';
import { hasPlace } from '../../store/usage-placement.ts';
import { listUsageEvents, type UsageEvent } from '../../store/usage.ts';
import type { Call } from '../call.ts';
import {
  instant,
  listOf,
  matching,
  object,
  pageQuery,
  quantity,
  reference,
  text,
} from '../fields.ts';
import { fieldProblem } from '../problems.ts';
import { ingesters, readers, route, type Route } from '../route.ts';
import {
  answers,
  instantText,
  listOfAnswers,
  listExample,
  namedIn,
  wireInstant,
} from './shared.ts';
import { subscriberIdOf } from './subscribers.ts';

const DAY_MS = 86_400_000;
const AGE_DAYS_MAX = 35;
const AHEAD_MS_MAX = 5 * 60_000;

const rowStatus = z.enum(['counted', 'accepted', 'duplicate', 'conflict', 'refused']).meta({
  description: `counted: in the subscriber's counters · accepted: written down for ever, counted soon · duplicate: known, counted once ·
conflict: the id names another event · refused: not written down, see code and message`,
});

const EventResult = z
  .strictObject({
    id: z.string(),
    status: rowStatus,
    event_id: z.string().nullable(),
    over_limit: z
      .boolean()
      .nullable()
      .meta({ description: 'Past a hard limit: marked, never dropped.' }),
    credits_charged: z.string().nullable(),
    credits_overage: z.string().nullable(),
    code: z.string().nullable(),
    message: z.string().nullable(),
  })
  .meta({ id: 'UsageEventResult' });

const EventResults = z
  .strictObject({ object: z.literal('usage_event_results'), results: z.array(EventResult) })
  .meta({ id: 'UsageEventResults' });

export const UsageEventWire = z
  .strictObject({
    event_id: z.string(),
    object: z.literal('usage_event'),
    environment: z.enum(['test', 'live']),
    source: z.string().nullable(),
    id: z
      .string()
      .nullable()
      .meta({ description: 'The id that the sender gave; null for the gateway.' }),
    subscriber_id: z.string(),
    subscription_id: z.string(),
    period_id: z.string().meta({
      description:
        'The period whose invoice has it; of what came in after the subscription had ended, one that no list of periods has.',
    }),
    adjusts_period_id: z
      .string()
      .nullable()
      .meta({ description: 'The closed period that it came too late for.' }),
    product_id: z.string(),
    api_key_id: z.string().nullable(),
    occurred_at: instantText(),
    received_at: instantText(),
    status: z.number().int().meta({ description: 'HTTP status; 0 for usage from outside.' }),
    quantities: z.array(z.strictObject({ meter_id: z.string(), quantity: z.string() })),
    credits: z.string(),
    credits_overage: z.string(),
    credits_written_off: z.string(),
    flags: z.array(z.string()),
    corrected: z.boolean().meta({
      description: 'Quantities are as they came in; GET of the event shows what was corrected.',
    }),
  })
  .meta({ id: 'UsageEvent' });

const usedQuantity = quantity(
  "In the meter's smallest unit; 1 when absent beside a value. Of a WEIGHTED_SUM the level from then on.",
);
const countedValue = text(
  200,
  'Of a UNIQUE_COUNT meter, and only of one: what it counts once, such as a user id.',
);

const eventBody = object({
  id: matching(
    /^[\x21-\x7e]{1,200}$/,
    'must be 1 to 200 visible ASCII characters',
    'Your id of the event: the same id is counted once, for ever.',
  ),
  source: matching(
    /^[A-Za-z0-9][A-Za-z0-9_.:-]{0,62}$/,
    'must be a short name such as batch-jobs',
    'Whose ids these are; api when absent.',
  ).optional(),
  subscriber_id: reference('Who used it'),
  product_id: reference(
    'Of which product; the only one that the subscriber has when absent',
  ).optional(),
  occurred_at: instant(
    'When the work was done; now when absent. At most 35 days ago, within a subscription to the product.',
  ).optional(),
  meter_id: reference('What was used').optional(),
  quantity: usedQuantity.optional(),
  value: countedValue.optional(),
  quantities: listOf(
    object({
      meter_id: reference('What was used'),
      quantity: usedQuantity.optional(),
      value: countedValue.optional(),
    }),
    16,
    'Instead of meter_id, quantity and value, when an event has several.',
  ).optional(),
});
type EventInput = z.output<typeof eventBody>;

const resultExample = {
  id: 'job-4711',
  status: 'counted',
  event_id: '20260101-x0123456789abcde-0',
  over_limit: false,
  credits_charged: '0',
  credits_overage: '0',
  code: null,
  message: null,
};
export const eventExample = {
  event_id: '20260101-x0123456789abcde-0',
  object: 'usage_event',
  environment: 'test',
  source: 'api',
  id: 'job-4711',
  subscriber_id: 'sbr_5h2k9x0q7w3m1n8b4v6c2z',
  subscription_id: 'sub_5h2k9x0q7w3m1n8b4v6c2z',
  period_id: 'per_5h2k9x0q7w3m1n8b4v6c2z',
  adjusts_period_id: null,
  product_id: 'prod_5h2k9x0q7w3m1n8b4v6c2z',
  api_key_id: null,
  occurred_at: '2026-01-01T00:00:00.000Z',
  received_at: '2026-01-01T00:00:01.000Z',
  status: 0,
  quantities: [{ meter_id: 'mtr_5h2k9x0q7w3m1n8b4v6c2z', quantity: '12' }],
  credits: '0',
  credits_overage: '0',
  credits_written_off: '0',
  flags: ['external'],
  corrected: false,
};

type RowResult = z.output<typeof EventResult>;
type Refused = { readonly kind: 'refused'; readonly code: ProblemCode; readonly message: string };
type RowReading =
  | { readonly kind: 'event'; readonly event: NewExternalEvent; readonly isDated: boolean }
  | Refused;

function refuse(code: ProblemCode, message: string): Refused {
  return { kind: 'refused', code, message };
}

/** What the rows of one call are read against; each subscriber is looked up once. */
type Catalogue = {
  readonly call: Call;
  readonly meters: readonly MeterRow[];
  readonly subscribers: Map<string, Promise<Known | null>>;
  readonly nowMs: number;
};
type Known = { readonly id: string; readonly subscriptions: readonly SubscriptionRead[] };

async function readRow(from: Catalogue, input: EventInput): Promise<RowReading> {
  const atMs = input.occurred_at?.getTime() ?? from.nowMs;
  if (atMs < from.nowMs - AGE_DAYS_MAX * DAY_MS) {
    return refuse('validation_failed', `occurred_at is more than ${AGE_DAYS_MAX} days ago`);
  }
  if (atMs > from.nowMs + AHEAD_MS_MAX) {
    return refuse('validation_failed', 'occurred_at is more than 5 minutes ahead');
  }
  const used = readUse(from.meters, input);
  if ('kind' in used) return used;
  const subscriber = await knownSubscriber(from, input.subscriber_id);
  if (subscriber === null)
    return refuse('not_found', `there is no subscriber ${input.subscriber_id}`);
  const product = await productOf(from, subscriber, input.product_id);
  if (product.kind === 'refused') return refuse(product.code, product.message);
  const event: NewExternalEvent = {
    environment: from.call.environment,
    source: input.source ?? 'api',
    id: input.id,
    subscriberId: subscriber.id,
    usage: { product_id: product.id, at_ms: atMs, quantities: used },
  };
  if (!(await canBePlaced(from.call, event))) {
    const when = new Date(atMs).toISOString();
    return refuse('subscription_inactive', `no subscription to the product held at ${when}`);
  }
  return { kind: 'event', isDated: input.occurred_at !== undefined, event };
}

/** What was used of which meters, in the catalogue's keys. */
function readUse(
  meters: readonly MeterRow[],
  input: EventInput,
): ExternalUsage['quantities'] | Refused {
  const used: { meter: string; quantity: number; value?: string }[] = [];
  for (const { meter_id, quantity: amount, value } of quantitiesOf(input)) {
    const meter = namedIn(meters, meter_id);
    if (meter === undefined) return refuse('meter_unknown', `there is no meter ${meter_id}`);
    if (used.some((one) => one.meter === meter.lookup_id)) {
      return refuse('validation_failed', `names the meter ${meter_id} twice`);
    }
    const isCounted = meter.aggregation === 'UNIQUE_COUNT';
    if (isCounted && value === undefined) {
      return refuse('validation_failed', `the meter ${meter_id} counts what differs: give a value`);
    }
    if (!isCounted && value !== undefined) {
      return refuse(
        'validation_failed',
        `the meter ${meter_id} is a ${meter.aggregation}: only a UNIQUE_COUNT takes a value`,
      );
    }
    const quantityUsed = Number(amount ?? 1n);
    used.push({
      meter: meter.lookup_id,
      quantity: quantityUsed,
      ...(value !== undefined && { value }),
    });
  }
  return used;
}

/** A repeat of an event that was written down is told what became of it, also when the subscription has ended since. */
async function canBePlaced({ db }: Call, event: NewExternalEvent): Promise<boolean> {
  const { subscriberId, usage } = event;
  const use = { subscriberId, productId: usage.product_id, atMs: usage.at_ms };
  return (await hasPlace(db, use)) || (await readEventTime(db, event)) !== null;
}

type Use = {
  readonly meter_id: string;
  readonly quantity?: bigint | undefined;
  readonly value?: string | undefined;
};

function quantitiesOf(input: EventInput): readonly Use[] {
  if (input.quantities !== undefined) return input.quantities;
  return [{ meter_id: input.meter_id ?? '', quantity: input.quantity, value: input.value }];
}

/** The two ways to say what was used do not mix; that is a fault of the call, not of the row. */
function checkShape(input: EventInput, at: string): void {
  const { meter_id, quantity: amount, value, quantities } = input;
  if (quantities === undefined) {
    if (meter_id === undefined) throw fieldProblem(`${at}.meter_id`, 'is required');
    checkAmount({ quantity: amount, value }, at);
    return;
  }
  if (meter_id !== undefined || amount !== undefined || value !== undefined) {
    throw fieldProblem(`${at}.quantities`, 'cannot stand beside meter_id, quantity and value');
  }
  if (quantities.length === 0) throw fieldProblem(`${at}.quantities`, 'must name a meter');
  for (const [index, use] of quantities.entries()) checkAmount(use, `${at}.quantities[${index}]`);
}

function checkAmount(use: Omit<Use, 'meter_id'>, at: string): void {
  if (use.quantity === undefined && use.value === undefined) {
    throw fieldProblem(`${at}.quantity`, 'is required');
  }
}

async function knownSubscriber(from: Catalogue, ref: string): Promise<Known | null> {
  const cached = from.subscribers.get(ref);
  if (cached !== undefined) return cached;
  const reading = readSubscriber(from.call, ref);
  from.subscribers.set(ref, reading);
  return reading;
}

async function readSubscriber(call: Call, ref: string): Promise<Known | null> {
  const row = await findSubscriber(call.db, call.environment, ref);
  if (row === null) return null;
  const page = await listSubscriptions(
    call.db,
    { environment: call.environment, subscriberId: row.id, state: null },
    { limit: 100, after: null },
  );
  return { id: row.id, subscriptions: page.rows };
}

type ProductReading =
  | { readonly kind: 'product'; readonly id: string }
  | { readonly kind: 'refused'; readonly code: ProblemCode; readonly message: string };

async function productOf(
  from: Catalogue,
  subscriber: Known,
  ref: string | undefined,
): Promise<ProductReading> {
  const ids = new Set(subscriber.subscriptions.map(({ product_id }) => product_id));
  if (ref === undefined) {
    const [only] = ids;
    if (only !== undefined && ids.size === 1) return { kind: 'product', id: only };
    return only === undefined
      ? {
          kind: 'refused',
          code: 'subscription_inactive',
          message: 'the subscriber has no subscription',
        }
      : {
          kind: 'refused',
          code: 'product_needed',
          message: 'the subscriber has several products: name one with product_id',
        };
  }
  const product = await findProduct(from.call.db, from.call.environment, ref);
  if (product === null) {
    return { kind: 'refused', code: 'product_not_found', message: `there is no product ${ref}` };
  }
  return ids.has(product.id)
    ? { kind: 'product', id: product.id }
    : {
        kind: 'refused',
        code: 'subscription_inactive',
        message: `the subscriber has no subscription to ${ref}`,
      };
}

type Event_ = Extract<RowReading, { kind: 'event' }>;

/** Writes the good rows down in one transaction, and says of each what became of it. */
async function record(call: Call, rows: readonly Event_[]): Promise<readonly InsertedEvent[]> {
  if (rows.length === 0) return [];
  return inTransaction(call.db, async (tx, now) => {
    const inserted = await insertExternalEvents(
      tx,
      rows.map(({ event }) => event),
      now,
    );
    const accepted = inserted.filter(({ kind }) => kind === 'accepted').length;
    if (accepted > 0) {
      await call.audit(tx, {
        action: 'usage_events.record',
        objectId: inserted[0]?.opId ?? '',
        details: { accepted },
      });
    }
    return Promise.all(
      inserted.map(async (row, index) => {
        const given = rows[index];
        return row.kind === 'conflict' && given !== undefined && !given.isDated
          ? repeatOfUndated(tx, given.event, { row, now })
          : row;
      }),
    );
  });
}

/** An event that named no time means the same when it comes again later: it is compared at the first one's time. */
async function repeatOfUndated(
  tx: Tx,
  event: NewExternalEvent,
  { row, now }: { readonly row: InsertedEvent; readonly now: Date },
): Promise<InsertedEvent> {
  const atMs = await readEventTime(tx, event);
  if (atMs === null) return row;
  const [again] = await insertExternalEvents(
    tx,
    [{ ...event, usage: { ...event.usage, at_ms: atMs } }],
    now,
  );
  return again ?? row;
}

function resultOf(
  id: string,
  inserted: InsertedEvent,
  counted: ReadonlyMap<string, ExternalResult>,
): RowResult {
  const nothing = { over_limit: null, credits_charged: null, credits_overage: null };
  if (inserted.kind === 'conflict') {
    return {
      id,
      status: 'conflict',
      event_id: inserted.opId,
      ...nothing,
      code: 'duplicate_request',
      message: 'this id names an event with other content',
    };
  }
  const result = counted.get(inserted.opId);
  const told =
    result === undefined
      ? nothing
      : {
          over_limit: result.over_limit,
          credits_charged: formatCredits(BigInt(result.charged_micro)),
          credits_overage: formatCredits(BigInt(result.overage_micro)),
        };
  const status =
    inserted.kind === 'duplicate' ? 'duplicate' : result === undefined ? 'accepted' : 'counted';
  return { id, status, event_id: inserted.opId, ...told, code: null, message: null };
}

const recordEvents = route({
  operationId: 'recordUsageEvents',
  method: 'post',
  path: '/usage_events',
  tag: 'Usage',
  summary: 'Record usage that did not pass the gateway',
  description: `1 to 100 events. Each has a result of its own: a row that is refused does not hold up the others. An event is counted
once for ever by (source, id), like a request that was served; past a hard limit it is marked over_limit, never dropped.
A malformed body is refused as a whole.`,
  roles: ingesters,
  body: object({
    events: listOf(eventBody, 100).min(1, 'must have at least one event'),
  }),
  bodyExample: {
    events: [{ id: 'job-4711', subscriber_id: 'acme', meter_id: 'document_page', quantity: 12 }],
  },
  answers: answers(200, {
    description: 'In the order of the events.',
    schema: EventResults,
    example: { object: 'usage_event_results', results: [resultExample] },
  }),
  handle: async (call, { body }) => {
    for (const [index, event] of body.events.entries()) checkShape(event, `events[${index}]`);
    const from: Catalogue = {
      call,
      meters: await allMeters(call.db, call.environment),
      subscribers: new Map(),
      nowMs: Date.now(),
    };
    const readings: RowReading[] = [];
    for (const event of body.events) {
      // One after the other: subscribers repeat within a call and are looked up once.
      // oxlint-disable-next-line no-await-in-loop
      readings.push(await readRow(from, event));
    }
    const inserted = await record(
      call,
      readings.filter((reading) => reading.kind === 'event'),
    );
    const counted = await waitForCounted(
      call.db,
      inserted.flatMap(({ kind, opId }) => (kind === 'conflict' ? [] : [opId])),
      { timeoutMs: call.deps.waits.countedMs },
    );
    let next = 0;
    const results = readings.map((reading, index): RowResult => {
      const id = body.events[index]?.id ?? '';
      if (reading.kind === 'refused') {
        return {
          id,
          status: 'refused',
          event_id: null,
          over_limit: null,
          credits_charged: null,
          credits_overage: null,
          code: reading.code,
          message: reading.message,
        };
      }
      const row = inserted[next];
      next += 1;
      if (row === undefined) throw new Error('an event has no result');
      return resultOf(id, row, counted);
    });
    return { status: 200, body: { object: 'usage_event_results', results } };
  },
});

export function eventToWire(event: UsageEvent): z.output<typeof UsageEventWire> {
  return {
    event_id: event.eventId,
    object: 'usage_event',
    environment: event.environment === 'live' ? 'live' : 'test',
    source: event.source,
    id: event.externalId,
    subscriber_id: event.subscriberId,
    subscription_id: event.subscriptionId,
    period_id: event.periodId,
    adjusts_period_id: event.adjustsPeriodId,
    product_id: event.productId,
    api_key_id: event.apiKeyId,
    occurred_at: wireInstant(event.occurredAt),
    received_at: wireInstant(event.receivedAt),
    status: event.status,
    quantities: event.quantities.map(({ meterId, quantity: amount }) => ({
      meter_id: meterId,
      quantity: amount.toString(),
    })),
    credits: formatCredits(event.creditsMicro),
    credits_overage: formatCredits(event.overageMicro),
    credits_written_off: formatCredits(event.writtenOffMicro),
    flags: [...event.flags],
    corrected: event.isCorrected,
  };
}

const listEvents = route({
  operationId: 'listUsageEvents',
  method: 'get',
  path: '/usage_events',
  tag: 'Usage',
  summary: 'List usage events',
  description: 'Every served request and every event from outside, newest first.',
  roles: readers,
  query: object({
    ...pageQuery,
    subscriber_id: reference('Of this subscriber').optional(),
    subscription_id: reference('Of this subscription').optional(),
    period_id: reference('Of this period').optional(),
    meter_id: reference('With this meter').optional(),
    from: instant('Occurred at or after.').optional(),
    until: instant('Occurred before.').optional(),
  }),
  answers: answers(200, {
    description: 'Newest first.',
    schema: listOfAnswers(UsageEventWire, 'UsageEventList'),
    example: listExample(eventExample),
  }),
  handle: async (call, { query }) => {
    const { meter_id } = query;
    const meters = meter_id === undefined ? [] : await allMeters(call.db, call.environment);
    try {
      const page = await listUsageEvents(call.db, {
        environment: call.environment,
        subscriberId: await subscriberIdOf(call, query.subscriber_id),
        subscriptionId: query.subscription_id,
        periodId: query.period_id,
        meterId: meter_id === undefined ? undefined : (namedIn(meters, meter_id)?.id ?? meter_id),
        fromAt: query.from,
        untilAt: query.until,
        cursor: query.cursor,
        limit: query.limit ?? 20,
      });
      return {
        status: 200,
        body: {
          object: 'list',
          data: page.events.map((event) => eventToWire(event)),
          has_more: page.nextCursor !== null,
          next_cursor: page.nextCursor,
        },
      };
    } catch (error) {
      if (error instanceof RangeError) {
        throw fieldProblem('cursor', 'must be the next_cursor of the page before');
      }
      throw error;
    }
  },
});

export const usageEventRoutes: readonly Route[] = [recordEvents, listEvents];
