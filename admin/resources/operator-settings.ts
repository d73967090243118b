import { z } from 'zod';

import {
  lockOperatorSettings,
  readOperatorSettings,
  updateOperatorSettings,
  type OperatorSettings,
} from '../../store/operator-settings.ts';
import { taxRateRefs } from '../../store/plans.ts';
import type { Environment } from '../../store/query.ts';
import { integer, lines, listOf, locale, matching, object, reference, text } from '../fields.ts';
import { operators, readers, route, type Route } from '../route.ts';
import { readTaxRates } from './plan-terms.ts';
import { answers } from './shared.ts';

/** 35 days: as long as late usage is accepted. */
const graceMsMax = 35 * 24 * 60 * 60 * 1000;

const Settings = z
  .strictObject({
    object: z.literal('operator_settings'),
    environment: z.enum(['test', 'live']),
    name: z.string().nullable(),
    address: z.string().nullable(),
    email: z.string().nullable(),
    tax_id: z.string().nullable(),
    footer: z.string().nullable(),
    locale: z.string(),
    draft_grace_ms: z.number().int(),
    tax_rate_ids: z.array(z.string()),
  })
  .meta({ id: 'OperatorSettings' });

const settingsExample = {
  object: 'operator_settings',
  environment: 'test',
  name: 'Example Ltd.',
  address: '1 Main Street\nSpringfield',
  email: 'billing@example.com',
  tax_id: 'DE123456789',
  footer: 'Thank you.',
  locale: 'en-US',
  draft_grace_ms: 3_600_000,
  tax_rate_ids: ['txr_5h2k9x0q7w3m1n8b4v6c2z'],
};

function settingsToWire(
  environment: Environment,
  settings: OperatorSettings,
): z.output<typeof Settings> {
  return {
    object: 'operator_settings',
    environment,
    name: settings.name,
    address: settings.address,
    email: settings.email,
    tax_id: settings.taxId,
    footer: settings.footer,
    locale: settings.locale,
    draft_grace_ms: settings.draftGraceMs,
    tax_rate_ids: [...settings.taxRateIds],
  };
}

const settingsAnswers = (description: string) =>
  answers(200, { description, schema: Settings, example: settingsExample });

export const operatorSettingsRoutes: readonly Route[] = [
  route({
    operationId: 'showOperatorSettings',
    method: 'get',
    path: '/operator_settings',
    tag: 'Operator',
    summary: 'Who sells, and what applies by default',
    roles: readers,
    answers: settingsAnswers('Those of the environment.'),
    handle: async (call) => ({
      status: 200,
      body: settingsToWire(call.environment, await readOperatorSettings(call.db, call.environment)),
    }),
  }),
  route({
    operationId: 'changeOperatorSettings',
    method: 'patch',
    path: '/operator_settings',
    tag: 'Operator',
    summary: 'Say who sells, and what applies by default',
    description: 'Invoices that are final keep what they were issued with.',
    roles: operators,
    body: object({
      name: text(200, 'Heads every invoice.').nullable().optional(),
      address: lines(500, 'As it is printed on invoices.').nullable().optional(),
      email: matching(/^[^\s@<>"]{1,64}@[^\s@<>"]{1,190}$/, 'must be an e-mail address')
        .nullable()
        .optional(),
      tax_id: text(60).nullable().optional(),
      footer: lines(1000, 'Printed below every invoice.').nullable().optional(),
      locale: locale('For subscribers that have none of their own.').optional(),
      draft_grace_ms: integer(
        0,
        graceMsMax,
        'How long an invoice waits as a draft after its period, in ms; usage that comes meanwhile still counts. 0: not at all.',
      ).optional(),
      tax_rates: listOf(
        reference('A tax rate'),
        10,
        'For subscribers and charges that have none of their own.',
      ).optional(),
    }),
    bodyExample: { name: 'Example Ltd.', tax_id: 'DE123456789', locale: 'de-DE' },
    answers: settingsAnswers('Changed.'),
    handle: async (call, { body }) => {
      const taxRateIds =
        body.tax_rates === undefined
          ? undefined
          : readTaxRates(body.tax_rates, await taxRateRefs(call.db, call.environment));
      return call.write(async (tx) => {
        const before = await lockOperatorSettings(tx, call.environment);
        const kept = <T>(given: T | undefined, old: T): T => (given === undefined ? old : given);
        const settings = await updateOperatorSettings(tx, call.environment, {
          name: kept(body.name, before.name),
          address: kept(body.address, before.address),
          email: kept(body.email, before.email),
          taxId: kept(body.tax_id, before.taxId),
          footer: kept(body.footer, before.footer),
          locale: kept(body.locale, before.locale),
          draftGraceMs: kept(body.draft_grace_ms, before.draftGraceMs),
          taxRateIds: kept(taxRateIds, before.taxRateIds),
        });
        return {
          answer: { status: 200, body: settingsToWire(call.environment, settings) },
          audit: {
            action: 'operator_settings.change',
            objectId: call.environment,
            details: { changed: Object.keys(body) },
          },
        };
      });
    },
  }),
];
