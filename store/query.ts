import type { Reader } from './db.ts';

type Binding = string | number | bigint | boolean | Date | Buffer | null | readonly string[];

/** Runs one statement with `?` or `:name` bindings and gives its rows. JSON goes in as text (`JSON.stringify`). */
export async function selectRows<T>(
  reader: Reader,
  sql: string,
  bindings: readonly Binding[] | Readonly<Record<string, Binding>> = [],
): Promise<readonly T[]> {
  const answer = await reader.raw<{ rows: T[] }>(sql, writable(bindings));
  return answer.rows;
}

/** The first row, or null. */
export async function selectRow<T>(
  reader: Reader,
  sql: string,
  bindings: readonly Binding[] | Readonly<Record<string, Binding>> = [],
): Promise<T | null> {
  const rows = await selectRows<T>(reader, sql, bindings);
  return rows[0] ?? null;
}

/** The row that an INSERT … RETURNING must give. Throws when there is none. */
export async function insertedRow<T>(
  reader: Reader,
  sql: string,
  bindings: readonly Binding[] | Readonly<Record<string, Binding>> = [],
): Promise<T> {
  const row = await selectRow<T>(reader, sql, bindings);
  if (row === null) throw new Error('the statement gave no row back');
  return row;
}

// Knex types its bindings as mutable and without bigint; the driver writes a bigint as its digits.
type Plain = string | number | boolean | Date | Buffer | null | string[];

function writable(
  bindings: readonly Binding[] | Readonly<Record<string, Binding>>,
): Plain[] | Record<string, Plain> {
  if (isList(bindings)) return bindings.map((value) => plain(value));
  return Object.fromEntries(Object.entries(bindings).map(([name, value]) => [name, plain(value)]));
}

function plain(value: Binding): Plain {
  if (typeof value === 'bigint') return value.toString();
  return typeof value === 'object' && value !== null && isTexts(value) ? [...value] : value;
}

function isList(
  value: readonly Binding[] | Readonly<Record<string, Binding>>,
): value is readonly Binding[] {
  return Array.isArray(value);
}

function isTexts(value: Date | Buffer | readonly string[]): value is readonly string[] {
  return Array.isArray(value);
}

export type Environment = 'test' | 'live';

/** A page of a list, newest first. `after` is the id of the last row of the page before. */
export type PageArgs = { readonly limit: number; readonly after: string | null };
export type Page<T> = { readonly rows: readonly T[]; readonly hasMore: boolean };

/**
 * Pages through `from` (a table, or a table with joins, whose rows have `id` and `created_at` under alias `t`).
 * The cursor is an id: its row's place is looked up, so that a timestamp never loses its microseconds on the way.
 * Conditions and their bindings come from code only, never from a caller.
 */
export async function selectPage<T>(
  reader: Reader,
  source: {
    readonly columns: string;
    readonly from: string;
    readonly where: string;
    readonly bindings: Readonly<Record<string, Binding>>;
  },
  page: PageArgs,
): Promise<Page<T>> {
  const table = source.from.split(/\s+/)[0] ?? source.from;
  const after =
    page.after === null
      ? ''
      : `AND (t.created_at, t.id) < (SELECT c.created_at, c.id FROM ${table} c WHERE c.id = :page_after)`;
  const rows = await selectRows<T>(
    reader,
    `SELECT ${source.columns} FROM ${source.from} WHERE ${source.where} ${after}
     ORDER BY t.created_at DESC, t.id DESC LIMIT :page_limit`,
    {
      ...source.bindings,
      page_limit: page.limit + 1,
      ...(page.after === null ? {} : { page_after: page.after }),
    },
  );
  return { rows: rows.slice(0, page.limit), hasMore: rows.length > page.limit };
}

/** A table whose rows are of one environment, and what is read of a row (alias `t`); all of it when absent. */
type Source = { readonly table: string; readonly columns?: string };

/**
 * The row of an environment that goes by an id, or by the lookup_id that the operator gave it. A lookup_id may spell the
 * id of another row: that one is meant.
 */
export async function selectNamed<T>(
  reader: Reader,
  { table, columns = 't.*' }: Source,
  environment: Environment,
  ref: string,
): Promise<T | null> {
  return selectRow(
    reader,
    `SELECT ${columns} FROM ${table} t WHERE t.environment = ? AND (t.id = ? OR t.lookup_id = ?) ORDER BY t.id <> ?`,
    [environment, ref, ref, ref],
  );
}

/** The rows of an environment, a page of them. */
export async function selectPageOf<T>(
  reader: Reader,
  { table, columns = 't.*' }: Source,
  environment: Environment,
  page: PageArgs,
): Promise<Page<T>> {
  return selectPage(
    reader,
    {
      columns,
      from: `${table} t`,
      where: 't.environment = :environment',
      bindings: { environment },
    },
    page,
  );
}
