/**
 * The refusals of the admin API: a handler throws an `ApiProblem`, which rolls its transaction back; it is rendered in
 * one place, `answer.ts`, from the table of all codes in `billing/problem.ts`.
 */
import { problemOf, type FieldError, type Problem, type ProblemCode } from '../billing/problem.ts';

/** Thrown by handlers for every ordinary refusal. */
export class ApiProblem extends Error {
  override readonly name = 'ApiProblem';
  readonly code: ProblemCode;
  readonly detail: string;
  readonly errors: readonly FieldError[];
  /** Members beyond those of RFC 9457: `subscription_id`, `publish`. */
  readonly extra: Readonly<Record<string, unknown>>;

  constructor(
    code: ProblemCode,
    detail: string,
    more: {
      readonly errors?: readonly FieldError[];
      readonly extra?: Readonly<Record<string, unknown>>;
      readonly cause?: unknown;
    } = {},
  ) {
    super(`${code}: ${detail}`, { cause: more.cause });
    this.code = code;
    this.detail = detail;
    this.errors = more.errors ?? [];
    this.extra = more.extra ?? {};
  }
}

/** One field of the request is at fault. */
export function fieldProblem(
  field: string,
  message: string,
  allowed?: readonly string[],
): ApiProblem {
  return new ApiProblem('invalid_request', `${field} ${message}.`, {
    errors: [{ field, message, ...(allowed === undefined ? {} : { allowed }) }],
  });
}

/** 404 for an id that does not exist in the token's environment, in the same words whether or not another has it. */
export function notFound(what: string, ref: string): ApiProblem {
  return new ApiProblem('not_found', `There is no ${what} ${JSON.stringify(ref.slice(0, 80))}.`);
}

/** The problem document that goes out. */
export function problemDocument(problem: ApiProblem, requestId: string): Problem {
  return problemOf(problem.code, {
    detail: problem.detail,
    ...(problem.errors.length === 0 ? {} : { errors: problem.errors }),
    extra: { request_id: requestId, ...problem.extra },
  });
}
