import { formatCreditUnits } from './credits.ts';
import { grouped } from './decimal.ts';
import { formatMoney, formatUnitPrice } from './money.ts';
import { intervalText } from './periods.ts';
import type { Charge, CreditTerms, PlanDefinition, PlanFeature, RateLimit } from './plan.ts';
import { priceText } from './price-text.ts';
import { formatQuantity } from './quantity.ts';

/**
 * What a subscriber would notice between two versions of a plan. Each version is read as parts (charges, features, rate
 * limits, credits, the plan itself), each part as facts in words; what differs in its words has changed. Ids are not
 * compared: the same charge has another one in every version.
 */
export type PlanChange = {
  /** Where: `charges.usage.api_calls.price`, `features.seats.limit`, `interval`. */
  readonly path: string;
  readonly kind: 'added' | 'removed' | 'changed';
  readonly before: string | null;
  readonly after: string | null;
  /** One sentence for people. */
  readonly sentence: string;
};

type Part = {
  /** Empty for the plan itself. */
  readonly path: string;
  /** Begins a sentence: `The charge "API calls"`. */
  readonly subject: string;
  readonly summary: string;
  readonly facts: readonly Fact[];
};

/** One thing that a part says; null where it says nothing of it. */
type Fact = { readonly name: string; readonly noun: string; readonly value: string | null };

/** Every change from one version to another, in the order of the later one; what is gone stands last of its kind. */
export function diffPlans(before: PlanDefinition, after: PlanDefinition): readonly PlanChange[] {
  return [
    ...factChanges(planPart(before), planPart(after)),
    ...chargeChanges(before, after),
    ...namedChanges(before.features.map(featurePart), after.features.map(featurePart)),
    ...namedChanges(before.rate_limits.map(ratePart), after.rate_limits.map(ratePart)),
    ...creditChanges(before, after),
  ];
}

function planPart(plan: PlanDefinition): Part {
  const { currency, interval, commitment_minor, invoice_threshold_minor } = plan;
  const money = (minor: string | undefined): string | null =>
    minor === undefined ? null : formatMoney(BigInt(minor), currency);
  return {
    path: '',
    subject: 'The plan',
    summary: '',
    facts: [
      { name: 'currency', noun: 'currency', value: currency },
      { name: 'interval', noun: 'billing interval', value: intervalText(interval) },
      { name: 'billing_time', noun: 'billing time', value: plan.billing_time },
      { name: 'proration', noun: 'proration', value: `by the ${plan.proration ?? 'day'}` },
      {
        name: 'prices_include_tax',
        noun: 'tax',
        value: plan.prices_include_tax === true ? 'included in the prices' : 'added to the prices',
      },
      { name: 'commitment', noun: 'commitment', value: money(commitment_minor) },
      {
        name: 'invoice_threshold',
        noun: 'invoice threshold',
        value: money(invoice_threshold_minor),
      },
    ],
  };
}

/** Pairs charges by all they say, then by meter or kind and name, then (a fee that was renamed) by kind and amount. */
function chargeChanges(before: PlanDefinition, after: PlanDefinition): PlanChange[] {
  const old = chargeParts(before);
  const next = chargeParts(after);
  const ways: readonly ((charge: ChargePart) => string | null)[] = [
    ({ part, identity }) => JSON.stringify([identity, part.facts]),
    ({ identity }) => identity,
    ({ amount }) => amount,
  ];
  const partner = new Map<ChargePart, ChargePart>();
  const taken = new Set<ChargePart>();
  for (const way of ways) {
    for (const charge of next.filter((candidate) => !partner.has(candidate))) {
      const found = old.find(
        (candidate) =>
          !taken.has(candidate) && way(charge) !== null && way(candidate) === way(charge),
      );
      if (found === undefined) continue;
      partner.set(charge, found);
      taken.add(found);
    }
  }
  return [
    ...next.flatMap((charge) => {
      const was = partner.get(charge);
      return was === undefined ? [added(charge.part)] : factChanges(was.part, charge.part);
    }),
    ...old.filter((charge) => !taken.has(charge)).map(({ part }) => removed(part)),
  ];
}

type ChargePart = {
  readonly part: Part;
  /** What makes it the same charge in another version. */
  readonly identity: string;
  /** Kind and amount of a fee; null of a usage charge. */
  readonly amount: string | null;
};

