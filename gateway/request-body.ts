import { Transform } from 'node:stream';
import type { Readable } from 'node:stream';
import type { IncomingMessage } from 'node:http';

import { requestBodyBytesMax } from './limits.ts';

/** The client sent more than a body may have. */
export class BodyTooLarge extends Error {
  override readonly name = 'BodyTooLarge';
}

/**
 * What is forwarded as the body; null when there is none. A declared length was checked before and is enforced by the
 * parser; a chunked body is counted while it streams, and breaks with BodyTooLarge at the bound.
 */
export function requestBody(request: IncomingMessage): Readable | null {
  if (request.headers['transfer-encoding'] !== undefined) return counted(request);
  const length = request.headers['content-length'];
  return length === undefined || Number(length) === 0 ? null : request;
}

function counted(request: IncomingMessage): Readable {
  let bytes = 0;
  const counter = new Transform({
    transform: (chunk: Buffer, _encoding, done) => {
      bytes += chunk.length;
      if (bytes > requestBodyBytesMax) done(new BodyTooLarge());
      else done(null, chunk);
    },
  });
  request.once('aborted', () => counter.destroy(new Error('the client went away')));
  request.once('error', (error) => counter.destroy(error));
  counter.once('close', () => {
    request.unpipe(counter);
    request.resume();
  });
  return request.pipe(counter);
}
