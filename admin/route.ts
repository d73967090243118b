/**
 * What a route of the API is. One table of these (`routes.ts`) makes the router, the OpenAPI document and the table of
 * roles, so that none of the three can say something else than the others.
 */
import { z } from 'zod';

import type { ProblemCode } from '../billing/problem.ts';
import type { Role } from '../store/tokens.ts';
import type { Call } from './call.ts';

export type Method = 'get' | 'post' | 'patch' | 'delete' | 'put';

/** What a handler gives: a JSON body, a page, or a file. */
export type Answer =
  | {
      readonly status: number;
      readonly body: unknown;
      readonly headers?: Readonly<Record<string, string>>;
    }
  | { readonly status: number; readonly html: string }
  | FileAnswer;

export type FileAnswer = {
  readonly status: number;
  readonly file: Buffer;
  readonly media: FileMedia;
  /** What it is saved under. */
  readonly fileName: string;
};

type FileMedia = 'application/pdf';

export type AnswerSpec = {
  readonly description: string;
  /** Absent: a file, or an HTML page. */
  readonly schema?: z.ZodType;
  readonly file?: FileMedia;
  readonly example?: unknown;
};

type Common = {
  readonly operationId: string;
  readonly method: Method;
  /** Below /api/v1, with `{name}` for a segment. */
  readonly path: string;
  readonly tag: string;
  readonly summary: string;
  readonly description?: string;
  readonly roles: readonly Role[];
  readonly answers: Readonly<Record<number, AnswerSpec>>;
  /** Codes beyond those that every route may answer with. */
  readonly problems?: readonly ProblemCode[];
  /** The answer shows a secret once: a kept answer is sealed with the caller's own token. */
  readonly isSecret?: boolean;
  /** Accepted media beside JSON: the body may be absent. */
  readonly bodyOptional?: boolean;
  readonly bodyExample?: unknown;
};

export type Route = Common & {
  readonly query: z.ZodType | null;
  readonly body: z.ZodType | null;
  readonly handle: (call: Call, input: { query: unknown; body: unknown }) => Promise<Answer>;
};

/** Declares a route; query and body reach the handler as what their schemas give. */
export function route<
  Q extends z.ZodType = z.ZodType<Readonly<Record<string, never>>>,
  B extends z.ZodType = z.ZodType<undefined>,
>(
  spec: Common & {
    readonly query?: Q;
    readonly body?: B;
    readonly handle: (
      call: Call,
      input: { readonly query: z.output<Q>; readonly body: z.output<B> },
    ) => Promise<Answer>;
  },
): Route {
  const { query, body, handle, ...common } = spec;
  return {
    ...common,
    query: query ?? null,
    body: body ?? null,
    handle: async (call, input) =>
      handle(call, {
        query: parsed(query, input.query, {}),
        body: parsed(body, input.body, undefined),
      }),
  };
}

/** What the schema gives; without a schema the input must be `nothing`. */
function parsed<S extends z.ZodType>(
  schema: S | undefined,
  input: unknown,
  nothing: Readonly<Record<string, never>> | undefined,
): z.output<S> {
  if (schema !== undefined) return schema.parse(input);
  const none: z.ZodType = nothing === undefined ? z.undefined() : z.strictObject({});
  // Only a route that declares no schema gets here, and its handler sees the type of nothing.
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion
  return none.parse(input) as z.output<S>;
}

export const readers: readonly Role[] = ['admin', 'operator', 'reader'];
export const operators: readonly Role[] = ['admin', 'operator'];
export const admins: readonly Role[] = ['admin'];
export const ingesters: readonly Role[] = ['admin', 'operator', 'ingest'];
