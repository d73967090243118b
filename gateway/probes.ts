import type { Request, Response } from 'express';

import type { Metrics } from './metrics.ts';

export type Probes = {
  readonly answer: (
    request: Request,
    response: Response,
    otherwise: () => Promise<void>,
  ) => Promise<void> | void;
};

/**
 * `/healthz` (the process lives), `/readyz` (it can decide) and `/metrics`, on the port of the traffic but never on a
 * host that belongs to a product.
 */
export function createProbes(state: {
  readonly metrics: Metrics;
  /** What is missing, in words; empty: ready. */
  readonly missing: () => readonly string[];
  readonly isProductHost: (host: string) => boolean;
}): Probes {
  const pages: ReadonlyMap<string, (response: Response) => Promise<void> | void> = new Map([
    [
      '/healthz',
      (response: Response) => {
        send(response, 200, { status: 'ok' });
      },
    ],
    [
      '/readyz',
      (response: Response) => {
        const missing = state.missing();
        const isReady = missing.length === 0;
        send(response, isReady ? 200 : 503, { status: isReady ? 'ready' : 'not_ready', missing });
      },
    ],
    [
      '/metrics',
      async (response: Response) => {
        const { contentType, text } = await state.metrics.render();
        response.writeHead(200, { 'Content-Type': contentType, 'Cache-Control': 'no-store' });
        response.end(text);
      },
    ],
  ]);
  return {
    answer: (request, response, otherwise) => {
      const page = pages.get(request.url);
      if (page === undefined || request.method !== 'GET') {
        return otherwise();
      }
      if (state.isProductHost((request.headers.host ?? '').replace(/:\d*$/, '').toLowerCase())) {
        return otherwise();
      }
      return page(response);
    },
  };
}

function send(response: Response, status: number, body: unknown): void {
  const text = `${JSON.stringify(body)}\n`;
  response.writeHead(status, {
    'Content-Type': 'application/json',
    'Content-Length': Buffer.byteLength(text),
    'Cache-Control': 'no-store',
  });
  response.end(text);
}
