import type { Answer } from './api.ts';
import { Account } from './account.ts';
import type { DemoStack } from './stack.ts';

/** One thing that a scenario found out: what was expected and what was seen, as text. */
export type Finding = { readonly what: string; readonly expected: string; readonly seen: string };

export type Scenario = {
  readonly name: string;
  readonly title: string;
  /** `isReal`: every unit is a request through the gateway; else the bulk comes as reported usage. */
  readonly run: (
    stack: DemoStack,
    isReal: boolean,
  ) => Promise<{ readonly findings: readonly Finding[]; readonly invoice: Answer | null }>;
};

const perCall = { type: 'USAGE', meter_id: 'api_calls', display_name: 'API calls' } as const;
const tiers = [
  { up_to: 1000, unit_price: '0.002' },
  { up_to: 10_000, unit_price: '0.001' },
  { up_to: null, unit_price: '0.0005' },
] as const;

function finding(what: string, expected: unknown, seen: unknown): Finding {
  return { what, expected: String(expected), seen: String(seen) };
}

// The last ten units always pass the gateway, so that the limit's edge is the gateway's.
async function use(
  account: Account,
  units: number,
  isReal: boolean,
): Promise<{ served: number; refused: number }> {
  const requests = isReal ? units : Math.min(10, units);
  if (units > requests) await account.report('api_calls', units - requests);
  return account.send(requests, { concurrency: isReal ? 64 : 1 });
}

/** When a refusal may end by itself, as epoch milliseconds; NaN when it does not say. */
function resetOf(problem: unknown): number {
  if (typeof problem !== 'object' || problem === null || !('reset_at' in problem))
    return Number.NaN;
  return Date.parse(String(problem.reset_at));
}

function total(invoice: Answer): string {
  return invoice.text('total');
}

const starter: Scenario = {
  name: 'starter',
  title: 'Starter: $29, 10,000 requests included, then a hard stop',
  run: async (stack, isReal) => {
    const account = await Account.open(stack, 'Starter', {
      plan: { type: 'FLAT', base_price: '29.00' },
      features: [{ feature_id: 'api_calls', limit: 10_000, limit_type: 'HARD' }],
    });
    const used = await use(account, 10_000, isReal);
    const past = await account.call();
    const invoice = await account.close();
    return {
      findings: [
        finding('requests up to 10,000 refused', 0, used.refused),
        finding('request 10,001', '429 limit_exceeded', `${past.status} ${past.code ?? ''}`),
        finding('it says when the limit resets', true, resetOf(past.body) > Date.now()),
        finding('invoice total', '29.00', total(invoice)),
      ],
      invoice,
    };
  },
};

const pro: Scenario = {
  name: 'pro',
  title: 'Pro: $99, 100,000 included, $0.50 per 1,000 extra',
  run: async (stack, isReal) => {
    const account = await Account.open(stack, 'Pro', {
      plan: { type: 'HYBRID', base_price: '99.00' },
      charges: [{ ...perCall, unit_price: '0.0005', included_units: 100_000 }],
    });
    const used = await use(account, 150_000, isReal);
    const invoice = await account.close();
    return {
      findings: [
        finding('refused', 0, used.refused),
        finding('invoice total', '124.00', total(invoice)),
      ],
      invoice,
    };
  },
};

const prepaid: Scenario = {
  name: 'prepaid',
  title: 'Prepaid: credits for 250 requests, 64 clients at once',
  run: async (stack) => {
    const account = await Account.open(stack, 'Prepaid', {
      plan: {
        type: 'CREDITS',
        credit_price: '0.02',
        credit_rates: [{ meter_id: 'api_calls', credits: '1' }],
      },
    });
    const topUp = await stack.api.post(`/subscribers/${account.subscriberId}/top_ups`, {
      credits: '250',
      amount: '5.00',
      currency: 'USD',
    });
    const seenBefore = await account.upstreamSeen();
    const used = await account.send(1000);
    const seen = (await account.upstreamSeen()) - seenBefore;
    const after = await account.call();
    const codes = [...used.codes.keys()].toSorted().join(', ');
    const credits = new Set(['credits_in_flight', 'credit_exhausted']);
    return {
      findings: [
        finding('top-up', 'granted', topUp.text('state')),
        finding('served', 250, used.served),
        finding('refused', 750, used.refused),
        finding(
          'every refusal is for credits',
          true,
          [...used.codes.keys()].every((code) => credits.has(code)),
        ),
        finding('the upstream saw', 250, seen),
        finding('the next request', '402 credit_exhausted', `${after.status} ${after.code ?? ''}`),
        finding('codes seen', codes, codes),
      ],
      invoice: null,
    };
  },
};

const flat: Scenario = {
  name: 'flat',
  title: 'Flat: $49, features of the plan only, a hard cap',
  run: async (stack) => {
    const account = await Account.open(stack, 'Flat', {
      plan: { type: 'FLAT', base_price: '49.00' },
      features: [{ feature_id: 'api_calls', limit: 20, limit_type: 'HARD' }],
    });
    const outside = await account.call('/demo/v1/expensive');
    const used = await account.send(20, { concurrency: 4 });
    const past = await account.call();
    const invoice = await account.close();
    return {
      findings: [
        finding(
          'a feature outside the plan',
          '403 feature_not_enabled',
          `${outside.status} ${outside.code ?? ''}`,
        ),
        finding('served up to the cap', 20, used.served),
        finding('past the cap', '429 limit_exceeded', `${past.status} ${past.code ?? ''}`),
        finding('lines of the invoice', 1, invoice.list('lines').length),
        finding('invoice total', '49.00', total(invoice)),
      ],
      invoice,
    };
  },
};

