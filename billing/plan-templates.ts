/**
 * The six ways to sell, as drafts to begin with. A template is no kind of plan: it writes the charges, limits and credit
 * terms that somebody would write by hand, and what comes of it is changed and published like any other draft.
 */
export const planTemplateKeys = [
  'flat_subscription',
  'included_usage',
  'subscription_with_overage',
  'pay_as_you_go',
  'prepaid_credits',
  'custom',
] as const;
export type PlanTemplateKey = (typeof planTemplateKeys)[number];

/** What a template may be given; amounts and prices are decimal strings. */
export const templateFields = [
  'base_price',
  'meters',
  'features',
  'unit_price',
  'included_units',
  'included_credits',
  'credit_price',
] as const;
export type TemplateField = (typeof templateFields)[number];

export type TemplateInput = {
  readonly base_price?: string | null | undefined;
  readonly unit_price?: string | undefined;
  readonly included_units?: bigint | undefined;
  readonly included_credits?: string | null | undefined;
  readonly credit_price?: string | null | undefined;
  /** Ids of what is counted, and what is sold. */
  readonly meters: readonly string[];
  readonly features: readonly { readonly id: string; readonly meterId: string | null }[];
};

/** What a template adds to the terms that the caller gave. */
export type TemplateDraft = {
  readonly type: 'FLAT' | 'USAGE' | 'HYBRID' | 'CREDITS' | 'CUSTOM';
  readonly charges: readonly {
    readonly meterId: string;
    readonly unitPrice: string;
    readonly includedUnits: bigint;
  }[];
  readonly features: readonly { readonly id: string; readonly limit: bigint | null }[];
  /** One credit for one whole unit of each meter; null: the plan sells no credits. */
  readonly credits: {
    readonly meterIds: readonly string[];
    /** Usage past the credits is billed at the price of a credit; false: it is denied. */
    readonly hasOverage: boolean;
  } | null;
};

export type TemplateResult =
  | { readonly kind: 'ok'; readonly draft: TemplateDraft }
  | { readonly kind: 'refused'; readonly field: TemplateField; readonly message: string };

export type PlanTemplate = {
  readonly name: string;
  readonly summary: string;
  readonly type: TemplateDraft['type'];
  readonly needs: readonly TemplateField[];
  readonly takes: readonly TemplateField[];
  readonly build: (given: TemplateInput) => Omit<TemplateDraft, 'type'>;
};

const nothing = { charges: [], features: [], credits: null } as const;

export const planTemplates = {
  flat_subscription: {
    name: 'Flat subscription',
    summary:
      'One fee for each interval. Features are in it; included_units caps those with a meter.',
    type: 'FLAT',
    needs: ['base_price', 'features'],
    takes: ['included_units'],
    build: (given) => ({ ...nothing, features: limited(given, given.included_units ?? null) }),
  },
  included_usage: {
    name: 'Included usage',
    summary: 'One fee with an allowance for each interval; usage past it is denied.',
    type: 'FLAT',
    needs: ['base_price', 'features', 'included_units'],
    takes: [],
    build: (given) => ({ ...nothing, features: limited(given, given.included_units ?? null) }),
  },
  subscription_with_overage: {
    name: 'Subscription with overage',
    summary: 'One fee with an allowance; each unit past it is billed in arrears.',
    type: 'HYBRID',
    needs: ['base_price', 'meters', 'included_units', 'unit_price'],
    takes: ['features'],
    build: (given) => ({
      ...nothing,
      charges: charged(given, given.included_units ?? 0n),
      features: limited(given, null),
    }),
  },
  pay_as_you_go: {
    name: 'Pay as you go',
    summary: 'No fee; every unit is billed in arrears.',
    type: 'USAGE',
    needs: ['meters', 'unit_price'],
    takes: ['features'],
    build: (given) => ({
      ...nothing,
      charges: charged(given, 0n),
      features: limited(given, null),
    }),
  },
  prepaid_credits: {
    name: 'Prepaid credits',
    summary:
      'Credits are bought first and spent by usage, one for each unit until credit_rates say more; without credits usage is denied.',
    type: 'CREDITS',
    needs: ['meters', 'credit_price'],
    takes: ['features', 'base_price', 'included_credits'],
    build: (given) => ({
      charges: [],
      features: limited(given, null),
      credits: { meterIds: given.meters, hasOverage: false },
    }),
  },
  custom: {
    name: 'Custom',
    summary:
      'A fee with credits for each interval; usage past them is billed in arrears at credit_price. Change anything from here.',
    type: 'CUSTOM',
    needs: ['base_price', 'meters', 'included_credits', 'credit_price'],
    takes: ['features'],
    build: (given) => ({
      charges: [],
      features: limited(given, null),
      credits: { meterIds: given.meters, hasOverage: true },
    }),
  },
} as const satisfies Record<PlanTemplateKey, PlanTemplate>;

/** The draft that a template makes of what it is given, or the first thing that is missing or out of place. */
export function planOfTemplate(key: PlanTemplateKey, given: TemplateInput): TemplateResult {
  const template: PlanTemplate = planTemplates[key];
  const missing = template.needs.find((field) => !isGiven(given[field]));
  if (missing !== undefined) {
    return {
      kind: 'refused',
      field: missing,
      message: `is needed by the template ${key}, which takes ${list([...template.needs, ...template.takes])}`,
    };
  }
  const known = new Set<string>([...template.needs, ...template.takes]);
  const extra = templateFields.find((field) => isGiven(given[field]) && !known.has(field));
  if (extra !== undefined) {
    return {
      kind: 'refused',
      field: extra,
      message: `does not go with the template ${key}, which takes ${list([...known])}`,
    };
  }
  const draft = { type: template.type, ...template.build(given) };
  if (key === 'included_usage' && draft.features.every(({ limit }) => limit === null)) {
    return {
      kind: 'refused',
      field: 'features',
      message: 'must name a feature with a meter: the allowance is counted by it',
    };
  }
  return { kind: 'ok', draft };
}

function isGiven(value: TemplateInput[TemplateField]): boolean {
  return Array.isArray(value) ? value.length > 0 : value !== undefined && value !== null;
}

function list(words: readonly string[]): string {
  return words.join(', ');
}

function limited(given: TemplateInput, limit: bigint | null): TemplateDraft['features'] {
  return given.features.map(({ id, meterId }) => ({ id, limit: meterId === null ? null : limit }));
}

function charged(given: TemplateInput, includedUnits: bigint): TemplateDraft['charges'] {
  return given.meters.map((meterId) => ({
    meterId,
    unitPrice: given.unit_price ?? '0',
    includedUnits,
  }));
}
