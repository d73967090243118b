import { randomBytes } from 'node:crypto';
import { appendFileSync, existsSync, mkdirSync, readFileSync, truncateSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { z } from 'zod';

/**
 * A payment provider to try things against: a separate process that takes no real money. It is idempotent by
 * `Idempotency-Key`, and writes each charge to its file before it answers, so that no kill loses one.
 *
 *   POST /charges            {amount_minor, currency, method, description} → a charge
 *   GET  /charges/by-key/{key}                                            → a charge, or 404
 *   POST /refunds            {charge, amount_minor, currency}             → a refund
 *   GET  /refunds/by-key/{key}                                            → a refund, or 404
 *   GET  /_charges           every charge, to look; /_refunds likewise
 *
 * What a charge or its refund does depends on the charge's method: see `behaviourOf` and `refundDeclineOf`.
 */
export type Sandbox = { readonly url: string; readonly port: number; stop(): Promise<void> };

type Charge = {
  readonly id: string;
  readonly idempotency_key: string;
  readonly amount_minor: string;
  readonly currency: string;
  readonly method: string;
  readonly description: string;
  readonly status: 'succeeded' | 'declined' | 'pending';
  readonly decline_code: string | null;
  readonly created_at: string;
};

type Refund = {
  readonly id: string;
  readonly idempotency_key: string;
  readonly refund_of: string;
  readonly amount_minor: string;
  readonly currency: string;
  readonly status: 'succeeded' | 'declined';
  readonly decline_code: string | null;
  readonly created_at: string;
};

type Behaviour = 'take' | 'decline' | 'take_and_never_answer' | 'take_slowly' | 'fail_once';

const SLOW_MS = 3000;
const BODY_BYTES_MAX = 16_384;

const chargeBody = z.object({
  amount_minor: z.string().regex(/^[1-9]\d{0,14}$/),
  currency: z.string().regex(/^[A-Z]{3}$/),
  method: z.string().min(1).max(100),
  description: z.string().max(500),
});

const refundBody = z.object({
  charge: z.string().min(1).max(100),
  amount_minor: z.string().regex(/^[1-9]\d{0,14}$/),
  currency: z.string().regex(/^[A-Z]{3}$/),
});

const line = z.union([
  z.object({ failed_once: z.string() }),
  z.object({
    id: z.string(),
    idempotency_key: z.string(),
    refund_of: z.string(),
    amount_minor: z.string(),
    currency: z.string(),
    status: z.enum(['succeeded', 'declined']),
    decline_code: z.string().nullable(),
    created_at: z.string(),
  }),
  z.object({
    id: z.string(),
    idempotency_key: z.string(),
    amount_minor: z.string(),
    currency: z.string(),
    method: z.string(),
    description: z.string(),
    status: z.enum(['succeeded', 'declined', 'pending']),
    decline_code: z.string().nullable(),
    created_at: z.string(),
  }),
]);

/** Listens on `host:port` (0 = any free port), with the charges of `file`, which is made when it is not there. */
export async function startSandbox(options: {
  readonly file: string;
  readonly host: string;
  readonly port: number;
  /** How long `card_slow` takes. */
  readonly slowMs?: number;
}): Promise<Sandbox> {
  const book = openBook(options.file, options.slowMs ?? SLOW_MS);
  const server = createServer((request, response) => {
    answer(book, request, response).catch((error: unknown) => {
      if (!response.headersSent) send(response, 500, { error: String(error) });
      else response.destroy();
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, options.host, resolve);
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port to listen on');
  return {
    url: `http://${options.host}:${address.port}`,
    port: address.port,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve();
        });
        server.closeAllConnections();
      }),
  };
}

/** The charges by key, each change written to the file before it is known in memory. */
type Book = {
  readonly slowMs: number;
  readonly charges: Map<string, Charge>;
  readonly refunds: Map<string, Refund>;
  readonly failedOnce: Set<string>;
  record(charge: Charge): void;
  recordRefund(refund: Refund): void;
  recordFailure(key: string): void;
};

