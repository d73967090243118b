import { z } from 'zod';

/** Lua writes numbers as digits in a string: its JSON encoder keeps 14 digits only. */
const integer = z
  .string()
  .regex(/^(0|[1-9][0-9]{0,15})$/)
  .transform(Number);
/** An empty Lua table is written as `{}`, whatever it was meant to be. */
const list = <T extends z.ZodType>(item: T) =>
  z.union([z.array(item), z.strictObject({}).transform((): z.output<T>[] => [])]);

/** What the `read` script answers, as `SubscriberState`. */
export const stateSchema = z.object({
  version: integer,
  coreSeq: integer,
  products: list(
    z.object({
      productId: z.string(),
      segmentId: z.string(),
      untilMs: integer,
      status: z.enum(['active', 'past_due', 'inactive']),
      overage: z.boolean(),
      features: list(z.string()),
      openHolds: integer,
      limits: list(
        z.object({
          name: z.string(),
          meter: z.string(),
          limit: integer,
          hard: z.boolean(),
          used: integer,
          held: integer,
          resetMs: integer,
        }),
      ),
    }),
  ),
  buckets: list(
    z.object({
      id: z.string(),
      unit: z.string(),
      availableMicro: integer,
      heldMicro: integer,
      expiresMs: integer.nullable(),
    }),
  ),
});
