/**
 * The demo catalogue, set up as any operator would: by calls of the admin API. It can be run again and again: what is there
 * is kept, what is missing is made. Keys are shown once by the API, so they are written to `$STATE_DIR/demo.env`.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { readConfig, type Config } from './config.ts';

type Json = Readonly<Record<string, unknown>>;
type PlanCalls = {
  readonly plan: Json & { readonly lookup_id: string };
  readonly charges?: readonly (Json & { readonly display_name: string })[];
  readonly features?: readonly Json[];
};

const READY_MS = 60_000;
const ACTIVE_MS = 60_000;

const meters: readonly (Json & { readonly lookup_id: string })[] = [
  {
    lookup_id: 'api_calls',
    name: 'API Calls',
    unit: { one: 'call', other: 'calls' },
    aggregation: 'SUM',
    usage_pricing_rules: {
      mode: 'GRADUATED',
      tiers: [
        { from: 0, to: 1000, unit_price: '0.002' },
        { from: 1001, to: 10_000, unit_price: '0.001' },
        { from: 10_001, to: null, unit_price: '0.0005' },
      ],
    },
  },
  {
    lookup_id: 'image_generation',
    name: 'Image Generation',
    unit: { one: 'image', other: 'images' },
    aggregation: 'SUM',
  },
  {
    lookup_id: 'document_page',
    name: 'Document Pages',
    unit: { one: 'page', other: 'pages' },
    aggregation: 'SUM',
  },
  {
    lookup_id: 'input_tokens',
    name: 'Input Tokens',
    unit: { one: 'token', other: 'tokens' },
    aggregation: 'SUM',
  },
  {
    lookup_id: 'output_tokens',
    name: 'Output Tokens',
    unit: { one: 'token', other: 'tokens' },
    aggregation: 'SUM',
  },
  {
    lookup_id: 'dollars',
    name: 'Model Cost',
    unit: { one: 'dollar', other: 'dollars' },
    scale: 6,
    aggregation: 'SUM',
  },
];

const features: readonly (Json & { readonly lookup_id: string })[] = [
  { lookup_id: 'api_calls', name: 'API Calls', meter_id: 'api_calls' },
  { lookup_id: 'expensive_calls', name: 'Expensive calls' },
];

const reported = (pointer: string, kind: 'json' | 'sse', estimate: number): Json => ({
  estimate,
  max_actual: 100_000,
  source: { kind, pointer },
});

const routes: readonly Json[] = [
  { method: 'GET', path: '/v1/cheap', meters: [{ meter_id: 'api_calls', estimate: 1 }] },
  {
    method: 'GET',
    path: '/v1/expensive',
    feature_id: 'expensive_calls',
    meters: [{ meter_id: 'api_calls', estimate: 10 }],
  },
  {
    method: 'POST',
    path: '/v1/generate',
    meters: [
      { meter_id: 'output_tokens', ...reported('/usage/output_tokens', 'json', 100) },
      { meter_id: 'input_tokens', ...reported('/usage/input_tokens', 'json', 20) },
    ],
  },
  {
    method: 'GET',
    path: '/v1/stream',
    meters: [{ meter_id: 'output_tokens', ...reported('/usage/output_tokens', 'sse', 100) }],
  },
];

const expensive: Json = { feature_id: 'expensive_calls' };
const perCall = { type: 'USAGE', meter_id: 'api_calls' } as const;
const creditRates = [
  { meter_id: 'api_calls', credits: '1' },
  { meter_id: 'input_tokens', credits: '0.005' },
  { meter_id: 'output_tokens', credits: '0.02' },
];
const monthly = { billing_interval: 'month', currency: 'USD', product_id: 'demo' } as const;

/** One plan for each way to sell. */
const plans: readonly PlanCalls[] = [
  {
    plan: { ...monthly, lookup_id: 'payg', name: 'Pay-as-you-go', type: 'USAGE' },
    charges: [{ ...perCall, unit_price: '0.001', display_name: 'API calls ($0.001 each)' }],
    features: [expensive],
  },
  {
    plan: { ...monthly, lookup_id: 'flat', name: 'Flat', type: 'FLAT', base_price: '49.00' },
    features: [{ feature_id: 'api_calls', limit: 1_000_000, limit_type: 'HARD' }],
  },
  {
    plan: { ...monthly, lookup_id: 'starter', name: 'Starter', type: 'FLAT', base_price: '29.00' },
    features: [{ feature_id: 'api_calls', limit: 10_000, limit_type: 'HARD' }, expensive],
  },
  {
    plan: { ...monthly, lookup_id: 'pro', name: 'Pro', type: 'HYBRID', base_price: '99.00' },
    charges: [
      {
        ...perCall,
        unit_price: '0.0005',
        included_units: 100_000,
        display_name: 'Extra calls ($0.50 per 1,000)',
      },
    ],
    features: [expensive],
  },
  {
    plan: {
      ...monthly,
      lookup_id: 'hybrid',
      name: 'Hybrid',
      type: 'HYBRID',
      base_price: '49.00',
      included_credits: '1000',
      overage: { enabled: true, credit_price: '0.03' },
      credit_rates: creditRates,
    },
    features: [expensive],
  },
  {
    plan: {
      ...monthly,
      lookup_id: 'prepaid',
      name: 'Prepaid credits',
      type: 'CREDITS',
      credit_price: '0.02',
      credit_rates: creditRates,
    },
    features: [expensive],
  },
  {
    // The charge has no price of its own: the meter's tiers are taken over when it is published.
    plan: { ...monthly, lookup_id: 'tiered', name: 'Tiered (graduated)', type: 'USAGE' },
    charges: [{ ...perCall, display_name: 'API calls, graduated' }],
    features: [expensive],
  },
  {
    plan: { ...monthly, lookup_id: 'tiered-volume', name: 'Tiered (volume)', type: 'USAGE' },
    charges: [
      {
        ...perCall,
        display_name: 'API calls, volume',
        usage_pricing_rules: {
          mode: 'VOLUME',
          tiers: [
            { from: 0, to: 1000, unit_price: '0.002' },
            { from: 1001, to: 10_000, unit_price: '0.001' },
            { from: 10_001, to: null, unit_price: '0.0005' },
          ],
        },
      },
    ],
    features: [expensive],
  },
  {
    plan: { ...monthly, lookup_id: 'free-tier', name: 'Free tier', type: 'USAGE' },
    charges: [{ ...perCall, unit_price: '0.001', display_name: 'Calls past 1,000' }],
    features: [
      { feature_id: 'api_calls', limit: 1000, limit_type: 'SOFT', reset_interval: 'month' },
      expensive,
    ],
  },
  {
    plan: { ...monthly, lookup_id: 'custom', name: 'Custom', type: 'CUSTOM' },
    charges: [
      ['image_generation', '0.04', 'Images'],
      ['document_page', '0.015', 'Pages'],
      ['input_tokens', '0.0000025', 'Input tokens'],
      ['output_tokens', '0.00001', 'Output tokens'],
      ['dollars', '1.2', 'Model cost, plus 20%'],
    ].map(([meter_id, unit_price, display_name]) => ({
      type: 'USAGE',
      meter_id,
      unit_price,
      display_name: display_name ?? '',
    })),
    features: [expensive],
  },
];