function openBook(file: string, slowMs: number): Book {
  const charges = new Map<string, Charge>();
  const refunds = new Map<string, Refund>();
  const failedOnce = new Set<string>();
  mkdirSync(dirname(file), { recursive: true });
  for (const written of wholeLines(file)) {
    const parsed = line.parse(JSON.parse(written));
    if ('failed_once' in parsed) failedOnce.add(parsed.failed_once);
    else if ('refund_of' in parsed) refunds.set(parsed.idempotency_key, parsed);
    else charges.set(parsed.idempotency_key, parsed);
  }
  const record = (made: Charge): void => {
    appendFileSync(file, `${JSON.stringify(made)}\n`);
    charges.set(made.idempotency_key, made);
  };
  // A slow charge that was under way when the process died has been taken: its caller looks it up.
  for (const known of charges.values()) {
    if (known.status === 'pending') record({ ...known, status: 'succeeded' });
  }
  return {
    slowMs,
    charges,
    refunds,
    failedOnce,
    record,
    recordRefund: (made) => {
      appendFileSync(file, `${JSON.stringify(made)}\n`);
      refunds.set(made.idempotency_key, made);
    },
    recordFailure: (key) => {
      appendFileSync(file, `${JSON.stringify({ failed_once: key })}\n`);
      failedOnce.add(key);
    },
  };
}

/** A kill in mid-write may leave a torn last line: it was never answered, so it is cut off. */
function wholeLines(file: string): readonly string[] {
  if (!existsSync(file)) return [];
  const text = readFileSync(file, 'utf8');
  const whole = text.slice(0, text.lastIndexOf('\n') + 1);
  if (whole.length < text.length) truncateSync(file, Buffer.byteLength(whole));
  return whole.split('\n').filter((part) => part !== '');
}

async function answer(
  book: Book,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const path = new URL(request.url ?? '/', 'http://sandbox').pathname;
  if (request.method === 'POST' && path === '/charges') {
    await charge(book, request, response);
  } else if (request.method === 'POST' && path === '/refunds') {
    await refund(book, request, response);
  } else if (request.method === 'GET') {
    show(book, path, response);
  } else {
    send(response, 405, { error: 'method not allowed' });
  }
}

function show(book: Book, path: string, response: ServerResponse): void {
  const byKey = /^\/(charges|refunds)\/by-key\/(.*)$/.exec(path);
  if (path === '/healthz' || path === '/readyz') {
    send(response, 200, { status: 'ok' });
  } else if (path === '/_charges') {
    send(response, 200, { data: [...book.charges.values()] });
  } else if (path === '/_refunds') {
    send(response, 200, { data: [...book.refunds.values()] });
  } else if (byKey !== null) {
    const key = decodeURIComponent(byKey[2] ?? '');
    const found = byKey[1] === 'charges' ? book.charges.get(key) : book.refunds.get(key);
    if (found === undefined) send(response, 404, { error: 'nothing has this key' });
    else send(response, 200, found);
  } else {
    send(response, 404, { error: 'not found' });
  }
}

function keyOf(request: IncomingMessage, response: ServerResponse): string | null {
  const key = request.headers['idempotency-key'];
  if (typeof key === 'string' && key !== '' && key.length <= 255) return key;
  send(response, 400, { error: 'Idempotency-Key is required, at most 255 characters' });
  return null;
}

async function charge(
  book: Book,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const key = keyOf(request, response);
  if (key === null) return;
  const body = chargeBody.safeParse(await readJson(request));
  if (!body.success) {
    send(response, 400, { error: z.prettifyError(body.error) });
    return;
  }
  const known = book.charges.get(key);
  if (known !== undefined) {
    if (isSameRequest(known, body.data)) send(response, 200, known);
    else send(response, 409, { error: 'this Idempotency-Key was used for another charge' });
    return;
  }
  await newCharge(book, { key, ...body.data }, response);
}

type Wanted = z.infer<typeof chargeBody> & { readonly key: string };

