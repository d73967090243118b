import assert from 'node:assert/strict';
import {
  planOfTemplate,
  type PlanTemplate,
  type PlanTemplateKey,
  planTemplateKeys,
  planTemplates,
  type TemplateField,
  templateFields,
  type TemplateInput,
} from '../../billing/plan-templates.ts';

const all: Required<TemplateInput> = {
  base_price: '29',
  unit_price: '0.001',
  included_units: 1_000n,
  included_credits: '500',
  credit_price: '0.1',
  meters: ['mtr_1', 'mtr_2'],
  features: [
    { id: 'feat_1', meterId: 'mtr_1' },
    { id: 'feat_2', meterId: null },
  ],
};

function only(fields: readonly TemplateField[]): TemplateInput {
  const given = Object.fromEntries(fields.map((field) => [field, all[field]]));
  return { meters: [], features: [], ...given };
}

const template = (key: PlanTemplateKey): PlanTemplate => planTemplates[key];

function built(key: PlanTemplateKey, fields = template(key).needs) {
  const result = planOfTemplate(key, only(fields));
  assert.ok(result.kind === 'ok', key);
  return result.draft;
}

const unlimited = [
  { id: 'feat_1', limit: null },
  { id: 'feat_2', limit: null },
];
const limited = [
  { id: 'feat_1', limit: 1_000n },
  { id: 'feat_2', limit: null },
];
const charges = (includedUnits: bigint) =>
  all.meters.map((meterId) => ({ meterId, unitPrice: '0.001', includedUnits }));
const none = { charges: [], features: [], credits: null };

describe('billing/plan-templates › the draft', () => {
  it('of a flat subscription has features, capped where that is asked for', () => {
    const flat = { ...none, type: 'FLAT', features: unlimited };
    assert.deepEqual(built('flat_subscription'), flat);
    const capped = built('flat_subscription', ['base_price', 'features', 'included_units']);
    assert.deepEqual(capped, { ...flat, features: limited });
  });

  it('of included usage denies what is past the allowance', () => {
    assert.deepEqual(built('included_usage'), { ...none, type: 'FLAT', features: limited });
  });

  it('of a subscription with overage charges past the allowance', () => {
    const draft = { ...none, type: 'HYBRID', charges: charges(1_000n) };
    assert.deepEqual(built('subscription_with_overage'), draft);
    const { needs } = planTemplates.subscription_with_overage;
    assert.deepEqual(built('subscription_with_overage', [...needs, 'features']), {
      ...draft,
      features: unlimited,
    });
  });

  it('of pay as you go charges from the first unit on', () => {
    const draft = { ...none, type: 'USAGE', charges: charges(0n) };
    assert.deepEqual(built('pay_as_you_go'), draft);
    const { needs } = planTemplates.pay_as_you_go;
    assert.deepEqual(built('pay_as_you_go', [...needs, 'features']), {
      ...draft,
      features: unlimited,
    });
  });

  it('of prepaid credits burns, and denies without credits', () => {
    const credits = { meterIds: all.meters, hasOverage: false };
    assert.deepEqual(built('prepaid_credits'), { ...none, type: 'CREDITS', credits });
    const { needs } = planTemplates.prepaid_credits;
    assert.deepEqual(built('prepaid_credits', [...needs, 'features']).features, unlimited);
  });

  it('of a custom plan burns, and bills past the credits', () => {
    const credits = { meterIds: all.meters, hasOverage: true };
    assert.deepEqual(built('custom'), { ...none, type: 'CUSTOM', credits });
    const { needs } = planTemplates.custom;
    assert.deepEqual(built('custom', [...needs, 'features']).features, unlimited);
  });
});

describe('billing/plan-templates › refusals', () => {
  for (const key of planTemplateKeys) {
    const { needs, takes } = template(key);

    it(`${key} names each thing that is missing, with all that it takes`, () => {
      for (const missing of needs) {
        const result = planOfTemplate(key, only(needs.filter((field) => field !== missing)));
        assert.ok(result.kind === 'refused');
        assert.equal(result.field, missing);
        const known = [...needs, ...takes].join(', ');
        assert.equal(result.message, `is needed by the template ${key}, which takes ${known}`);
      }
    });

    it(`${key} names what it has no use for`, () => {
      const known: readonly TemplateField[] = [...needs, ...takes];
      for (const extra of templateFields.filter((field) => !known.includes(field))) {
        const result = planOfTemplate(key, only([...needs, extra]));
        assert.ok(result.kind === 'refused');
        assert.equal(result.field, extra);
        assert.equal(
          result.message,
          `does not go with the template ${key}, which takes ${known.join(', ')}`,
        );
      }
      assert.equal(planOfTemplate(key, only(known)).kind, 'ok');
    });

    it(`${key} takes null for nothing`, () => {
      const nothing = { base_price: null, included_credits: null, credit_price: null };
      const result = planOfTemplate(key, { ...nothing, ...only(needs) });
      assert.equal(result.kind, 'ok');
    });
  }

  it('an allowance that nothing counts', () => {
    const result = planOfTemplate('included_usage', {
      ...only(['base_price', 'included_units']),
      features: [{ id: 'feat_2', meterId: null }],
    });
    assert.ok(result.kind === 'refused');
    assert.deepEqual(
      [result.field, result.message],
      ['features', 'must name a feature with a meter: the allowance is counted by it'],
    );
    const flat = planOfTemplate('flat_subscription', {
      ...only(['base_price']),
      features: [{ id: 'feat_2', meterId: null }],
    });
    assert.equal(flat.kind, 'ok');
  });

  it('nothing of a template is without a name and a summary', () => {
    for (const key of planTemplateKeys) {
      assert.match(template(key).name, /^[A-Z]/);
      assert.match(template(key).summary, /^[A-Z].*\.$/);
    }
  });
});