async function seed(settings: Config): Promise<Json> {
  const { adminToken } = settings;
  if (adminToken === null) {
    const file = join(settings.stateDir, 'demo.env');
    throw new Error(
      `ADMIN_TOKEN is not set: the seed speaks to the admin API with it. Beside npm start: env $(cat ${file}) npm run seed`,
    );
  }
  const api = new Api(settings.adminUrl, adminToken);
  await api.awaitReady();
  await api.ensure('/products', {
    lookup_id: 'demo',
    name: 'Demo API',
    upstream_url: settings.demoUpstreamUrl,
    reports_usage: true,
    credit_definition: 'One credit is one call; a token costs a part of one.',
  });
  for (const meter of meters) await api.ensure('/meters', meter);
  for (const feature of features) await api.ensure('/features', feature);
  await api.change('PATCH', '/products/demo', { upstream_url: settings.demoUpstreamUrl });
  for (const route of routes) await api.change('POST', '/products/demo/routes', route);
  for (const plan of plans) await ensurePlan(api, plan);

  const payg = await ensureSubscriber(api, {
    lookup_id: 'demo-payg',
    name: 'Paula Payg',
    plan_id: 'payg',
    payment_method: 'card_ok',
  });
  const prepaid = await ensureSubscriber(api, {
    lookup_id: 'demo-prepaid',
    name: 'Pre Paid Ltd.',
    plan_id: 'prepaid',
    payment_method: 'card_ok',
  });
  const file = join(settings.stateDir, 'demo.env');
  const known = readEnv(file);
  const paygKey = await ensureKey(api, 'demo-payg', known['DEMO_KEY_PAYG']);
  const prepaidKey = await ensureKey(api, 'demo-prepaid', known['DEMO_KEY_PREPAID']);
  const values = {
    DEMO_KEY_PAYG: paygKey,
    DEMO_KEY_PREPAID: prepaidKey,
    DEMO_SUBSCRIPTION_PAYG: payg,
    DEMO_SUBSCRIPTION_PREPAID: prepaid,
    ADMIN_TOKEN: adminToken,
    ADMIN_URL: settings.adminUrl,
    GATEWAY_URL: settings.gatewayUrls[0] ?? '',
  };
  mkdirSync(settings.stateDir, { recursive: true });
  const text = Object.entries(values).map(([name, value]) => `${name}=${value}\n`);
  writeFileSync(file, text.join(''), { mode: 0o600 });
  return {
    demo_env: file,
    product: 'demo',
    plans: plans.map(({ plan }) => plan.lookup_id),
    subscriptions: { 'demo-payg': payg, 'demo-prepaid': prepaid },
  };
}

