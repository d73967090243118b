/** What all resources share: lists, instants, and the words about them. */
import { z } from 'zod';

import type { Page, PageArgs } from '../../store/query.ts';
import type { AnswerSpec } from '../route.ts';
import { object, pageQuery } from '../fields.ts';

export const listQuery = object(pageQuery);

/** The page that a list call asks for. */
export function pageArgs(query: {
  readonly limit?: number | undefined;
  readonly cursor?: string | undefined;
}): PageArgs {
  return { limit: query.limit ?? 20, after: query.cursor ?? null };
}

/** The schema of a list of `item`, under a name of its own. */
export function listOfAnswers(item: z.ZodType, id: string): z.ZodType {
  return z
    .strictObject({
      object: z.literal('list'),
      data: z.array(item),
      has_more: z.boolean(),
      next_cursor: z
        .string()
        .nullable()
        .meta({ description: 'Give it as cursor for the next page.' }),
    })
    .meta({ id });
}

export function listBody<Row extends { readonly id: string }, Wire>(
  page: Page<Row>,
  toWire: (row: Row) => Wire,
): { object: 'list'; data: readonly Wire[]; has_more: boolean; next_cursor: string | null } {
  return {
    object: 'list',
    data: page.rows.map((row) => toWire(row)),
    has_more: page.hasMore,
    next_cursor: page.hasMore ? (page.rows.at(-1)?.id ?? null) : null,
  };
}

export function listExample(item: unknown): unknown {
  return { object: 'list', data: [item], has_more: false, next_cursor: null };
}

export function answers(
  status: number,
  spec: AnswerSpec,
  more: Readonly<Record<number, AnswerSpec>> = {},
): Readonly<Record<number, AnswerSpec>> {
  return { [status]: spec, ...more };
}

export const instantText = (description?: string) =>
  z.string().meta({ format: 'date-time', ...(description === undefined ? {} : { description }) });
export const amountText = (description: string) =>
  z.string().meta({ description, example: '82.45' });

/** An instant on the wire; null stays null. */
export function wireInstant(at: Date): string;
export function wireInstant(at: Date | null): string | null;
export function wireInstant(at: Date | null): string | null {
  return at === null ? null : at.toISOString();
}

/** The one of a list that a reference names: by its id, or else by its lookup_id, which may spell another one's id. */
export function namedIn<One extends { readonly id: string; readonly lookup_id: string }>(
  list: readonly One[],
  ref: string,
): One | undefined {
  return list.find(({ id }) => id === ref) ?? list.find(({ lookup_id }) => lookup_id === ref);
}

/** A name made of what the caller called the thing: `Pay-as-you-go` → `pay-as-you-go`. Null when nothing is left. */
export function lookupIdOf(name: string, separator: '-' | '_'): string | null {
  const slug = name
    .normalize('NFKD')
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, separator)
    .replaceAll(/^[^a-z]+|[-_]+$/g, '')
    .slice(0, 63);
  return slug.length < 2 ? null : slug;
}
