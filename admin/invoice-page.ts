/** The invoice as a page: plain, and laid out like the example that everybody knows. Prints well on one sheet. */
import { formatAmount, formatMoney } from '../billing/money.ts';
import type { InvoiceLineRead, InvoiceRead } from '../store/invoice-reads.ts';
import { markup, page, type Html } from './html.ts';
import { storedCurrency } from './resources/invoice-shapes.ts';

/** HTML of an invoice with its lines, from what was frozen with it. */
export function invoicePage(invoice: InvoiceRead, lines: readonly InvoiceLineRead[]): string {
  const currency = storedCurrency(invoice.currency);
  const money = (minor: bigint): string => formatMoney(minor, currency);
  const { document } = invoice;
  const title = `Invoice: ${invoice.number ?? 'draft'}`;
  return page(
    title,
    markup`<h1>${title}</h1>
${document.period_text === null ? null : markup`<p>Period: ${document.period_text}</p>`}
<p class="${invoice.state === 'paid' ? 'good' : 'soft'}">Status: ${statusWords(invoice)}</p>
${billedTo(invoice)}
<h2>Line Items</h2>
<div class="scroll">
<table>
<thead><tr><th scope="col">Item</th><th scope="col" class="number">Amount</th></tr></thead>
<tbody>
${lines.map(
  (line) =>
    markup`<tr><td>${line.description}${label(line)}</td><td class="number">${money(line.amount_minor)}</td></tr>
`,
)}</tbody>
<tfoot>
<tr><th scope="row">Subtotal</th><td class="number">${money(invoice.subtotal_minor)}</td></tr>
${document.taxes.map(
  (tax) =>
    markup`<tr><th scope="row">${tax.label}</th><td class="number">${taxText(tax.amount, invoice)}</td></tr>
`,
)}<tr class="total"><th scope="row">Total</th><td class="number">${money(invoice.total_minor)}</td></tr>
${balanceRows(invoice, money)}</tfoot>
</table>
</div>
<p class="soft">All amounts in ${currency}.</p>`,
  );
}

// Most invoices have none of it, and then look as if it did not exist.
function balanceRows(invoice: InvoiceRead, money: (minor: bigint) => string): Html | null {
  const applied = invoice.balance_applied_minor;
  if (applied === 0n) return null;
  const words = applied > 0n ? 'From account balance' : 'To account balance';
  return markup`<tr><th scope="row">${words}</th><td class="number">${money(-applied)}</td></tr>
<tr class="total"><th scope="row">Amount due</th><td class="number">${money(invoice.amount_due_minor)}</td></tr>
`;
}

// One tax is the invoice's tax; of several, each row shows its own frozen amount.
function taxText(amount: string, invoice: InvoiceRead): string {
  const currency = storedCurrency(invoice.currency);
  return invoice.document.taxes.length === 1 || amount === formatAmount(invoice.tax_minor, currency)
    ? formatMoney(invoice.tax_minor, currency)
    : `${amount} ${currency}`;
}

function label(line: InvoiceLineRead): Html | null {
  return line.label === null ? null : markup`<br><span class="soft">${line.label}</span>`;
}

function statusWords(invoice: InvoiceRead): string {
  if (invoice.state === 'open' && invoice.payment_status === 'failed') {
    return 'open (payment failed)';
  }
  if (invoice.state === 'paid' && invoice.paid_at !== null) {
    return `paid on ${invoice.paid_at.toISOString().slice(0, 10)}`;
  }
  return invoice.state;
}

function billedTo({ document }: InvoiceRead): Html {
  const { subscriber, plan } = document;
  const rows = [
    subscriber.name,
    ...(subscriber.address ?? '').split('\n'),
    subscriber.email ?? '',
    subscriber.tax_id === null ? '' : `Tax id: ${subscriber.tax_id}`,
  ].filter((line) => line.trim() !== '');
  return markup`<p>Billed to: ${rows.map((line, index) => markup`${index === 0 ? null : markup`<br>`}${line}`)}</p>
${plan === null ? null : markup`<p class="soft">${plan.product} · ${plan.name}</p>`}`;
}
