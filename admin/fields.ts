/**
 * The kinds of fields that requests are made of. Each says in its JSON Schema what it takes, and gives handlers a value
 * that needs no further check: decimals as canonical text, quantities as bigint, enums in their own case.
 */
import { z } from 'zod';

import {
  isCurrency,
  unitPricePlacesMax,
  parseUnitPrice,
  type Currency,
  currencies,
} from '../billing/money.ts';
import { isZone } from '../billing/periods.ts';
import { quantityGrammar, quantityMax } from '../billing/quantity.ts';
import { JsonNumber } from './json.ts';

type Meta = Readonly<Record<string, unknown>>;

// The wire value of a field whose check is ours: zod must not see a JsonNumber as an object.
function field<T>(meta: Meta, read: (value: unknown, fault: (message: string) => never) => T) {
  return z
    .unknown()
    .meta(meta)
    .transform((value, context): T => {
      const fault = (message: string): never => {
        throw new FieldRefused(message);
      };
      try {
        if (value === undefined) return fault('is required');
        return read(value, fault);
      } catch (error) {
        if (!(error instanceof FieldRefused)) throw error;
        context.addIssue({ code: 'custom', message: error.message, input: value });
        return z.NEVER;
      }
    });
}

class FieldRefused extends Error {}

/** A decimal ≥ 0 as a JSON number (taken from its source text) or a string; handlers get canonical text. */
export function decimal(description?: string) {
  return field(
    {
      type: ['string', 'number'],
      minimum: 0,
      pattern: `^(0|[1-9][0-9]{0,14})(\\.[0-9]{1,${unitPricePlacesMax}})?$`,
      description:
        description ??
        `A decimal of up to ${unitPricePlacesMax} places, as a JSON number or a string; answered as a string.`,
    },
    (value, fault) =>
      decimalText(value) ??
      fault(
        `must be a decimal from 0 with up to ${unitPricePlacesMax} places, such as 0.001 or "0.001"`,
      ),
  );
}

// An exponent is taken of numbers only: programs write 5e-7 for a small price, people do not.
function decimalText(value: unknown): string | null {
  if (value instanceof JsonNumber) return parseUnitPrice(value.source);
  if (typeof value !== 'string' || /[eE]/.test(value)) return null;
  return parseUnitPrice(value);
}

/** An integer 0 … 10^15 − 1 in a meter's smallest unit, as a JSON number or its digits. */
export function quantity(description?: string) {
  return field(
    {
      type: ['integer', 'string'],
      minimum: 0,
      maximum: quantityMax,
      pattern: quantityGrammar.source,
      description: description ?? 'A whole quantity from 0 to 999999999999999.',
    },
    (value, fault) => {
      const digits = value instanceof JsonNumber ? value.source : value;
      if (typeof digits !== 'string' || !quantityGrammar.test(digits)) {
        return fault('must be a whole number from 0 to 999999999999999, written in digits');
      }
      return BigInt(digits);
    },
  );
}

/** A small integer between two bounds, as a JSON number. */
export function integer(min: number, max: number, description?: string) {
  return field(
    {
      type: 'integer',
      minimum: min,
      maximum: max,
      ...(description === undefined ? {} : { description }),
    },
    (value, fault) => {
      const source = value instanceof JsonNumber ? value.source : '';
      const number = /^(0|[1-9][0-9]{0,14})$/.test(source) ? Number(source) : Number.NaN;
      if (!(number >= min && number <= max)) {
        return fault(`must be a whole number from ${min} to ${max}`);
      }
      return number;
    },
  );
}

/** One of `values`, read in any case. */
export function oneOf<const V extends string>(values: readonly V[], description?: string) {
  return field(
    {
      type: 'string',
      enum: values,
      description: description ?? 'Read in any case.',
    },
    (value, fault) => {
      const known =
        typeof value === 'string'
          ? values.find((one) => one.toLowerCase() === value.toLowerCase())
          : undefined;
      return known ?? fault(ONE_OF + values.join(', '));
    },
  );
}

const UNKNOWN_PROPERTY = 'is not a property here; known are ';
const ONE_OF = 'must be one of ';

/** An object that takes these properties and no others. */
export function object<T extends z.ZodRawShape>(shape: T) {
  const known = Object.keys(shape).join(', ');
  return z.strictObject(shape, {
    error: ({ code, input }) =>
      code === 'unrecognized_keys' && !(input instanceof JsonNumber)
        ? UNKNOWN_PROPERTY + known
        : 'must be an object',
  });
}

/** What a message of ours says is allowed, for the `allowed` member of a field's fault. */
export function allowedOf(message: string): readonly string[] | null {
  const prefix = [UNKNOWN_PROPERTY, ONE_OF].find((start) => message.startsWith(start));
  return prefix === undefined ? null : message.slice(prefix.length).split(', ').filter(Boolean);
}

