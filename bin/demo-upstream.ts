/**
 * A small API to put behind the gateway: `node bin/demo-upstream.ts`. It counts what it sees (`GET /_seen`), and with
 * ANSWER_LOG=<file> it appends one JSON line for each answer before it sends it, so that every answer is on record.
 *
 *   GET  /v1/cheap       a short JSON document
 *   GET  /v1/expensive   another one, that a product sells for more
 *   POST /v1/generate    reports its usage: `usage.output_tokens` in the body and the header x-usage-output-tokens
 *   GET  /v1/stream      text/event-stream; the last event reports the usage
 *   GET  /v1/slow?ms=    answers late
 *   GET  /v1/fail?status= answers with an error; `?how=hangup|truncate|hang` breaks in other ways
 *
 * /v1/generate and /v1/stream take ?tokens= (default 42) and ?report= (what is reported instead, as it is).
 */
import { appendFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { finished } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';

import { readConfig } from './config.ts';

const config = readConfig(process.env);
const answerLog = process.env['ANSWER_LOG'] ?? '';

const seen = new Map<string, number>();
let total = 0;

const server = createServer((request, response) => {
  answer(request, response).catch(() => response.destroy());
});
server.keepAliveTimeout = 60_000;
server.listen(config.demoUpstreamPort, config.host, () => {
  console.log(JSON.stringify({ process: 'demo-upstream', address: server.address() }));
});
for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.once(signal, () => {
    server.close();
    server.closeAllConnections();
  });
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://demo');
  const name = `${request.method ?? ''} ${url.pathname}`;
  if (url.pathname === '/healthz' || url.pathname === '/readyz') {
    json(response, 200, { status: 'ok' });
    return;
  }
  if (name === 'GET /_seen') {
    json(response, 200, { total, by_route: Object.fromEntries(seen) });
    return;
  }
  total += 1;
  seen.set(name, (seen.get(name) ?? 0) + 1);
  await discard(request);
  const note = (status: number): void => {
    if (answerLog === '') return;
    const opId = request.headers['x-decision-id'] ?? null;
    appendFileSync(answerLog, `${JSON.stringify({ op_id: opId, route: name, status })}\n`);
  };
  await routeOf(name, { request, response, url, note });
}

type Call = {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly url: URL;
  readonly note: (status: number) => void;
};

async function routeOf(name: string, call: Call): Promise<void> {
  const { response, note } = call;
  switch (name) {
    case 'GET /v1/cheap':
      note(200);
      json(response, 200, { answer: 'cheap', text: 'The weather is fine.' });
      return;
    case 'GET /v1/expensive':
      note(200);
      json(response, 200, { answer: 'expensive', text: 'The weather of the next ten years.' });
      return;
    case 'POST /v1/generate':
      generate(call);
      return;
    case 'GET /v1/stream':
      await stream(call);
      return;
    case 'GET /v1/slow':
      await sleep(numberOf(call.url, 'ms', 1_000));
      note(200);
      json(response, 200, { answer: 'slow' });
      return;
    case 'GET /v1/fail':
    case 'POST /v1/fail':
      await fail(call);
      return;
    default:
      note(404);
      json(response, 404, { error: 'no such route' });
  }
}

function generate({ response, url, note }: Call): void {
  const tokens = numberOf(url, 'tokens', 42);
  const report = url.searchParams.get('report') ?? String(tokens);
  // Written by hand: a report such as nan is no JSON, and shall reach the gateway all the same.
  const body = `{"text":"${'word '.repeat(8)}","usage":{"input_tokens":7,"output_tokens":${report}}}`;
  note(200);
  response.writeHead(200, [
    'Content-Type',
    'application/json',
    'Content-Length',
    String(Buffer.byteLength(body)),
    ...report.split(';').flatMap((value) => ['X-Usage-Output-Tokens', value]),
  ]);
  response.end(body);
}

async function stream({ response, url, note }: Call): Promise<void> {
  const tokens = numberOf(url, 'tokens', 42);
  const report = url.searchParams.get('report') ?? String(tokens);
  const pauseMs = numberOf(url, 'pause_ms', 5);
  note(200);
  response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' });
  for (let index = 0; index < Math.min(tokens, 1_000); index += 1) {
    response.write(`data: {"delta":"token ${index} "}\n\n`);
    if (pauseMs > 0) await sleep(pauseMs);
    if (response.destroyed) return;
  }
  response.write(`data: {"delta":"","usage":{"input_tokens":7,"output_tokens":${report}}}\n\n`);
  response.end('data: [DONE]\n\n');
}

async function fail({ request, response, url, note }: Call): Promise<void> {
  switch (url.searchParams.get('how') ?? '') {
    case 'hangup':
      request.socket.destroy();
      return;
    case 'hang':
      await sleep(600_000, undefined, { ref: false });
      return;
    case 'truncate':
      response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': '1000' });
      response.write('{"half":');
      await sleep(20);
      request.socket.destroy();
      return;
    default: {
      const status = numberOf(url, 'status', 500);
      note(status);
      json(response, status, { error: 'the demo fails as it was asked to' });
    }
  }
}

async function discard(request: IncomingMessage): Promise<void> {
  request.resume();
  await finished(request);
}

function numberOf(url: URL, name: string, fallback: number): number {
  const number = Number(url.searchParams.get(name) ?? fallback);
  return Number.isFinite(number) && number >= 0 ? number : fallback;
}

function json(response: ServerResponse, status: number, value: unknown): void {
  const body = `${JSON.stringify(value)}\n`;
  response.writeHead(status, {
    'Content-Type': 'application/json',
    'Content-Length': Buffer.byteLength(body),
  });
  response.end(body);
}
