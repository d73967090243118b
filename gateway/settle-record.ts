import { z } from 'zod';

import type { SettleRequest } from '../shards/port.ts';

const record = z.object({
  subscriberId: z.string(),
  opId: z.string(),
  generation: z.int(),
  atMs: z.number(),
  segmentId: z.string(),
  subscriptionId: z.string(),
  productId: z.string(),
  keyId: z.string(),
  verb: z.enum(['settle', 'release', 'slice', 'extend']),
  status: z.int(),
  actuals: z.array(z.object({ meter: z.string(), quantity: z.number() })),
  flags: z.array(z.string()),
});

/** One line of the journal. */
export function formatRecord(request: SettleRequest): string {
  return `${JSON.stringify(request)}\n`;
}

/** Null: not a record, as the last line after a crash in the middle of a write. */
export function parseRecord(line: string): SettleRequest | null {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return null;
  }
  const parsed = record.safeParse(value);
  return parsed.success ? parsed.data : null;
}