function chargeParts(plan: PlanDefinition): readonly ChargePart[] {
  const seen = new Map<string, number>();
  return plan.charges.map((charge) => {
    const name = charge.kind === 'usage' ? charge.meter.key : slug(charge.display_name);
    const bare = `charges.${charge.kind}.${name}`;
    const count = (seen.get(bare) ?? 0) + 1;
    seen.set(bare, count);
    const path = count === 1 ? bare : `${bare}_${count}`;
    const isUsage = charge.kind === 'usage';
    return {
      part: chargePart(charge, plan, path),
      identity: isUsage ? `usage ${charge.meter.id}` : bare,
      amount: isUsage ? null : `${charge.kind} ${charge.amount_minor}`,
    };
  });
}

function slug(name: string): string {
  return name.toLowerCase().replaceAll(/[^\p{L}\p{N}]+/gu, '_');
}

function chargePart(charge: Charge, plan: PlanDefinition, path: string): Part {
  const facts = [
    { name: 'display_name', noun: 'label', value: charge.display_name },
    ...(charge.kind === 'usage' ? usageFacts(charge, plan) : feeFacts(charge, plan)),
    { name: 'tax_rates', noun: 'own tax', value: taxText(charge.tax_rate_ids) },
  ];
  const [, first] = facts;
  return {
    path,
    subject: `The charge ${JSON.stringify(charge.display_name)}`,
    summary: first?.value ?? '',
    facts,
  };
}

function taxText(ids: readonly string[] | undefined): string | null {
  return ids === undefined || ids.length === 0 ? null : ids.toSorted().join(', ');
}

function feeFacts(charge: Exclude<Charge, { kind: 'usage' }>, plan: PlanDefinition): Fact[] {
  const amount = formatMoney(BigInt(charge.amount_minor), plan.currency);
  const fee: Fact = { name: 'amount', noun: 'amount', value: amount };
  if (charge.kind === 'one_time') return [fee];
  return [fee, { name: 'bill_in', noun: 'billing', value: `in ${charge.bill_in ?? 'arrears'}` }];
}

function usageFacts(charge: Extract<Charge, { kind: 'usage' }>, plan: PlanDefinition): Fact[] {
  const { meter, included_units, minimum_minor, maximum_minor } = charge;
  const money = (minor: string | undefined): string | null =>
    minor === undefined ? null : formatMoney(BigInt(minor), plan.currency);
  const included =
    included_units === '0' ? null : formatQuantity(BigInt(included_units), meter.scale);
  return [
    { name: 'price', noun: 'price', value: priceText(charge.price, plan.currency) },
    { name: 'included_units', noun: 'allowance', value: included },
    { name: 'minimum', noun: 'minimum', value: money(minimum_minor) },
    { name: 'maximum', noun: 'maximum', value: money(maximum_minor) },
    { name: 'meter.key', noun: 'meter key', value: meter.key },
    { name: 'meter.name', noun: 'meter name', value: meter.name },
    { name: 'meter.unit', noun: 'unit', value: `${meter.unit_one} / ${meter.unit_other}` },
    { name: 'meter.scale', noun: 'scale', value: String(meter.scale) },
    { name: 'meter.aggregation', noun: 'aggregation', value: meter.aggregation },
  ];
}

function featurePart(feature: PlanFeature): Part {
  const limit = feature.limit === null ? null : grouped(feature.limit);
  return {
    path: `features.${feature.key}`,
    subject: `The feature ${JSON.stringify(feature.key)}`,
    summary:
      limit === null
        ? 'without a limit'
        : `${feature.limit_type} limit of ${limit} each ${feature.reset_interval}`,
    facts: [
      { name: 'limit', noun: 'limit', value: limit },
      { name: 'limit_type', noun: 'kind of limit', value: feature.limit_type },
      { name: 'reset_interval', noun: 'reset interval', value: feature.reset_interval },
      { name: 'meter', noun: 'meter', value: feature.meter_key },
    ],
  };
}

function ratePart(rate: RateLimit): Part {
  const value =
    rate.kind === 'concurrency'
      ? `${grouped(String(rate.limit))} at once`
      : `${grouped(String(rate.limit))} in ${windowText(rate.window_ms)}`;
  return {
    path: `rate_limits.${rate.name}`,
    subject: `The rate limit ${JSON.stringify(rate.name)}`,
    summary: value,
    facts: [{ name: 'limit', noun: 'limit', value }],
  };
}