export function listOf<T extends z.ZodType>(item: T, max: number, description?: string) {
  return z
    .array(item, { error: 'must be a list' })
    .max(max, `must have at most ${max} items`)
    .meta(description === undefined ? {} : { description });
}

export const flag = () => z.boolean({ error: 'must be true or false' });

// Text goes into headers, pages and files: no control characters, and it may not be blank.
// oxlint-disable-next-line no-control-regex
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028\u2029]/;

/** A line of text. */
export function text(max: number, description?: string) {
  return z
    .string({ error: 'must be text' })
    .min(1, 'must not be empty')
    .max(max, `must have at most ${max} characters`)
    .refine((value) => value.trim() !== '', 'must not be blank')
    .refine(
      (value) => !CONTROL.test(value) && !/[\t\n]/.test(value) && value.isWellFormed(),
      'must be one line without control characters',
    )
    .meta(description === undefined ? {} : { description });
}

/** Text that may have several lines, such as an address. */
export function lines(max: number, description?: string) {
  return z
    .string({ error: 'must be text' })
    .min(1, 'must not be empty')
    .max(max, `must have at most ${max} characters`)
    .refine((value) => value.trim() !== '', 'must not be blank')
    .refine(
      (value) => !CONTROL.test(value) && value.isWellFormed(),
      'must be text without control characters',
    )
    .meta(description === undefined ? {} : { description });
}

export function matching(pattern: RegExp, message: string, description?: string) {
  return z
    .string({ error: 'must be text' })
    .regex(pattern, message)
    .meta(description === undefined ? {} : { description });
}

export const lookupId = () =>
  matching(
    /^[a-z][a-z0-9_-]{0,62}$/,
    'must begin with a lower-case letter and hold at most 63 of a-z, 0-9, _ and -',
    'Your own name for it; it can stand wherever its id can.',
  );
export const meterKey = () =>
  matching(
    /^[a-z][a-z0-9_]{1,62}$/,
    'must begin with a lower-case letter and hold 2 to 63 of a-z, 0-9 and _',
    'Your own name for it; it can stand wherever its id can.',
  );

/** An id, or a lookup_id. */
export const reference = (description: string) =>
  matching(
    /^[A-Za-z0-9][A-Za-z0-9_.@-]{0,126}$/,
    'must be an id or a lookup_id',
    `${description} (id or lookup_id).`,
  );

/** An instant, RFC 3339 with a zone. */
export const instant = (description: string) =>
  z
    .string({ error: 'must be an instant such as 2026-01-31T00:00:00Z' })
    .regex(
      /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:\d{2})$/,
      'must be an instant such as 2026-01-31T00:00:00Z',
    )
    .refine((value) => !Number.isNaN(Date.parse(value)), 'is no such day or time')
    .meta({ format: 'date-time', description })
    .transform((value) => new Date(value));

export const currencyCode = () =>
  field<Currency>(
    { type: 'string', pattern: '^[A-Z]{3}$', description: 'ISO 4217 code; read in any case.' },
    (value, fault) => {
      const code = typeof value === 'string' ? value.toUpperCase() : '';
      return isCurrency(code) ? code : fault(ONE_OF + currencies.join(', '));
    },
  );

export const timeZone = () =>
  z
    .string({ error: 'must be an IANA time zone such as Europe/Berlin' })
    .max(64, 'must have at most 64 characters')
    .refine((zone) => isZone(zone), 'must be an IANA time zone such as Europe/Berlin')
    .meta({ description: 'IANA time zone in which periods begin and end.' });

/** A language, as it was registered: `en-us` → `en-US`. */
export const locale = (description: string) =>
  field<string>(
    { type: 'string', maxLength: 35, description, example: 'de-DE' },
    (value, fault) =>
      (typeof value === 'string' ? supportedLocale(value) : null) ??
      fault('must be a language tag (BCP 47) such as en-US or de-DE'),
  );

function supportedLocale(tag: string): string | null {
  try {
    const known = tag.length <= 35 && Intl.DateTimeFormat.supportedLocalesOf(tag).length > 0;
    return known ? (Intl.getCanonicalLocales(tag)[0] ?? null) : null;
  } catch {
    // Not a language tag at all: Intl throws.
    return null;
  }
}

/** What every list takes. */
export const pageQuery = {
  limit: field(
    {
      type: 'integer',
      minimum: 1,
      maximum: 100,
      default: 20,
      description: 'How many, 1 to 100.',
    },
    (value, fault) => {
      const number = typeof value === 'string' && /^[1-9]\d{0,2}$/.test(value) ? Number(value) : 0;
      return number >= 1 && number <= 100 ? number : fault('must be a whole number from 1 to 100');
    },
  ).optional(),
  cursor: matching(
    /^[A-Za-z0-9_-]{1,200}$/,
    'must be the next_cursor of the page before',
    'next_cursor of the page before.',
  ).optional(),
};
