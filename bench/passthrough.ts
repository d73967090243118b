/** What the gateway is measured against: `node bench/passthrough.ts <bare|hpm> <port> <upstream>`. Neither checks anything. */
import { createServer } from 'node:http';
import type { IncomingHttpHeaders, Server } from 'node:http';

import express from 'express';
import { createProxyMiddleware } from 'http-proxy-middleware';
import { Pool } from 'undici';

const [kind = '', port = '0', upstream = ''] = process.argv.slice(2);
const server = kind === 'bare' ? bare(upstream) : expressProxy(upstream);
server.listen(Number(port), '127.0.0.1');
process.once('SIGTERM', () => {
  server.close();
  server.closeAllConnections();
  process.exit(0);
});

/** The least that undici can do: header lines copied, bytes written. */
function bare(origin: string): Server {
  const pool = new Pool(origin, { connections: 256, pipelining: 1 });
  return createServer((request, response) => {
    const headers: string[] = [];
    for (let index = 0; index < request.rawHeaders.length; index += 2) {
      const name = request.rawHeaders[index] ?? '';
      if (/^(host|connection)$/i.test(name)) continue;
      headers.push(name, request.rawHeaders[index + 1] ?? '');
    }
    pool.dispatch(
      { path: request.url ?? '/', method: request.method ?? 'GET', headers, body: null },
      {
        onRequestStart: () => {},
        onResponseStart: (_controller, status, lines: IncomingHttpHeaders) => {
          const { connection: _hop, ...rest } = lines;
          response.writeHead(status, rest);
        },
        onResponseData: (_controller, chunk) => {
          response.write(chunk);
        },
        onResponseEnd: () => {
          response.end();
        },
        onResponseError: () => {
          response.destroy();
        },
      },
    );
  });
}

function expressProxy(target: string): Server {
  const app = express();
  app.disable('x-powered-by');
  app.use(createProxyMiddleware({ target, changeOrigin: true }));
  return createServer(app);
}
