/** How the invoices of a subscriber are taxed: which rates apply to which charge, and whether any do. */
import type { AddOnTerm } from '../billing/fees.ts';
import type { PlanDefinition } from '../billing/plan.ts';
import { type Taxation, type TaxRate, withTaxOfThen } from '../billing/tax.ts';
import type { Reader } from './db.ts';
import { type InvoiceDocument, taxationOf } from './invoice-document.ts';
import { insertedRow, selectRows } from './query.ts';
import { taxRatesById } from './tax-rates.ts';

type Taxed = {
  readonly environment: string;
  readonly subscriberId: string;
  /** Charges of other versions on the same invoice may stand among its charges. */
  readonly definition: Pick<PlanDefinition, 'charges' | 'prices_include_tax'>;
  readonly addOns: readonly AddOnTerm[];
};

type Subscriber = {
  readonly status: 'taxable' | 'exempt' | 'reverse_charge';
  readonly reason: string | null;
  readonly generalIds: readonly string[];
};

/**
 * The taxation of an invoice. A charge or add-on with rates of its own has those; every other line has the
 * subscriber's, and where the subscriber has none set, the operator's. An archived rate applies where it was given.
 * @throws Error when something names a rate that does not exist.
 */
export async function readTaxation(db: Reader, of: Taxed): Promise<Taxation> {
  const subscriber = await readSubscriber(db, of);
  switch (subscriber.status) {
    case 'exempt':
      return { kind: 'exempt', reason: subscriber.reason ?? '' };
    case 'reverse_charge':
      return { kind: 'reverse_charge' };
    case 'taxable': {
      const own = ownRateIds(of);
      const rates = await readRates(db, of.environment, [
        ...subscriber.generalIds,
        ...[...own.values()].flat(),
      ]);
      return {
        kind: of.definition.prices_include_tax === true ? 'inclusive' : 'exclusive',
        rates: {
          general: rates(subscriber.generalIds),
          byCharge: new Map([...own].map(([id, rateIds]) => [id, rates(rateIds)])),
        },
      };
    }
    default:
      return subscriber.status satisfies never;
  }
}

/** The same, but that lines which give back what an invoice billed take back its tax, whatever holds now. */
export async function withTaxesOfThen(
  db: Reader,
  now: Taxation,
  given: readonly { readonly chargeId: string; readonly invoiceId: string }[],
): Promise<Taxation> {
  if (given.length === 0) return now;
  const rows = await selectRows<{ id: string; document: InvoiceDocument }>(
    db,
    'SELECT id, document FROM invoices WHERE id = ANY (?::text[])',
    [given.map(({ invoiceId }) => invoiceId)],
  );
  const taxations = new Map(rows.map(({ id, document }) => [id, taxationOf(document)]));
  const then = given.flatMap(({ chargeId, invoiceId }) => {
    const taxation = taxations.get(invoiceId);
    return taxation === undefined ? [] : [[chargeId, taxation] as const];
  });
  return withTaxOfThen(now, new Map(then));
}

/** An empty list of a subscriber says that nothing is taxed; NULL says that the operator's rates are meant. */
async function readSubscriber(db: Reader, of: Taxed): Promise<Subscriber> {
  return insertedRow<Subscriber>(
    db,
    `SELECT s.tax_status AS status, s.tax_exempt_reason AS reason,
            coalesce(s.tax_rate_ids, o.tax_rate_ids) AS "generalIds"
     FROM subscribers s JOIN operator_settings o ON o.environment = s.environment
     WHERE s.id = ? AND s.environment = ?`,
    [of.subscriberId, of.environment],
  );
}

/** By what stands in `chargeId` of a line. A charge without rates, or with none listed, has the general ones. */
function ownRateIds({ definition, addOns }: Taxed): ReadonlyMap<string, readonly string[]> {
  return new Map(
    [
      ...definition.charges.map(({ id, tax_rate_ids }) => [id, tax_rate_ids ?? []] as const),
      ...addOns.map(({ id, taxRateIds }) => [id, taxRateIds] as const),
    ].filter(([, rateIds]) => rateIds.length > 0),
  );
}

async function readRates(
  db: Reader,
  environment: string,
  ids: readonly string[],
): Promise<(ids: readonly string[]) => readonly TaxRate[]> {
  const known = await taxRatesById(db, environment, [...new Set(ids)]);
  return (wanted) =>
    wanted.map((id) => {
      const rate = known.get(id);
      if (rate === undefined) throw new Error(`there is no tax rate ${id} in ${environment}`);
      return { name: rate.name, percent: rate.percent };
    });
}
