import type { MeterDefinition } from '../plan.ts';
import type { DraftMeter } from './draft.ts';
import { fault, type Fault } from './fault.ts';

/** The meter as invoices will quote it. */
export function freezeMeter(meter: DraftMeter): MeterDefinition {
  return {
    id: meter.id,
    key: meter.lookup_id,
    name: meter.name,
    unit_one: meter.unit_one,
    unit_other: meter.unit_other,
    scale: meter.scale,
    aggregation: meter.aggregation,
  };
}

/** What invoices quote must be there, and what counts whole things has no decimals. */
export function meterFaults(meter: DraftMeter, field: string): Fault[] {
  const faults: Fault[] = [];
  if ([meter.name, meter.unit_one, meter.unit_other].some((word) => word.trim() === '')) {
    faults.push(
      fault('meter_unnamed', field, {
        message: `meter ${meter.lookup_id} has no name or no unit`,
        mend: 'Give it a name and a unit {one, other}: invoices quote them.',
      }),
    );
  }
  const isWhole = meter.aggregation === 'COUNT' || meter.aggregation === 'UNIQUE_COUNT';
  if (isWhole && meter.scale !== 0) {
    faults.push(
      fault('meter_scale', field, {
        message: `meter ${meter.lookup_id} is a ${meter.aggregation} and has the scale ${meter.scale}`,
        mend: 'A COUNT or UNIQUE_COUNT counts whole things: give it the scale 0.',
      }),
    );
  }
  return faults;
}
