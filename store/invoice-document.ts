import { byCoupon } from '../billing/discount.ts';
import { formatAmount, isCurrency } from '../billing/money.ts';
import type { InvoiceDraft } from '../billing/invoice.ts';
import { type Taxation, taxLabel, type TaxRate } from '../billing/tax.ts';
import type { Reader } from './db.ts';
import { readOperatorSettings } from './operator-settings.ts';
import { insertedRow, selectRow } from './query.ts';

/**
 * What a printed invoice says besides its lines, copied when it is finalized: a later change of a name or an address
 * changes no invoice. JSON; amounts are decimal strings in the invoice's currency.
 */
export type InvoiceDocument = {
  readonly v: 1;
  readonly subscriber: {
    readonly id: string;
    readonly lookup_id: string | null;
    readonly name: string;
    readonly email: string | null;
    readonly address: string | null;
    readonly tax_id: string | null;
  };
  /** Null on an invoice that belongs to no subscription. */
  readonly plan: {
    readonly id: string;
    readonly lookup_id: string;
    readonly name: string;
    readonly version: number;
    readonly product: string;
  } | null;
  readonly time_zone: string;
  readonly period_text: string | null;
  readonly taxes: readonly {
    readonly label: string;
    readonly percent: string;
    readonly base: string;
    readonly amount: string;
  }[];
  // What follows is absent on invoices that were issued before it was written.
  /** Who sells. */
  readonly operator?: {
    readonly name: string | null;
    readonly address: string | null;
    readonly email: string | null;
    readonly tax_id: string | null;
    /** Printed at the foot. */
    readonly footer: string | null;
  };
  /** BCP 47: how amounts and dates are printed. */
  readonly locale?: string;
  /** In the order in which they were taken; amounts from zero up. */
  readonly discounts?: readonly { readonly name: string; readonly amount: string }[];
  /** True: the prices hold the tax. */
  readonly tax_included?: boolean;
  /** Sentences that the law or the reader needs: reverse charge, the reason of an exemption. */
  readonly notes?: readonly string[];
  /** How it was taxed, so that credit notes are taxed alike. */
  readonly taxation?: FrozenTaxation;
};

type FrozenTaxation =
  | {
      readonly kind: 'exclusive' | 'inclusive';
      readonly general: readonly TaxRate[];
      readonly by_charge: FrozenRates;
    }
  | { readonly kind: 'exempt'; readonly reason: string; readonly earlier?: FrozenEarlier }
  | { readonly kind: 'reverse_charge'; readonly earlier?: FrozenEarlier };

type FrozenRates = Readonly<Record<string, readonly TaxRate[]>>;
type FrozenEarlier = {
  readonly kind: 'exclusive' | 'inclusive';
  readonly by_charge: FrozenRates;
};

/** For an invoice of a subscription. */
export async function readSubscriptionDocument(
  db: Reader,
  of: {
    readonly environment: string;
    readonly subscriberId: string;
    readonly subscriptionId: string;
    readonly timeZone: string;
  },
  draft: InvoiceDraft,
): Promise<InvoiceDocument> {
  const amount = (minor: bigint): string => formatAmount(minor, draft.currency);
  return {
    v: 1,
    subscriber: await readSubscriber(db, of.subscriberId),
    plan: await readPlan(db, of.subscriptionId),
    ...(await readSeller(db, of)),
    discounts: byCoupon(draft.discounts)
      .filter(({ amountMinor }) => amountMinor > 0n)
      .map(({ name, amountMinor }) => ({ name, amount: amount(amountMinor) })),
    tax_included: draft.taxIncluded,
    notes: notesOf(draft.taxation),
    taxation: freezeTaxation(draft.taxation),
    time_zone: of.timeZone,
    period_text: draft.periodText,
    taxes: draft.taxes.map((tax) => ({
      label: taxLabel(tax),
      percent: tax.percent,
      base: amount(tax.baseMinor),
      amount: amount(tax.amountMinor),
    })),
  };
}