class Api {
  readonly #url: string;
  readonly #token: string;

  constructor(url: string, token: string) {
    this.#url = url;
    this.#token = token;
  }

  /** The service answers, and Postgres knows our token. */
  async awaitReady(): Promise<void> {
    const deadline = Date.now() + READY_MS;
    for (;;) {
      const reply = await this.call('GET', '/products?limit=1').catch((error: unknown) => error);
      if (isReply(reply) && reply.status === 200) return;
      if (Date.now() > deadline) {
        const last = isReply(reply)
          ? `${reply.status} ${JSON.stringify(reply.body)}`
          : String(reply);
        throw new Error(`The admin API at ${this.#url} is not ready: ${last}`);
      }
      await sleep(250);
    }
  }

  /** Makes the thing unless its lookup_id is there. */
  async ensure(path: string, body: Json & { readonly lookup_id: string }): Promise<void> {
    const found = await this.call('GET', `${path}/${body.lookup_id}`);
    if (found.status === 200) return;
    const made = await this.call('POST', path, body);
    // Somebody else was faster: it is there all the same.
    if (made.status !== 409) requireOk(made, `POST ${path}`);
  }

  async change(method: string, path: string, body: Json): Promise<Json> {
    const reply = await this.call(method, path, body);
    requireOk(reply, `${method} ${path}`);
    return reply.body;
  }

  async list(path: string): Promise<readonly Json[]> {
    const { body } = await this.call('GET', path);
    const data = body['data'];
    return Array.isArray(data) ? data.filter((item) => isJson(item)) : [];
  }

