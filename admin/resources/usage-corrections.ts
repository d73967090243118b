/** One usage event, and corrections of it: records of their own, each with who, when and why. */
import { z } from 'zod';

import type { Reader } from '../../store/db.ts';
import { allMeters } from '../../store/meters.ts';
import {
  correctUsageEvent,
  listCorrections,
  type CorrectionRefusal,
  type CorrectionRequest,
  type UsageCorrection,
} from '../../store/usage-corrections.ts';
import { readUsageEvent } from '../../store/usage.ts';
import type { Call } from '../call.ts';
import { flag, listOf, object, quantity, reference, text } from '../fields.ts';
import { ApiProblem, fieldProblem, notFound } from '../problems.ts';
import { operators, readers, route, type Route } from '../route.ts';
import { answers, instantText, namedIn, wireInstant } from './shared.ts';
import { eventExample, eventToWire, UsageEventWire } from './usage-events.ts';

const Correction = z
  .strictObject({
    id: z.string(),
    object: z.literal('usage_correction'),
    meter_id: z.string(),
    quantity_before: z.string(),
    quantity_after: z.string(),
    event_count_delta: z
      .number()
      .int()
      .meta({ description: '-1: the event no longer counts for this meter; 1: it does again.' }),
    period_id: z.string().meta({ description: 'The period whose invoice has the difference.' }),
    adjusts_period_id: z
      .string()
      .nullable()
      .meta({ description: 'The closed period that it belongs to; null: period_id.' }),
    reason: z.string(),
    actor: z.string(),
    created_at: instantText(),
  })
  .meta({ id: 'UsageCorrection' });

const EventDetail = z
  .strictObject({ ...UsageEventWire.shape, corrections: z.array(Correction) })
  .meta({ id: 'UsageEventDetail' });

const detailExample = {
  ...eventExample,
  corrected: true,
  corrections: [
    {
      id: 'cor_5h2k9x0q7w3m1n8b4v6c2z',
      object: 'usage_correction',
      meter_id: 'mtr_5h2k9x0q7w3m1n8b4v6c2z',
      quantity_before: '12',
      quantity_after: '10',
      event_count_delta: 0,
      period_id: 'per_5h2k9x0q7w3m1n8b4v6c2z',
      adjusts_period_id: null,
      reason: 'Two pages were blank.',
      actor: 'token:tok_5h2k9x0q7w3m1n8b4v6c2z',
      created_at: '2026-01-02T00:00:00.000Z',
    },
  ],
};

function correctionToWire(correction: UsageCorrection): z.output<typeof Correction> {
  return {
    id: correction.id,
    object: 'usage_correction',
    meter_id: correction.meterId,
    quantity_before: correction.quantityBefore.toString(),
    quantity_after: correction.quantityAfter.toString(),
    event_count_delta: correction.eventCountDelta,
    period_id: correction.periodId,
    adjusts_period_id: correction.adjustsPeriodId,
    reason: correction.reason,
    actor: correction.actor,
    created_at: wireInstant(correction.createdAt),
  };
}

/** The event with its corrections, or 404. */
async function readDetail(call: Call, reader: Reader): Promise<z.output<typeof EventDetail>> {
  const eventId = call.param('event_id');
  const event = await readUsageEvent(reader, call.environment, eventId);
  if (event === null) throw notFound('usage event', eventId);
  const corrections = await listCorrections(reader, event.eventId);
  return {
    ...eventToWire(event),
    corrections: corrections.map((correction) => correctionToWire(correction)),
  };
}

const showEvent = route({
  operationId: 'showUsageEvent',
  method: 'get',
  path: '/usage_events/{event_id}',
  tag: 'Usage',
  summary: 'Show a usage event',
  description: 'The event as it came in, and what was corrected of it since, in order.',
  roles: readers,
  answers: answers(200, {
    description: 'The event.',
    schema: EventDetail,
    example: detailExample,
  }),
  handle: async (call) => ({ status: 200, body: await readDetail(call, call.db) }),
});

const correctionBody = object({
  quantities: listOf(
    object({
      meter_id: reference('A meter of the event'),
      quantity: quantity("What it should have said, in the meter's smallest unit."),
    }),
    16,
    'The right quantities of the meters that were wrong; the others stay.',
  ).optional(),
  void: flag()
    .meta({ description: 'True, instead of quantities: the event should not have been counted.' })
    .optional(),
  reason: text(500, 'Why; it is kept with who asked for it.'),
});
type CorrectionInput = z.output<typeof correctionBody>;