async function newCharge(book: Book, wanted: Wanted, response: ServerResponse): Promise<void> {
  const behaviour = behaviourOf(wanted.method);
  if (behaviour === 'fail_once' && !book.failedOnce.has(wanted.key)) {
    book.recordFailure(wanted.key);
    send(response, 500, { error: 'the sandbox fails the first call with this method' });
    return;
  }
  if (behaviour === 'take_slowly') {
    book.record(chargeOf(wanted, 'pending'));
    await sleep(book.slowMs);
  }
  const done = chargeOf(wanted, behaviour === 'decline' ? 'declined' : 'succeeded', book);
  book.record(done);
  // The money is taken, but the caller will only learn it by asking again.
  if (behaviour === 'take_and_never_answer') return;
  send(response, 200, done);
}

function behaviourOf(method: string): Behaviour {
  switch (method) {
    case 'card_ok':
    case 'card_no_refund':
    case 'card_refund_timeout':
      return 'take';
    case 'card_timeout':
      return 'take_and_never_answer';
    case 'card_slow':
      return 'take_slowly';
    case 'card_error_once':
      return 'fail_once';
    default:
      return 'decline';
  }
}

function chargeOf(wanted: Wanted, status: Charge['status'], book?: Book): Charge {
  const earlier = book?.charges.get(wanted.key);
  return {
    id: earlier?.id ?? `ch_${randomBytes(11).toString('hex')}`,
    idempotency_key: wanted.key,
    amount_minor: wanted.amount_minor,
    currency: wanted.currency,
    method: wanted.method,
    description: wanted.description,
    status,
    decline_code: status === 'declined' ? declineCodeOf(wanted.method) : null,
    created_at: earlier?.created_at ?? new Date().toISOString(),
  };
}

function declineCodeOf(method: string): string {
  return method === 'card_decline' ? 'card_declined' : 'unknown_payment_method';
}

async function refund(
  book: Book,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const key = keyOf(request, response);
  if (key === null) return;
  const body = refundBody.safeParse(await readJson(request));
  if (!body.success) {
    send(response, 400, { error: z.prettifyError(body.error) });
    return;
  }
  const wanted = body.data;
  const known = book.refunds.get(key);
  if (known !== undefined) {
    const isSame =
      known.refund_of === wanted.charge &&
      known.amount_minor === wanted.amount_minor &&
      known.currency === wanted.currency;
    if (isSame) send(response, 200, known);
    else send(response, 409, { error: 'this Idempotency-Key was used for another refund' });
    return;
  }
  const taken = [...book.charges.values()].find(
    ({ id, status, currency }) =>
      id === wanted.charge && status === 'succeeded' && currency === wanted.currency,
  );
  if (taken === undefined) {
    send(response, 400, { error: 'there is no charge that took money and has this id' });
    return;
  }
  const declineCode = refundDeclineOf(book, taken, BigInt(wanted.amount_minor));
  const done: Refund = {
    id: `re_${randomBytes(11).toString('hex')}`,
    idempotency_key: key,
    refund_of: wanted.charge,
    amount_minor: wanted.amount_minor,
    currency: wanted.currency,
    status: declineCode === null ? 'succeeded' : 'declined',
    decline_code: declineCode,
    created_at: new Date().toISOString(),
  };
  book.recordRefund(done);
  // The money went back, but the caller will only learn it by asking again.
  if (taken.method === 'card_refund_timeout') return;
  send(response, 200, done);
}

/** Null: the money goes back. */
function refundDeclineOf(book: Book, taken: Charge, amountMinor: bigint): string | null {
  if (taken.method === 'card_no_refund') return 'refund_declined';
  const before = [...book.refunds.values()]
    .filter(({ refund_of, status }) => refund_of === taken.id && status === 'succeeded')
    .reduce((sum, made) => sum + BigInt(made.amount_minor), 0n);
  return before + amountMinor > BigInt(taken.amount_minor) ? 'amount_too_large' : null;
}

function isSameRequest(known: Charge, wanted: z.infer<typeof chargeBody>): boolean {
  return (
    known.amount_minor === wanted.amount_minor &&
    known.currency === wanted.currency &&
    known.method === wanted.method
  );
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of request) {
    if (!Buffer.isBuffer(part)) throw new TypeError('the body is not bytes');
    bytes += part.length;
    if (bytes > BODY_BYTES_MAX) return null;
    parts.push(part);
  }
  try {
    return JSON.parse(Buffer.concat(parts).toString('utf8'));
  } catch {
    return null;
  }
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}
