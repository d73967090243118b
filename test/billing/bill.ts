import type { Fee, Part } from '../../billing/fees.ts';
import { assembleInvoice, type InvoiceDraft, type InvoiceInput } from '../../billing/invoice.ts';
import type { BillableDefinition, Charge } from '../../billing/plan.ts';
import type { MeterUsage, OverageUsage, Run } from '../../billing/runs.ts';
import type { TaxRate } from '../../billing/tax.ts';

/** What differs from the whole January of one subscription, first invoiced, with nothing used. */
export type Given = Partial<InvoiceInput> & {
  readonly usage?: readonly MeterUsage[];
  readonly overageMicro?: OverageUsage;
  /** False: an earlier invoice of the interval had the fees, and lines of the meters. */
  readonly feeDue?: boolean;
  readonly oneTimeDue?: boolean;
  readonly feePart?: Part;
  /** The part of the interval that minimums are due for. */
  readonly minimumPart?: Part;
  readonly taxRates?: readonly TaxRate[];
};

export const january = { startMs: Date.UTC(2025, 0, 1), endMs: Date.UTC(2025, 1, 1) };

export function runOf(definition: BillableDefinition, more: Partial<Run> = {}): Run {
  return {
    ...{ planVersionId: 'pver_1', definition, isBegun: false, usage: [], ...january },
    overageMicro: { billedBefore: 0n, thisPeriod: 0n },
    ...more,
  };
}

export function feeOf(
  charge: Extract<Charge, { kind: 'recurring' | 'one_time' }>,
  more: Partial<Fee> = {},
): Fee {
  return {
    ...{ kind: charge.kind, chargeId: charge.id, planVersionId: 'pver_1', quantity: 1n },
    ...{ name: charge.display_name, amountMinor: BigInt(charge.amount_minor), part: null },
    ...{ covers: charge.kind === 'recurring' ? january : null, isAhead: false },
    ...more,
  };
}

export function bill(definition: BillableDefinition, given: Given = {}): InvoiceDraft {
  const {
    usage,
    overageMicro,
    feeDue = true,
    oneTimeDue = false,
    feePart,
    minimumPart = null,
    taxRates,
    ...more
  } = given;
  const fees = definition.charges.flatMap((charge): Fee[] => {
    if (charge.kind === 'usage') return [];
    const isDue = charge.kind === 'one_time' ? oneTimeDue : feeDue && charge.bill_in !== 'advance';
    return isDue ? [feeOf(charge, { part: feePart ?? null })] : [];
  });
  const begun = { isBegun: !feeDue, minimumPart };
  const run = { ...begun, ...(usage && { usage }), ...(overageMicro && { overageMicro }) };
  return assembleInvoice({
    ...{ zone: 'UTC', ...january, fees, current: runOf(definition, run), earlier: [], late: [] },
    ...{ minimum: 'now', commitment: null, coupons: [], balanceMinor: 0n },
    taxation: { kind: 'exclusive', rates: { general: taxRates ?? [] } },
    ...more,
  });
}
