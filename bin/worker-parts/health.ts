import { createServer, type ServerResponse } from 'node:http';

import type { Worker } from '@temporalio/worker';
import { collectDefaultMetrics, Gauge, Registry } from 'prom-client';

import type { Db } from '../../store/db.ts';
import { countUnfinished } from '../../store/unfinished.ts';

export type HealthOf = {
  readonly host: string;
  readonly port: number;
  readonly db: Db;
  /** Empty while the worker is still connecting. */
  readonly workers: () => readonly Worker[];
};

/** `/healthz` (it lives), `/readyz` (it polls its queues), `/metrics`. Rejects when the port is taken. */
export async function serveWorkerHealth(
  of: HealthOf,
): Promise<{ readonly close: () => Promise<void> }> {
  const metrics = workerMetrics(of.db);
  const server = createServer((request, response) => {
    answer(of, metrics, { path: request.url ?? '/', response }).catch(() => {
      if (!response.headersSent) response.writeHead(503);
      response.end();
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(of.port, of.host, resolve);
  });
  return {
    close: async () => {
      await new Promise((resolve) => {
        server.close(resolve);
        server.closeAllConnections();
      });
    },
  };
}

async function answer(
  of: HealthOf,
  metrics: Registry,
  { path, response }: { readonly path: string; readonly response: ServerResponse },
): Promise<void> {
  if (path === '/healthz') {
    response.writeHead(200, { 'content-type': 'text/plain' }).end('ok\n');
  } else if (path === '/readyz') {
    const states = of.workers().map((worker) => worker.getState());
    const ready = states.length > 0 && states.every((state) => state === 'RUNNING');
    response
      .writeHead(ready ? 200 : 503, { 'content-type': 'application/json' })
      .end(`${JSON.stringify({ ready, workers: states })}\n`);
  } else if (path === '/metrics') {
    const text = await metrics.metrics();
    response.writeHead(200, { 'content-type': metrics.contentType }).end(text);
  } else {
    response.writeHead(404, { 'content-type': 'text/plain' }).end('not found\n');
  }
}

function workerMetrics(db: Db): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const closing = new Gauge({
    name: 'tollbook_periods_closing',
    help: 'Periods that are over and not invoiced yet',
    registers: [registry],
    collect: async () => {
      closing.set((await countUnfinished(db)).closing);
    },
  });
  const unpaid = new Gauge({
    name: 'tollbook_invoices_collection_failed',
    help: 'Open invoices that every attempt of the policy left unpaid',
    registers: [registry],
    collect: async () => {
      unpaid.set((await countUnfinished(db)).unpaid);
    },
  });
  return registry;
}