/** For the invoice of a top-up, which nothing is taxed on for now. */
export async function readTopUpDocument(
  db: Reader,
  of: {
    readonly environment: string;
    readonly subscriberId: string;
    readonly currency: string;
    readonly amountMinor: bigint;
  },
): Promise<InvoiceDocument> {
  if (!isCurrency(of.currency)) throw new RangeError(`${of.currency} is not a currency of ours`);
  const subscriber = await insertedRow<{ time_zone: string }>(
    db,
    'SELECT time_zone FROM subscribers WHERE id = ?',
    [of.subscriberId],
  );
  return {
    v: 1,
    subscriber: await readSubscriber(db, of.subscriberId),
    plan: null,
    ...(await readSeller(db, of)),
    time_zone: subscriber.time_zone,
    period_text: null,
    taxes: [
      {
        label: 'Tax (0%)',
        percent: '0',
        base: formatAmount(of.amountMinor, of.currency),
        amount: formatAmount(0n, of.currency),
      },
    ],
  };
}

async function readSeller(
  db: Reader,
  of: { readonly environment: string; readonly subscriberId: string },
): Promise<Required<Pick<InvoiceDocument, 'operator' | 'locale'>>> {
  const { name, address, email, taxId, footer, locale } = await readOperatorSettings(
    db,
    of.environment,
  );
  const subscriber = await insertedRow<{ locale: string | null }>(
    db,
    'SELECT locale FROM subscribers WHERE id = ?',
    [of.subscriberId],
  );
  return {
    operator: { name, address, email, tax_id: taxId, footer },
    locale: subscriber.locale ?? locale,
  };
}

function notesOf(taxation: Taxation): readonly string[] {
  if (taxation.kind === 'reverse_charge') {
    return ['Reverse charge: the customer accounts for the tax.'];
  }
  if (taxation.kind !== 'exempt') return [];
  return [taxation.reason === '' ? 'Exempt from tax.' : `Exempt from tax: ${taxation.reason}`];
}

function freezeTaxation(taxation: Taxation): FrozenTaxation {
  switch (taxation.kind) {
    case 'exclusive':
    case 'inclusive':
      return {
        kind: taxation.kind,
        general: taxation.rates.general,
        by_charge: Object.fromEntries(taxation.rates.byCharge ?? []),
      };
    case 'exempt':
    case 'reverse_charge': {
      const { earlier, ...rest } = taxation;
      if (earlier === undefined) return rest;
      const { kind, byCharge } = earlier;
      return { ...rest, earlier: { kind, by_charge: Object.fromEntries(byCharge) } };
    }
    default:
      return taxation satisfies never;
  }
}

/** How an issued invoice was taxed. Those of before say so only by their taxes, which were none. */
export function taxationOf({ taxation }: InvoiceDocument): Taxation {
  if (taxation === undefined) return { kind: 'exclusive', rates: { general: [] } };
  if (taxation.kind === 'exempt' || taxation.kind === 'reverse_charge') {
    const { earlier, ...rest } = taxation;
    if (earlier === undefined) return rest;
    return {
      ...rest,
      earlier: { kind: earlier.kind, byCharge: new Map(Object.entries(earlier.by_charge)) },
    };
  }
  const { kind, general, by_charge } = taxation;
  return { kind, rates: { general, byCharge: new Map(Object.entries(by_charge)) } };
}

async function readSubscriber(
  db: Reader,
  subscriberId: string,
): Promise<InvoiceDocument['subscriber']> {
  return insertedRow(
    db,
    'SELECT id, lookup_id, name, email, address, tax_id FROM subscribers WHERE id = ?',
    [subscriberId],
  );
}

async function readPlan(db: Reader, subscriptionId: string): Promise<InvoiceDocument['plan']> {
  return selectRow(
    db,
    `SELECT p.id, p.lookup_id, p.name, v.version, d.name AS product
     FROM subscriptions s JOIN plans p ON p.id = s.plan_id JOIN plan_versions v ON v.id = s.plan_version_id
       JOIN products d ON d.id = s.product_id WHERE s.id = ?`,
    [subscriptionId],
  );
}
