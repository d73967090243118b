import { setTimeout as sleep } from 'node:timers/promises';

import type { Answer } from './api.ts';
import { type LoadResult, progressBar, sendRequests } from './load.ts';
import type { DemoStack } from './stack.ts';

/** A plan as calls to the admin API: the plan itself, then what is added to its draft. */
export type PlanCalls = {
  readonly plan: Readonly<Record<string, unknown>>;
  readonly charges?: readonly Readonly<Record<string, unknown>>[];
  readonly features?: readonly Readonly<Record<string, unknown>>[];
};

/** A subscriber of its own on a plan of its own, with a key: what each demo begins with. */
export class Account {
  readonly stack: DemoStack;
  readonly subscriberId: string;
  readonly subscriptionId: string;
  readonly key: string;

  private constructor(stack: DemoStack, subscriberId: string, subscriptionId: string, key: string) {
    this.stack = stack;
    this.subscriberId = subscriberId;
    this.subscriptionId = subscriptionId;
    this.key = key;
  }

  /** Makes and publishes the plan, then the subscriber, the subscription and the key. */
  static async open(stack: DemoStack, name: string, calls: PlanCalls): Promise<Account> {
    const { api } = stack;
    const suffix = Date.now().toString(36) + Math.floor(Math.random() * 1296).toString(36);
    const plan = await api.post('/plans', {
      name,
      lookup_id: `${name.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')}-${suffix}`,
      product_id: 'demo',
      billing_interval: 'month',
      currency: 'USD',
      ...calls.plan,
    });
    const planId = plan.text('id');
    for (const charge of calls.charges ?? []) await api.post(`/plans/${planId}/charges`, charge);
    for (const feature of calls.features ?? [])
      await api.post(`/plans/${planId}/features`, feature);
    await api.post(`/plans/${planId}/publish`);
    const subscriber = await api.post('/subscribers', {
      name: `${name} ${suffix}`,
      lookup_id: `demo-${suffix}`,
      payment_method: 'card_ok',
    });
    const subscriberId = subscriber.text('id');
    const subscription = await api.post('/subscriptions', {
      subscriber_id: subscriberId,
      plan_id: planId,
    });
    const subscriptionId = subscription.text('id');
    await api.until(
      `/subscriptions/${subscriptionId}`,
      (now) => now.text('state') === 'active',
      30_000,
    );
    const key = await api.post(`/subscribers/${subscriberId}/api_keys`, { name: 'demo' });
    return new Account(stack, subscriberId, subscriptionId, key.text('secret'));
  }

  /** Sends `count` requests with a progress bar; refusals are counted; only a 503 is sent again. */
  async send(
    count: number,
    options: {
      readonly path?: string;
      readonly concurrency?: number;
      readonly label?: string;
    } = {},
  ): Promise<LoadResult> {
    return sendRequests({
      gatewayUrls: this.stack.gatewayUrls,
      path: options.path ?? '/demo/v1/cheap',
      key: this.key,
      count,
      concurrency: options.concurrency ?? 64,
      repeatsUnavailable: true,
      onProgress: progressBar(options.label ?? 'requests', count),
    });
  }

  /** One request: its status, problem code and body. */
  async call(
    path = '/demo/v1/cheap',
    init: RequestInit = {},
  ): Promise<{ status: number; code: string | undefined; headers: Headers; body: unknown }> {
    const response = await fetch(`${this.stack.gatewayUrls[0] ?? ''}${path}`, {
      ...init,
      headers: {
        authorization: `Bearer ${this.key}`,
        ...(init.body === undefined ? {} : { 'content-type': 'application/json' }),
      },
    });
    const text = await response.text();
    let body: unknown = text;
    try {
      body = JSON.parse(text);
    } catch {
      // An event stream is no JSON document.
    }
    const code =
      typeof body === 'object' && body !== null && 'code' in body && typeof body.code === 'string'
        ? body.code
        : undefined;
    return { status: response.status, code, headers: response.headers, body };
  }

  /** Reports usage that did not pass the gateway, as one event. */
  async report(meter: string, quantity: number): Promise<Answer> {
    return this.stack.api.post('/usage_events', {
      events: [
        {
          id: `${this.subscriptionId}-${meter}-${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`,
          subscriber_id: this.subscriberId,
          product_id: 'demo',
          meter_id: meter,
          quantity,
        },
      ],
    });
  }

  /** The id of the period that is open now. */
  async openPeriod(): Promise<string> {
    const subscription = await this.stack.api.get(`/subscriptions/${this.subscriptionId}`);
    return subscription.text('current_period.id');
  }

  /** Closes the period now and waits until its invoice is paid (or final, when nothing is due). */
  async close(periodId?: string): Promise<Answer> {
    return (await this.closeWith(periodId)).invoice;
  }

  /** As `close`, with the id of the workflow that closed it. */
  async closeWith(
    periodId?: string,
  ): Promise<{ readonly invoice: Answer; readonly workflowId: string }> {
    const { api } = this.stack;
    const period = periodId ?? (await this.openPeriod());
    const path = `/subscriptions/${this.subscriptionId}/periods/${period}/close`;
    let closed = await api.post(path);
    for (let attempt = 0; closed.status === 202 && attempt < 60; attempt += 1) {
      await sleep(1000);
      closed = await api.post(path);
    }
    const invoiceId = closed.text('invoice.id');
    const invoice = await api.until(
      `/invoices/${invoiceId}`,
      (now) => now.text('state') === 'paid',
      60_000,
    );
    return { invoice, workflowId: closed.text('workflow_id') };
  }

  /** How many requests the upstream has seen in all. */
  async upstreamSeen(): Promise<number> {
    const response = await fetch(`${this.stack.upstreamUrl}/_seen`);
    const body: unknown = await response.json();
    if (
      typeof body === 'object' &&
      body !== null &&
      'total' in body &&
      typeof body.total === 'number'
    )
      return body.total;
    throw new Error(
      `the demo upstream did not say how many requests it saw: ${JSON.stringify(body)}`,
    );
  }
}

/** The invoice as a person reads it. */
export function printInvoice(invoice: Answer): string {
  const rows = invoice
    .list('lines')
    .map((line) => ({ text: line.text('description'), amount: line.text('amount') }));
  rows.push({ text: 'Subtotal', amount: invoice.text('subtotal') });
  rows.push({ text: 'Tax (0%)', amount: invoice.text('tax') });
  rows.push({ text: 'Total', amount: invoice.text('total') });
  const width = Math.max(...rows.map((row) => row.text.length)) + 4;
  const wide = Math.max(...rows.map((row) => row.amount.length)) + 1;
  const ruleAt = rows.length - 3;
  const lines = rows.map((row) => `  ${row.text.padEnd(width)}${`$${row.amount}`.padStart(wide)}`);
  lines.splice(ruleAt, 0, `  ${'─'.repeat(width + wide)}`);
  return [`Invoice ${invoice.text('number')} (${invoice.text('state')})`, ...lines].join('\n');
}
