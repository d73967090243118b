import { z } from 'zod';

import { slotCount } from '../billing/slot.ts';
import type { SlotMap } from './port.ts';

const wireSchema = z.strictObject({
  version: z.number().int().nonnegative(),
  shards: z.array(
    z.object({
      name: z.string().min(1),
      url: z.string().min(1),
      incarnation: z.number().int().nonnegative(),
      state: z.enum(['new', 'open', 'recovering']),
    }),
  ),
  slots: z.array(
    z.tuple([
      z
        .number()
        .int()
        .min(0)
        .max(slotCount - 1),
      z
        .number()
        .int()
        .min(0)
        .max(slotCount - 1),
      z.number().int().min(-1),
      z.number().int().nonnegative().max(0xffff_ffff),
    ]),
  ),
});

/** The slot map as `tb:map` holds it: runs of slots with one owner and one epoch, in JSON. */
export function formatSlotMap(map: SlotMap): string {
  const slots: [number, number, number, number][] = [];
  for (let slot = 0; slot < slotCount; slot++) {
    const owner = map.owners[slot] ?? -1;
    const epoch = map.epochs[slot] ?? 0;
    const run = slots.at(-1);
    if (run !== undefined && run[2] === owner && run[3] === epoch) run[1] = slot;
    else slots.push([slot, slot, owner, epoch]);
  }
  return JSON.stringify({ version: map.version, shards: map.shards, slots });
}

/**
 * Reads `tb:map`. A slot that no run names has no owner (−1).
 * @throws Error when the text is not a slot map.
 */
export function parseSlotMap(text: string): SlotMap {
  const wire = wireSchema.parse(JSON.parse(text));
  const owners = new Int16Array(slotCount).fill(-1);
  const epochs = new Uint32Array(slotCount);
  for (const [first, last, owner, epoch] of wire.slots) {
    if (owner >= wire.shards.length) throw new RangeError(`no shard ${owner} in the slot map`);
    owners.fill(owner, first, last + 1);
    epochs.fill(epoch, first, last + 1);
  }
  return { version: wire.version, shards: wire.shards, owners, epochs };
}