/** In the largest unit that the window is whole of. */
function windowText(ms: number): string {
  const units = [
    { name: 'day', ms: 86_400_000 },
    { name: 'hour', ms: 3_600_000 },
    { name: 'minute', ms: 60_000 },
    { name: 'second', ms: 1000 },
  ];
  const unit = units.find((candidate) => ms % candidate.ms === 0) ?? { name: 'ms', ms: 1 };
  const count = ms / unit.ms;
  return `${grouped(String(count))} ${unit.name}${count === 1 || unit.name === 'ms' ? '' : 's'}`;
}

function creditChanges(before: PlanDefinition, after: PlanDefinition): PlanChange[] {
  const old = before.credits === null ? null : creditPart(before.credits, before);
  const next = after.credits === null ? null : creditPart(after.credits, after);
  if (old === null || next === null) {
    if (next !== null) return [added(next)];
    return old === null ? [] : [removed(old)];
  }
  return [
    ...factChanges(old, next),
    ...namedChanges(burnParts(before.credits), burnParts(after.credits)),
  ];
}

function creditPart(terms: CreditTerms, plan: PlanDefinition): Part {
  const price = (given: string | null): string | null =>
    given === null ? null : `${formatUnitPrice(given, plan.currency)} per credit`;
  const { overage } = terms;
  const overagePrice = price(overage?.credit_price ?? null);
  const included = formatCreditUnits(BigInt(terms.included_micro), terms.unit);
  return {
    path: 'credits',
    subject: 'The sale of credits',
    summary: `${included} included; ${terms.burn.map(burnText).join(', ')}`,
    facts: [
      { name: 'unit', noun: 'unit', value: terms.unit },
      { name: 'included', noun: 'allowance', value: included },
      { name: 'credit_price', noun: 'price of a credit', value: price(terms.credit_price) },
      {
        name: 'overage',
        noun: 'overage',
        value: overage === null ? null : `${overage.enabled ? 'on' : 'off'}, ${overagePrice}`,
      },
    ],
  };
}

function burnParts(terms: CreditTerms | null): readonly Part[] {
  return (terms?.burn ?? []).map((rate) => ({
    path: `credits.burn.${rate.meter_key}`,
    subject: `The burn rate of ${rate.meter_key}`,
    summary: burnText(rate),
    facts: [{ name: 'credits', noun: 'amount', value: burnText(rate) }],
  }));
}

function burnText(rate: CreditTerms['burn'][number]): string {
  const cost = formatCreditUnits(BigInt(rate.micro_per_unit), 'credit');
  return `${cost} for one smallest unit of ${rate.meter_key}`;
}

/** Parts that have a name of their own, paired by it. */
function namedChanges(before: readonly Part[], after: readonly Part[]): PlanChange[] {
  const old = new Map(before.map((part) => [part.path, part]));
  const next = new Set(after.map(({ path }) => path));
  return [
    ...after.flatMap((part) => {
      const was = old.get(part.path);
      return was === undefined ? [added(part)] : factChanges(was, part);
    }),
    ...before.filter(({ path }) => !next.has(path)).map((part) => removed(part)),
  ];
}

function added(part: Part): PlanChange {
  return {
    path: part.path,
    kind: 'added',
    before: null,
    after: part.summary,
    sentence: `${part.subject} is new: ${part.summary}.`,
  };
}

function removed(part: Part): PlanChange {
  return {
    path: part.path,
    kind: 'removed',
    before: part.summary,
    after: null,
    sentence: `${part.subject} is gone; it was: ${part.summary}.`,
  };
}

/** Both parts are of one kind, so that they have the same facts in the same order. */
function factChanges(before: Part, after: Part): PlanChange[] {
  return after.facts.flatMap((fact, index): PlanChange[] => {
    const was = before.facts[index]?.value ?? null;
    if (was === fact.value) return [];
    const path = after.path === '' ? fact.name : `${after.path}.${fact.name}`;
    const what = `The ${fact.noun} of ${lowerFirst(after.subject)}`;
    if (was === null) {
      const sentence = `${what} is new: ${fact.value}.`;
      return [{ path, kind: 'added', before: null, after: fact.value, sentence }];
    }
    if (fact.value === null) {
      const sentence = `${what} is gone; it was ${was}.`;
      return [{ path, kind: 'removed', before: was, after: null, sentence }];
    }
    const sentence = `${what} changes from ${was} to ${fact.value}.`;
    return [{ path, kind: 'changed', before: was, after: fact.value, sentence }];
  });
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
