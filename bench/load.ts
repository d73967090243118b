/** Load on one URL for some seconds: wrk where it is installed, else a loop of our own. */
import { spawn } from 'node:child_process';

import { Pool } from 'undici';

import { findProgram } from './machine.ts';

export type Load = {
  readonly requests: number;
  readonly seconds: number;
  readonly failures: number;
  readonly p99Ms: number;
};

export const connectionCount = 64;

export async function load(
  url: string,
  seconds: number,
  headers: Record<string, string>,
): Promise<Load> {
  const wrk = findProgram('wrk');
  return wrk === null ? ownLoad(url, seconds, headers) : wrkLoad(wrk, url, seconds, headers);
}

async function wrkLoad(
  wrk: string,
  url: string,
  seconds: number,
  headers: Record<string, string>,
): Promise<Load> {
  const named = Object.entries(headers).flatMap(([name, value]) => ['-H', `${name}: ${value}`]);
  const base = ['-t1', `-c${connectionCount}`, `-d${seconds}s`, '--latency', ...named, url];
  const taskset = findProgram('taskset');
  const [program, ...rest] =
    taskset === null ? ([wrk, ...base] as const) : ([taskset, '-c', '1', wrk, ...base] as const);
  const text = await new Promise<string>((resolve, reject) => {
    const child = spawn(program, rest, { stdio: ['ignore', 'pipe', 'inherit'] });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
    child.once('error', reject);
    child.once('close', () => {
      resolve(output);
    });
  });
  const counted = /(\d+) requests in ([\d.]+)s/.exec(text);
  const p99 = /99%\s+([\d.]+)(us|ms|s)/.exec(text);
  const unit = { us: 0.001, ms: 1, s: 1000 }[p99?.[2] ?? 'ms'] ?? 1;
  return {
    requests: Number(counted?.[1] ?? 0),
    seconds: Number(counted?.[2] ?? seconds),
    failures: Number(/Non-2xx or 3xx responses: (\d+)/.exec(text)?.[1] ?? 0),
    p99Ms: Number(p99?.[1] ?? 0) * unit,
  };
}

async function ownLoad(
  url: string,
  seconds: number,
  headers: Record<string, string>,
): Promise<Load> {
  const { origin, pathname } = new URL(url);
  const pool = new Pool(origin, { connections: connectionCount, pipelining: 1 });
  const latencies: number[] = [];
  let failures = 0;
  const startMs = performance.now();
  const endMs = startMs + seconds * 1000;
  const one = async (): Promise<void> => {
    while (performance.now() < endMs) {
      const sentMs = performance.now();
      const answer = await pool.request({ path: pathname, method: 'GET', headers });
      await answer.body.dump();
      if (answer.statusCode >= 400) failures += 1;
      latencies.push(performance.now() - sentMs);
    }
  };
  await Promise.all(Array.from({ length: connectionCount }, one));
  const took = (performance.now() - startMs) / 1000;
  await pool.destroy();
  const sorted = latencies.toSorted((a, b) => a - b);
  return {
    requests: latencies.length,
    seconds: took,
    failures,
    p99Ms: sorted[Math.floor(sorted.length * 0.99)] ?? 0,
  };
}
