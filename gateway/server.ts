import { IncomingMessage, ServerResponse, createServer } from 'node:http';
import type { Server } from 'node:http';
import type { Duplex } from 'node:stream';

import type { Express } from 'express';

import {
  connectionsMax,
  headerBytesMax,
  headersCountMax,
  headersTimeoutMs,
  keepAliveMs,
  requestTimeoutMs,
  requestsPerSocketMax,
} from './limits.ts';
import { documentOf } from './refuse.ts';
import type { Refusal } from './refusal.ts';

/** The listener of the gateway, with its bounds; what the parser refuses is answered on the bare socket. */
export function gatewayServer(app: Express): Server {
  const server = createServer(
    {
      ...classesOf(app),
      maxHeaderSize: headerBytesMax,
      headersTimeout: headersTimeoutMs,
      requestTimeout: requestTimeoutMs,
      keepAliveTimeout: keepAliveMs,
      connectionsCheckingInterval: 5_000,
      insecureHTTPParser: false,
      requireHostHeader: true,
      rejectNonStandardBodyWrites: true,
      noDelay: true,
      // Other upgrades (h2c) may be ignored, and are: the request is answered as it is.
      shouldUpgradeCallback: (request: IncomingMessage) =>
        /websocket/i.test(request.headers.upgrade ?? ''),
    },
    app,
  );
  server.maxHeadersCount = headersCountMax;
  server.maxConnections = connectionsMax;
  server.maxRequestsPerSocket = requestsPerSocketMax;
  // Without this listener Node would ask for the body before anybody has decided whether it may be sent.
  server.on('checkContinue', app);
  server.on('upgrade', (_request, socket) => {
    answerBare(socket, webSocket);
  });
  server.on('connect', (_request, socket) => {
    answerBare(socket, webSocket);
  });
  server.on('clientError', (error, socket) => {
    answerBare(socket, refusalOf(error));
  });
  return server;
}

/**
 * Classes whose objects already have the prototypes that Express would give them at each request: to change the prototype
 * of a living object costs time, and makes every later look at it slower.
 */
function classesOf(app: Express): {
  readonly IncomingMessage: typeof IncomingMessage;
  readonly ServerResponse: typeof ServerResponse;
} {
  class GatewayRequest extends IncomingMessage {}
  class GatewayResponse<Request extends IncomingMessage> extends ServerResponse<Request> {}
  Object.setPrototypeOf(GatewayRequest.prototype, app.request);
  Object.setPrototypeOf(GatewayResponse.prototype, app.response);
  Reflect.set(app, 'request', GatewayRequest.prototype);
  Reflect.set(app, 'response', GatewayResponse.prototype);
  return { IncomingMessage: GatewayRequest, ServerResponse: GatewayResponse };
}

const webSocket: Refusal = {
  kind: 'refused',
  code: 'invalid_request',
  status: 501,
  detail: 'WebSocket connections are not served yet.',
};

function refusalOf(error: Error): Refusal {
  const code = 'code' in error ? error.code : '';
  if (code === 'HPE_HEADER_OVERFLOW') {
    return {
      kind: 'refused',
      code: 'invalid_request',
      status: 431,
      detail: 'The header is too long.',
    };
  }
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') {
    return {
      kind: 'refused',
      code: 'invalid_request',
      status: 408,
      detail: 'The request took too long.',
    };
  }
  return { kind: 'refused', code: 'invalid_request', detail: 'This is not well-formed HTTP/1.1.' };
}

const reasons: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  408: 'Request Timeout',
  431: 'Request Header Fields Too Large',
  501: 'Not Implemented',
};

/** An answer outside of any request; the connection ends with it. */
function answerBare(socket: Duplex, refusal: Refusal): void {
  // An answer is under way: bytes in between would be taken for a part of it.
  const current: unknown = Reflect.get(socket, '_httpMessage');
  const isAnswering = current instanceof ServerResponse && current.headersSent;
  if (socket.destroyed || !socket.writable || isAnswering) {
    socket.destroy();
    return;
  }
  const problem = documentOf(refusal, null);
  const body = JSON.stringify(problem);
  socket.end(
    `HTTP/1.1 ${problem.status} ${reasons[problem.status] ?? 'Error'}\r\n` +
      `Content-Type: application/problem+json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n` +
      `Cache-Control: no-store\r\nConnection: close\r\n\r\n${body}`,
  );
  // Whoever does not read the answer does not keep the socket.
  socket.once('finish', () => socket.destroy());
}