async function requestOf(call: Call, body: CorrectionInput): Promise<CorrectionRequest> {
  if (body.void === true) {
    if (body.quantities === undefined) return { kind: 'void' };
    throw fieldProblem('quantities', 'cannot stand beside void');
  }
  if (body.quantities === undefined || body.quantities.length === 0) {
    throw fieldProblem('quantities', 'must name a meter, unless void is true');
  }
  const meters = await allMeters(call.db, call.environment);
  const quantities = body.quantities.map(({ meter_id, quantity: amount }) => ({
    meterId: namedIn(meters, meter_id)?.id ?? meter_id,
    quantity: amount,
  }));
  const ids = quantities.map(({ meterId }) => meterId);
  const twice = ids.findIndex((id, index) => ids.indexOf(id) < index);
  if (twice !== -1) {
    throw fieldProblem(`quantities[${twice}].meter_id`, 'names a meter a second time');
  }
  return { kind: 'quantities', quantities };
}

const correctEvent = route({
  operationId: 'correctUsageEvent',
  method: 'post',
  path: '/usage_events/{event_id}/corrections',
  tag: 'Usage',
  summary: 'Correct a usage event',
  description: `An event never changes: the correction is a record beside it. While the event's period is open, its invoice has the
corrected quantity; once it is closed, the next invoice of the subscription has the difference as an adjustment, rated with
the prices and tiers of then, credited where it is negative; of a subscription that has ended, its late invoice has it. Where
the invoice was made void, the one that is issued again has the corrected quantity. Quotas that the event has used up are not given back.
Only SUM and COUNT meters are corrected, and events that took no credits.`,
  roles: operators,
  body: correctionBody,
  bodyExample: {
    quantities: [{ meter_id: 'document_page', quantity: 10 }],
    reason: 'Two pages were blank.',
  },
  answers: answers(201, {
    description: 'The event with all its corrections.',
    schema: EventDetail,
    example: detailExample,
  }),
  problems: ['event_not_correctable', 'nothing_to_correct'],
  handle: async (call, { body }) => {
    const request = await requestOf(call, body);
    const eventId = call.param('event_id');
    return call.write(async (tx) => {
      const outcome = await correctUsageEvent(tx, {
        environment: call.environment,
        eventId,
        request,
        reason: body.reason,
        actor: `token:${call.token.id}`,
      });
      if (outcome.kind !== 'corrected') throw problemOfRefusal(eventId, request, outcome);
      return {
        answer: { status: 201, body: await readDetail(call, tx) },
        audit: {
          action: 'usage_events.correct',
          objectId: eventId,
          details: { kind: request.kind, reason: body.reason },
        },
      };
    });
  },
});

function problemOfRefusal(
  eventId: string,
  request: CorrectionRequest,
  refusal: CorrectionRefusal,
): ApiProblem {
  switch (refusal.kind) {
    case 'unknown_event':
      return notFound('usage event', eventId);
    case 'unknown_meter': {
      const quantities = request.kind === 'void' ? [] : request.quantities;
      const index = quantities.findIndex(({ meterId }) => meterId === refusal.meterId);
      return fieldProblem(`quantities[${index}].meter_id`, 'names no meter of this event');
    }
    case 'aggregation':
      return new ApiProblem(
        'event_not_correctable',
        `The meter ${refusal.meterKey} is a ${refusal.aggregation}, of which a single event is no part that could be taken out. Give the money back with a credit note.`,
      );
    case 'credits':
      return new ApiProblem(
        'event_not_correctable',
        'The event took credits. Give them back with a grant.',
      );
    case 'void_invoice':
      return new ApiProblem(
        'event_not_correctable',
        'The invoice of the period of the event is void, and later invoices were rated on top of it. Issue it again first, then correct the event.',
        { extra: { period_id: refusal.periodId } },
      );
    case 'unchanged':
      return new ApiProblem(
        'nothing_to_correct',
        'The event has these quantities already: nothing was changed.',
      );
    default:
      return refusal satisfies never;
  }
}

export const usageCorrectionRoutes: readonly Route[] = [showEvent, correctEvent];
