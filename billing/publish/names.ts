import { meterKeyOf, type DraftCharge, type PlanDraft } from './draft.ts';
import { fault, type Fault } from './fault.ts';

/** Subscribers read these names on invoices and in refusals: two that look alike are a trap. */
export function nameFaults(draft: PlanDraft): Fault[] {
  const used = new Set([
    ...draft.charges.map((charge) => meterKeyOf(charge, draft)),
    ...draft.features.map((feature) => feature.meter_key),
    ...(draft.credit_terms?.burn ?? []).map((rate) => rate.meter_key),
  ]);
  const meters = draft.meters
    .filter((meter) => used.has(meter.lookup_id))
    .map((meter) => ({ id: meter.id, names: [meter.name, meter.lookup_id] }));
  const features = draft.features.map((feature) => ({
    id: feature.feature_id,
    names: [feature.feature_name, feature.feature_key],
  }));
  return [
    ...alikeFaults(meters, 'meters'),
    ...alikeFaults(features, 'features'),
    ...labelFaults(draft.charges),
  ];
}

/** Two charges may have one label; labels that only nearly are one are taken for each other. */
function labelFaults(charges: readonly DraftCharge[]): Fault[] {
  const labels = [...new Set(charges.map((charge) => charge.display_name))];
  return alikeFaults(
    labels.map((label) => ({ id: label, names: [label] })),
    'charges',
  );
}

type Named = { readonly id: string; readonly names: readonly string[] };

function alikeFaults(items: readonly Named[], field: string): Fault[] {
  return items.flatMap((item, index) =>
    items.slice(0, index).flatMap((other) => {
      if (other.id === item.id) return [];
      const alike = item.names.find((name) =>
        other.names.some((otherName) => singular(name) === singular(otherName)),
      );
      if (alike === undefined) return [];
      return [
        fault('ambiguous_name', field, {
          message: `${JSON.stringify(other.names[0])} and ${JSON.stringify(item.names[0])} differ only in case or plural`,
          mend: 'Rename one of them, or use one for both.',
        }),
      ];
    }),
  );
}

function singular(name: string): string {
  const letters = name.toLowerCase().replaceAll(/[^\p{L}\p{N}]/gu, '');
  return letters.replace(/ies$/, 'y').replace(/s$/, '');
}

/** What is told apart by its name has one of its own, to the letter. */
export function repeatFaults(items: readonly { readonly name: string }[], field: string): Fault[] {
  return items.flatMap(({ name }, index) =>
    items.findIndex((item) => item.name === name) === index
      ? []
      : [
          fault('duplicate_name', `${field}[${index}]`, {
            message: `the name ${name} occurs twice`,
            mend: 'Give each its own name.',
          }),
        ],
  );
}
