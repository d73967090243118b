/** What the scripts answer, read strictly: a reply that is not in its form is our own mistake and throws. */
import type {
  ApplyResult,
  AuthorizeResult,
  CreditResult,
  RecordResult,
  RefusalCode,
  SealResult,
  SettleResult,
  SubscriberState,
  WindowState,
} from './port.ts';
import { stateSchema } from './state-schema.ts';

/** A script's reply: a word, then fields in an order that belongs to the word. */
export type Reply = readonly unknown[];

const refusalCodes: ReadonlySet<string> = new Set<RefusalCode>([
  'bad_argument',
  'invalid_credential',
  'key_expired',
  'duplicate_request',
  'constraints_expired',
  'subscription_inactive',
  'payment_overdue',
  'feature_not_enabled',
  'rate_limited',
  'concurrency_exceeded',
  'limit_exceeded',
  'spend_cap_reached',
  'credit_exhausted',
  'credits_in_flight',
  'request_exceeds_balance',
]);

function isRefusalCode(code: string): code is RefusalCode {
  return refusalCodes.has(code);
}

/** `ok, version, subscription, segment, key, at_ms, generation, held, overage, available, (window, limit, left, reset_ms)…`
 *  or `code, level, name, limit, used, held, reset_ms, retryable`. */
export function readAuthorizeReply(reply: Reply): AuthorizeResult {
  const code = text(reply, 0);
  if (code !== 'ok') {
    if (!isRefusalCode(code)) throw unexpected(reply);
    return {
      kind: 'refused',
      refusal: {
        code,
        level: text(reply, 1),
        name: text(reply, 2),
        limit: integer(reply, 3),
        used: integer(reply, 4),
        held: integer(reply, 5),
        resetMs: integer(reply, 6),
        retryable: integer(reply, 7) === 1,
      },
    };
  }
  const windows: WindowState[] = [];
  for (let at = 10; at < reply.length; at += 4) {
    windows.push({
      name: text(reply, at),
      limit: integer(reply, at + 1),
      left: integer(reply, at + 2),
      resetMs: integer(reply, at + 3),
    });
  }
  return {
    kind: 'ok',
    version: integer(reply, 1),
    subscriptionId: text(reply, 2),
    segmentId: text(reply, 3),
    keyId: text(reply, 4),
    atMs: integer(reply, 5),
    generation: integer(reply, 6),
    heldMicro: integer(reply, 7),
    overageMicro: integer(reply, 8),
    availableMicro: integerOrNull(reply, 9),
    windows,
  };
}

export function readSettleReply(reply: Reply): SettleResult {
  switch (word(reply)) {
    case 'ok':
      return {
        kind: 'ok',
        chargedMicro: integer(reply, 1),
        overageMicro: integer(reply, 2),
        writtenOffMicro: integer(reply, 3),
        availableMicro: integerOrNull(reply, 4),
        streamId: text(reply, 5),
      };
    case 'already':
      return { kind: 'already', verb: text(reply, 1), chargedMicro: integer(reply, 2) };
    case 'late':
      return { kind: 'late', chargedMicro: integer(reply, 1), streamId: text(reply, 2) };
    case 'recorded':
      return { kind: 'recorded', streamId: text(reply, 1) };
    case 'short':
      return { kind: 'short' };
    default:
      throw unexpected(reply);
  }
}

export function readRecordReply(reply: Reply): RecordResult {
  switch (word(reply)) {
    case 'ok':
      return {
        kind: 'ok',
        overLimit: integer(reply, 1) === 1,
        chargedMicro: integer(reply, 2),
        overageMicro: integer(reply, 3),
        streamId: text(reply, 4),
      };
    case 'already':
      return { kind: 'already' };
    default:
      throw unexpected(reply);
  }
}

export function readApplyReply(reply: Reply): ApplyResult {
  const kind = word(reply);
  if (kind === 'applied' || kind === 'older' || kind === 'same' || kind === 'boundary_passed') {
    return { kind, nowMs: integer(reply, 1) };
  }
  throw unexpected(reply);
}

export function readCreditReply(reply: Reply): CreditResult {
  switch (word(reply)) {
    case 'applied':
      return {
        kind: 'applied',
        takenMicro: integer(reply, 1),
        availableMicro: integer(reply, 2),
      };
    case 'already':
      return { kind: 'already' };
    case 'gap':
      return { kind: 'gap', seq: integer(reply, 1) };
    default:
      throw unexpected(reply);
  }
}

export function readSealReply(
  reply: Reply,
  shard: { readonly name: string; readonly incarnation: number },
): SealResult {
  switch (word(reply)) {
    case 'sealed':
      return {
        kind: 'sealed',
        shard: shard.name,
        incarnation: shard.incarnation,
        streamId: text(reply, 1),
      };
    case 'open_holds':
      return { kind: 'open_holds', count: integer(reply, 1), lastExpiryMs: integer(reply, 2) };
    case 'not_over':
      return { kind: 'not_over', nowMs: integer(reply, 1) };
    default:
      throw unexpected(reply);
  }
}

export function readStateReply(reply: Reply): SubscriberState | null {
  switch (word(reply)) {
    case 'none':
      return null;
    case 'state':
      return stateSchema.parse(JSON.parse(text(reply, 1)));
    default:
      throw unexpected(reply);
  }
}

/** The first field. @throws RangeError for `bad_argument`, naming the argument: the scripts' own wall against callers. */
function word(reply: Reply): string {
  const first = text(reply, 0);
  if (first === 'bad_argument') {
    throw new RangeError(`the shard refused an argument: ${text(reply, 2)}`);
  }
  return first;
}

function text(reply: Reply, index: number): string {
  const value = reply[index];
  if (typeof value !== 'string') throw unexpected(reply);
  return value;
}

function integer(reply: Reply, index: number): number {
  const value = reply[index];
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) throw unexpected(reply);
  return value;
}

function integerOrNull(reply: Reply, index: number): number | null {
  return reply[index] === null ? null : integer(reply, index);
}

function unexpected(reply: Reply): Error {
  return new Error(`a script answered out of form: ${JSON.stringify(reply).slice(0, 200)}`);
}
