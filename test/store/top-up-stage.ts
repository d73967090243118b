import { type Db, inTransaction, type Tx } from '../../store/db.ts';
import type { InvoiceDocument } from '../../store/invoice-document.ts';
import { invoiceKeys, issueInvoice } from '../../store/invoices.ts';
import { type Payment, recordOutcome } from '../../store/payments.ts';
import { insertedRow, selectRow } from '../../store/query.ts';
import { postDebit } from '../../store/credit-facts.ts';
import { createTopUp, ensureTopUpPayment, grantTopUp } from '../../store/top-ups.ts';
import { ensureWallet } from '../../store/wallets.ts';

export type Bought = {
  readonly topUpId: string;
  readonly invoiceId: string;
  readonly grantId: string;
  readonly bucketId: bigint;
};

let bought = 0;

/**
 * Credits that were bought and paid for, with their invoice; the subscriber needs a payment method. `taxMinor`: 19 % that
 * the invoice adds, as operators would sell them who tax credits when they are bought.
 */
export async function buyCredits(
  db: Db,
  subscriberId: string,
  of: {
    readonly credits: number;
    readonly minor: bigint;
    readonly taxMinor?: bigint;
    /** Takes the money from a provider and answers its reference; by default nobody is asked. */
    readonly charge?: (payment: Payment) => Promise<string>;
  },
): Promise<Bought> {
  bought += 1;
  const at = new Date();
  const { minor, taxMinor = 0n } = of;
  return inTransaction(db, async (tx) => {
    const { topUpId } = await createTopUp(tx, {
      ...{ environment: 'test', subscriberId, amountMinor: minor + taxMinor, currency: 'USD' },
      creditsMicro: BigInt(Math.round(of.credits * 1_000_000)),
      walletId: await ensureWallet(tx, { subscriberId, unit: 'credit' }),
      businessKey: `bought:${subscriberId}:${bought}`,
    });
    const payment = await ensureTopUpPayment(tx, topUpId);
    if (payment === null) throw new Error('the subscriber has nothing to pay with');
    const providerRef = (await of.charge?.(payment)) ?? `ch_${topUpId}`;
    const outcome = { kind: 'succeeded', providerRef } as const;
    await recordOutcome(tx, { paymentId: payment.id, outcome, at });
    if (taxMinor > 0n) await issueTaxed(tx, { subscriberId, topUpId, minor, taxMinor });
    const { topUp } = await grantTopUp(tx, topUpId, at);
    const grant = await insertedRow<{ id: string; bucket_id: bigint }>(
      tx,
      `SELECT id, bucket_id FROM grants WHERE business_key = 'top_up:' || ?`,
      [topUpId],
    );
    const invoiceId = topUp.invoiceId ?? '';
    return { topUpId, invoiceId, grantId: grant.id, bucketId: grant.bucket_id };
  });
}

/** Before the top-up is granted: that then finds its invoice. */
async function issueTaxed(
  tx: Tx,
  of: {
    readonly subscriberId: string;
    readonly topUpId: string;
    readonly minor: bigint;
    readonly taxMinor: bigint;
  },
): Promise<void> {
  const { subscriberId, topUpId, minor, taxMinor } = of;
  await issueInvoice(
    tx,
    {
      ...{ environment: 'test', subscriberId, subscriptionId: null, periodId: null },
      ...{ kind: 'top_up', businessKey: invoiceKeys.topUp(topUpId), currency: 'USD' },
      ...{ subtotalMinor: minor, taxMinor, totalMinor: minor + taxMinor },
      ...{ periodStartAt: null, periodEndAt: null, document: taxedDocument(subscriberId) },
      lines: [
        {
          ...{ kind: 'top_up', chargeId: null, meterId: null, planVersionId: null, label: null },
          ...{ description: 'Credits', quantity: null, unitPrice: null },
          ...{ amountMinor: minor, details: { top_up_id: topUpId } },
        },
      ],
    },
    new Date(),
  );
}

function taxedDocument(id: string): InvoiceDocument {
  return {
    v: 1,
    subscriber: {
      ...{ id, lookup_id: null, name: 'Ada', email: null, address: null, tax_id: null },
    },
    ...{ plan: null, time_zone: 'UTC', period_text: null },
    taxes: [{ label: 'VAT (19%)', percent: '19', base: '10.00', amount: '1.90' }],
    taxation: { kind: 'exclusive', general: [{ name: 'VAT', percent: '19' }], by_charge: {} },
  };
}

/** The shard says what it took for the debit of a take-back, and the drain posts it. Answers false when none waits. */
export async function shardAnswers(
  db: Db,
  takeBackId: string,
  takenMicro: (askedMicro: bigint) => bigint = (asked) => asked,
): Promise<boolean> {
  return inTransaction(db, async (tx) => {
    const debit = await selectRow<{
      subscriber_id: string;
      seq: bigint;
      bucket_id: bigint;
      amount_micro: bigint;
    }>(
      tx,
      `SELECT subscriber_id, seq, bucket_id, amount_micro FROM core_log
       WHERE business_key = 'take_back:' || ? AND taken_micro IS NULL`,
      [takeBackId],
    );
    if (debit === null) return false;
    await postDebit(tx, {
      kind: 'debit',
      subscriberId: debit.subscriber_id,
      coreSeq: Number(debit.seq),
      bucketId: debit.bucket_id.toString(),
      takenMicro: Number(takenMicro(debit.amount_micro)),
      atMs: Date.now(),
    });
    return true;
  });
}