function tiered(model: 'graduated' | 'volume', units: number, expected: string): Scenario {
  return {
    name: `${model}-${units}`,
    title: `Tiers of the price page, ${model}: ${units.toLocaleString('en-US')} calls`,
    run: async (stack, isReal) => {
      const account = await Account.open(stack, `Tiered ${model}`, {
        plan: { type: 'USAGE' },
        charges: [{ ...perCall, price: { model, tiers } }],
      });
      const used = await use(account, units, isReal);
      const invoice = await account.close();
      return {
        findings: [
          finding('refused', 0, used.refused),
          finding('invoice total', expected, total(invoice)),
        ],
        invoice,
      };
    },
  };
}

const freeTier: Scenario = {
  name: 'free-tier',
  title: 'Free tier: 1,000 free (soft limit), then $0.001',
  run: async (stack, isReal) => {
    const account = await Account.open(stack, 'Free tier', {
      plan: { type: 'USAGE' },
      charges: [{ ...perCall, unit_price: '0.001' }],
      features: [{ feature_id: 'api_calls', limit: 1000, limit_type: 'SOFT' }],
    });
    await use(account, 1000, isReal);
    const next = await account.call();
    const rest = await use(account, 82_450 - 1001, isReal);
    const invoice = await account.close();
    return {
      findings: [
        finding('request 1,001', 200, next.status),
        finding('refused', 0, rest.refused),
        finding('invoice total', '81.45', total(invoice)),
      ],
      invoice,
    };
  },
};

const hybrid: Scenario = {
  name: 'hybrid',
  title: 'Hybrid: $49, 1,000 credits included, overage $0.03 a credit, with the switch off and on',
  run: async (stack, isReal) => {
    const plan = {
      type: 'HYBRID',
      base_price: '49.00',
      included_credits: '1000',
      overage: { enabled: true, credit_price: '0.03' },
      credit_rates: [{ meter_id: 'api_calls', credits: '1' }],
    };
    const account = await Account.open(stack, 'Hybrid', { plan });
    const used = await use(account, 1500, isReal);
    const invoice = await account.close();

    const other = await Account.open(stack, 'Hybrid switch', {
      plan: { ...plan, overage: { enabled: false, credit_price: '0.03' } },
    });
    await use(other, 1000, isReal);
    const seenBefore = await other.upstreamSeen();
    const denied = await other.call();
    const seen = (await other.upstreamSeen()) - seenBefore;
    await stack.api.patch(`/subscriptions/${other.subscriptionId}`, { overage_enabled: true });
    await stack.api.until(
      `/subscriptions/${other.subscriptionId}/constraints`,
      (answer) => JSON.stringify(answer.body).includes('"overage":true'),
      15_000,
    );
    const served = await untilServed(other);
    return {
      findings: [
        finding('refused with overage on', 0, used.refused),
        finding('invoice total', '64.00', total(invoice)),
        finding(
          'overage off, call 1,001',
          '402 credit_exhausted',
          `${denied.status} ${denied.code ?? ''}`,
        ),
        finding('the upstream saw of it', 0, seen),
        finding('overage on again, the next call', 200, served),
      ],
      invoice,
    };
  },
};

// A change of the switch takes effect at an instant about two seconds ahead.
async function untilServed(account: Account): Promise<number> {
  for (let attempt = 0; attempt < 50; attempt += 1) {
    const answer = await account.call();
    if (answer.status === 200) return answer.status;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  return (await account.call()).status;
}

const custom: Scenario = {
  name: 'custom',
  title: 'Custom: five meters, each in its own unit',
  run: async (stack) => {
    const account = await Account.open(stack, 'Custom', {
      plan: { type: 'CUSTOM' },
      charges: [
        { type: 'USAGE', meter_id: 'image_generation', display_name: 'Images', unit_price: '0.04' },
        { type: 'USAGE', meter_id: 'document_page', display_name: 'Pages', unit_price: '0.015' },
        {
          type: 'USAGE',
          meter_id: 'input_tokens',
          display_name: 'Input tokens',
          unit_price: '0.0000025',
        },
        {
          type: 'USAGE',
          meter_id: 'output_tokens',
          display_name: 'Output tokens',
          unit_price: '0.00001',
        },
        { type: 'USAGE', meter_id: 'dollars', display_name: 'Cost passed on', unit_price: '1.2' },
      ],
    });
    await account.report('image_generation', 37);
    await account.report('document_page', 1234);
    await account.report('input_tokens', 1_234_567);
    await account.report('output_tokens', 345_678);
    await account.report('dollars', 4_200_000);
    const invoice = await account.close();
    const amounts = invoice.list('lines').map((line) => line.text('amount'));
    return {
      findings: [
        // 37 × 0.04 = 1.48 · 1,234 × 0.015 = 18.51 · 1,234,567 × 0.0000025 = 3.0864… · 345,678 × 0.00001 = 3.4567… · 4.2 × 1.2 = 5.04
        finding('lines', '1.48, 18.51, 3.09, 3.46, 5.04', amounts.join(', ')),
        finding('invoice total', '31.58', total(invoice)),
      ],
      invoice,
    };
  },
};

export const scenarios: readonly Scenario[] = [
  starter,
  pro,
  prepaid,
  flat,
  tiered('graduated', 1000, '2.00'),
  tiered('volume', 1000, '2.00'),
  tiered('graduated', 1001, '2.00'),
  tiered('volume', 1001, '1.00'),
  tiered('graduated', 10_001, '11.00'),
  tiered('volume', 10_001, '5.00'),
  tiered('graduated', 82_450, '47.23'),
  tiered('volume', 82_450, '41.23'),
  freeTier,
  hybrid,
  custom,
];