  async call(method: string, path: string, body?: Json): Promise<Reply> {
    const response = await fetch(`${this.#url}/api/v1${path}`, {
      method,
      signal: AbortSignal.timeout(45_000),
      headers: {
        authorization: `Bearer ${this.#token}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const parsed: unknown = await response.json();
    return { status: response.status, body: isJson(parsed) ? parsed : {} };
  }
}

type Reply = { readonly status: number; readonly body: Json };

function isReply(value: unknown): value is Reply {
  return isJson(value) && 'status' in value && 'body' in value;
}

function isJson(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function requireOk(reply: Reply, what: string): void {
  if (reply.status >= 300) {
    throw new Error(`${what} answered ${reply.status}: ${JSON.stringify(reply.body)}`);
  }
}

/** A plan that was begun and not published by an earlier run is finished; one that is not sold any more stays so. */
async function ensurePlan(api: Api, calls: PlanCalls): Promise<void> {
  const path = `/plans/${calls.plan.lookup_id}`;
  await api.ensure('/plans', calls.plan);
  const { body } = await api.call('GET', path);
  if (body['published_version'] !== null || body['archived_at'] !== null) return;
  if (body['status'] === 'archived') return;
  const charges = body['charges'];
  const names = Array.isArray(charges)
    ? charges.map((charge: unknown) => (isJson(charge) ? charge['display_name'] : undefined))
    : [];
  for (const charge of calls.charges ?? []) {
    if (!names.includes(charge.display_name)) await api.change('POST', `${path}/charges`, charge);
  }
  for (const feature of calls.features ?? []) {
    await api.change('POST', `${path}/features`, feature);
  }
  await api.change('POST', `${path}/publish`, {});
}

/**
 * The subscriber with a live subscription to the plan; answers the subscription's id. One that has ended stays so where
 * the plan is not sold any more.
 */
async function ensureSubscriber(
  api: Api,
  wanted: {
    readonly lookup_id: string;
    readonly name: string;
    readonly plan_id: string;
    readonly payment_method: string;
  },
): Promise<string> {
  const { plan_id, ...subscriber } = wanted;
  await api.ensure('/subscribers', subscriber);
  const deadline = Date.now() + ACTIVE_MS;
  for (;;) {
    const all = await api.list(`/subscriptions?subscriber_id=${wanted.lookup_id}`);
    const live = all.find(({ state }) => state !== 'canceled');
    if (live !== undefined && live['state'] !== 'pending') return String(live['id']);
    const started = await api.call('POST', '/subscriptions', {
      subscriber_id: wanted.lookup_id,
      plan_id,
    });
    if (started.status === 201) return String(started.body['id']);
    const [ended] = all;
    if (started.body['code'] === 'plan_archived' && ended !== undefined) return String(ended['id']);
    if (Date.now() > deadline || (started.status >= 400 && started.status !== 503)) {
      throw new Error(
        `The subscription of ${wanted.lookup_id} is not active: ${started.status} ${JSON.stringify(started.body)}`,
      );
    }
    await sleep(500);
  }
}

/** The key of an earlier run while it is still good, else a new one. */
async function ensureKey(api: Api, subscriber: string, known: string | undefined): Promise<string> {
  if (known !== undefined && known !== '') {
    const keys = await api.list(`/subscribers/${subscriber}/api_keys?limit=100`);
    const { body } = await api.call('GET', `/subscribers/${subscriber}`);
    const isOurs = known.includes(`_${String(body['id']).slice('sbr_'.length)}_`);
    const isGood = keys.some(
      ({ last4, revoked_at }) => last4 === known.slice(-4) && revoked_at === null,
    );
    if (isOurs && isGood) return known;
  }
  const made = await api.change('POST', `/subscribers/${subscriber}/api_keys`, { name: 'demo' });
  return String(made['secret']);
}

function readEnv(file: string): Readonly<Record<string, string | undefined>> {
  if (!existsSync(file)) return {};
  const lines = readFileSync(file, 'utf8').split('\n');
  return Object.fromEntries(
    lines.flatMap((line) => {
      const match = /^([A-Z_]+)=['"]?([^'"]*)['"]?$/.exec(line);
      return match === null ? [] : [[match[1] ?? '', match[2] ?? '']];
    }),
  );
}

// At the end: classes exist once their lines have run.
const config = readConfig(process.env);
try {
  console.log(JSON.stringify(await seed(config)));
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
