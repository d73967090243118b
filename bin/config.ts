/**
 * The environment, read once and validated; all faults are named together. Processes receive the
 * frozen value and never look at the environment themselves. Everything has a default that fits
 * the stack of `npm start`, so each process can also be started alone beside it.
 */
import { join, resolve } from 'node:path';

import { z } from 'zod';

export type TemporalConfig = {
  readonly address: string;
  readonly namespace: string;
  /** For Temporal Cloud; turns TLS on. */
  readonly apiKey: string | null;
  readonly tls: TemporalTls | null;
};

export type TemporalTls = {
  readonly serverName: string | null;
  readonly serverCaFile: string | null;
  readonly clientCertFile: string | null;
  readonly clientKeyFile: string | null;
};

export type ShardAddress = { readonly name: string; readonly url: string };

export type Config = {
  readonly databaseUrl: string;
  readonly temporal: TemporalConfig;
  readonly shards: readonly ShardAddress[];
  /** The address that every listener binds. */
  readonly host: string;
  readonly adminPort: number;
  /** Bootstrap token of role admin in environment test; none is accepted when null. */
  readonly adminToken: string | null;
  readonly gatewayPort: number;
  /** Unique among the gateways; names its journal. */
  readonly gatewayName: string;
  readonly journalDir: string;
  readonly gatewayUrls: readonly string[];
  readonly adminUrl: string;
  readonly drainPort: number;
  readonly workerPort: number;
  readonly paymentsPort: number;
  readonly paymentsUrl: string;
  readonly demoUpstreamPort: number;
  readonly demoUpstreamUrl: string;
  readonly temporalUiUrl: string;
  readonly stateDir: string;
  readonly logLevel: (typeof logLevels)[number];
};

/** What `npm start` needs beyond the processes' own configuration: which parts it brings itself, and where. */
export type StackConfig = {
  readonly stateDir: string;
  readonly host: string;
  /** Null: the embedded Postgres, on `ports.postgres`. */
  readonly databaseUrl: string | null;
  /** Null: the Temporal dev server, on `ports.temporal`. */
  readonly temporal: TemporalConfig | null;
  /** Null: one redis-server per port of `ports.shards`. */
  readonly shards: readonly ShardAddress[] | null;
  /** Null: the sandbox provider, on `ports.payments`. */
  readonly paymentsUrl: string | null;
  readonly adminToken: string | null;
  readonly logLevel: Config['logLevel'];
  readonly ports: StackPorts;
};

export type StackPorts = {
  readonly postgres: number;
  readonly shards: readonly number[];
  readonly temporal: number;
  readonly temporalUi: number;
  readonly payments: number;
  readonly demoUpstream: number;
  readonly drain: number;
  readonly worker: number;
  readonly admin: number;
  readonly gateways: readonly number[];
};

/** The environment does not make a configuration; the message names every fault, one a line. */
export class ConfigProblem extends Error {
  override readonly name = 'ConfigProblem';
}

const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;

/** Reads one process's configuration. Throws ConfigProblem with all faults. */
export function readConfig(environment: NodeJS.ProcessEnv): Config {
  const given = parse(environment);
  const stateDir = resolve(given.STATE_DIR);
  const host = given.HOST;
  const at = (port: number): string => `http://${hostOfUrl(host)}:${port}`;
  return deepFreeze<Config>({
    databaseUrl: given.DATABASE_URL ?? localDatabaseUrl(given.POSTGRES_PORT),
    temporal: temporalOf(given) ?? localTemporal(given.TEMPORAL_PORT, given.TEMPORAL_NAMESPACE),
    shards: given.SHARDS ?? localShards(given.SHARD_PORTS),
    host,
    adminPort: given.ADMIN_PORT,
    adminToken: given.ADMIN_TOKEN ?? null,
    gatewayPort: given.GATEWAY_PORT ?? given.GATEWAY_PORTS[0] ?? 7080,
    gatewayName: given.GATEWAY_NAME,
    journalDir: resolve(given.JOURNAL_DIR ?? join(stateDir, 'journal', given.GATEWAY_NAME)),
    gatewayUrls: given.GATEWAY_URLS ?? given.GATEWAY_PORTS.map(at),
    adminUrl: given.ADMIN_URL ?? at(given.ADMIN_PORT),
    drainPort: given.DRAIN_PORT,
    workerPort: given.WORKER_PORT,
    paymentsPort: given.PAYMENTS_PORT,
    paymentsUrl: given.PAYMENTS_URL ?? at(given.PAYMENTS_PORT),
    demoUpstreamPort: given.DEMO_UPSTREAM_PORT,
    demoUpstreamUrl: given.DEMO_UPSTREAM_URL ?? at(given.DEMO_UPSTREAM_PORT),
    temporalUiUrl: given.TEMPORAL_UI_URL ?? at(given.TEMPORAL_UI_PORT),
    stateDir,
    logLevel: given.LOG_LEVEL,
  });
}

/** Reads what `npm start` needs. Throws ConfigProblem with all faults. */
export function readStackConfig(environment: NodeJS.ProcessEnv): StackConfig {
  const given = parse(environment);
  const ports: StackPorts = {
    postgres: given.POSTGRES_PORT,
    shards: given.SHARD_PORTS,
    temporal: given.TEMPORAL_PORT,
    temporalUi: given.TEMPORAL_UI_PORT,
    payments: given.PAYMENTS_PORT,
    demoUpstream: given.DEMO_UPSTREAM_PORT,
    drain: given.DRAIN_PORT,
    worker: given.WORKER_PORT,
    admin: given.ADMIN_PORT,
    gateways: given.GATEWAY_PORTS,
  };
  return deepFreeze<StackConfig>({
    stateDir: resolve(given.STATE_DIR),
    host: given.HOST,
    databaseUrl: given.DATABASE_URL ?? null,
    temporal: temporalOf(given),
    shards: given.SHARDS ?? null,
    paymentsUrl: given.PAYMENTS_URL ?? null,
    adminToken: given.ADMIN_TOKEN ?? null,
    logLevel: given.LOG_LEVEL,
    ports,
  });
}

/** The embedded Postgres as the stack starts it. */
export function localDatabaseUrl(port: number): string {
  return `postgres://tollbook:tollbook@127.0.0.1:${port}/tollbook`;
}

/** The dev server as the stack starts it. */
export function localTemporal(port: number, namespace = 'default'): TemporalConfig {
  return { address: `127.0.0.1:${port}`, namespace, apiKey: null, tls: null };
}

/** The shards as the stack starts them. */
export function localShards(ports: readonly number[]): readonly ShardAddress[] {
  return ports.map((port, index) => ({
    name: `shard-${index + 1}`,
    url: `redis://127.0.0.1:${port}`,
  }));
}

const port = (fallback: number): z.ZodType<number> =>
  z.string().default(String(fallback)).transform(toPort);

const ports = (fallback: string): z.ZodType<readonly number[]> =>
  z
    .string()
    .default(fallback)
    .transform((text, context) => {
      const list = text.split(',').map((part) => toPort(part, context));
      if (new Set(list).size !== list.length) context.addIssue('names a port twice');
      return list;
    });

function toPort(text: string, context: z.RefinementCtx): number {
  const number = Number(text.trim());
  if (!/^\d{1,5}$/.test(text.trim()) || number > 65_535) {
    context.addIssue(`must be a port (0 to 65535), is "${text}"`);
  }
  return number;
}

const httpUrl = z.string().transform((text, context) => {
  const url = URL.parse(text.trim());
  if (url === null || !['http:', 'https:'].includes(url.protocol)) {
    context.addIssue(`must be an http or https URL, is "${text}"`);
  }
  return text.trim().replace(/\/$/, '');
});

const databaseUrl = z.string().refine(
  (text) => ['postgres:', 'postgresql:'].includes(URL.parse(text)?.protocol ?? ''),
  // The value holds a password: it is not repeated.
  'must be a URL like postgres://user:password@host:5432/database',
);

const shardName = /^[a-z][a-z0-9-]{0,30}$/;

const shardList = z.string().transform((text, context) => {
  const list = text.split(',').map((part) => {
    const [name = '', ...rest] = part.trim().split('=');
    const url = rest.join('=');
    const scheme = URL.parse(url)?.protocol ?? '';
    if (!shardName.test(name) || !['redis:', 'rediss:'].includes(scheme)) {
      context.addIssue(
        `must be a list like shard-1=redis://host:6379,shard-2=redis://host:6380; entry "${name}" is not`,
      );
    }
    return { name, url };
  });
  if (new Set(list.map(({ name }) => name)).size !== list.length) {
    context.addIssue('names a shard twice');
  }
  return list;
});

const nameOrUrlList = z.string().transform((text, context) =>
  text.split(',').map((part) => {
    const parsed = httpUrl.safeParse(part);
    if (parsed.success) return parsed.data;
    context.addIssue(`must be a list of http URLs; "${part}" is not`);
    return part;
  }),
);

const isTrue = z
  .enum(['true', 'false', '1', '0'], { error: 'must be true or false' })
  .transform((text) => text === 'true' || text === '1');

const schema = z.object({
  HOST: z.string().default('127.0.0.1'),
  STATE_DIR: z.string().default('.tollbook'),
  LOG_LEVEL: z.enum(logLevels, { error: `must be one of ${logLevels.join(', ')}` }).default('info'),
  DATABASE_URL: databaseUrl.optional(),
  POSTGRES_PORT: port(7432),
  TEMPORAL_ADDRESS: z
    .string()
    .regex(/^[^\s:]+:\d{1,5}$/, 'must be host:port')
    .optional(),
  TEMPORAL_NAMESPACE: z.string().default('default'),
  TEMPORAL_API_KEY: z.string().optional(),
  TEMPORAL_TLS: isTrue.optional(),
  TEMPORAL_TLS_SERVER_NAME: z.string().optional(),
  TEMPORAL_TLS_SERVER_CA_CERT_PATH: z.string().optional(),
  TEMPORAL_TLS_CLIENT_CERT_PATH: z.string().optional(),
  TEMPORAL_TLS_CLIENT_KEY_PATH: z.string().optional(),
  TEMPORAL_PORT: port(7233),
  TEMPORAL_UI_PORT: port(8233),
  TEMPORAL_UI_URL: httpUrl.optional(),
  SHARDS: shardList.optional(),
  SHARD_PORTS: ports('7001,7002,7003'),
  ADMIN_PORT: port(7070),
  ADMIN_URL: httpUrl.optional(),
  ADMIN_TOKEN: z.string().min(16, 'must have at least 16 characters').optional(),
  GATEWAY_PORT: z.string().transform(toPort).optional(),
  GATEWAY_PORTS: ports('7080,7081'),
  GATEWAY_NAME: z
    .string()
    .regex(/^[a-z][a-z0-9-]{0,30}$/, 'must be lower-case letters, digits and dashes')
    .default('gateway-1'),
  GATEWAY_URLS: nameOrUrlList.optional(),
  JOURNAL_DIR: z.string().optional(),
  DRAIN_PORT: port(7092),
  WORKER_PORT: port(7093),
  PAYMENTS_PORT: port(7091),
  PAYMENTS_URL: httpUrl.optional(),
  DEMO_UPSTREAM_PORT: port(7090),
  DEMO_UPSTREAM_URL: httpUrl.optional(),
});

type Given = z.infer<typeof schema>;

function parse(environment: NodeJS.ProcessEnv): Given {
  // An empty variable is an unset one: compose files and CI systems cannot unset.
  const set = Object.entries(environment).filter(
    ([, value]) => value !== undefined && value !== '',
  );
  const parsed = schema.safeParse(Object.fromEntries(set));
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map(
    ({ path, message }) => `  ${path.map(String).join('.')} ${message}`,
  );
  throw new ConfigProblem(
    `The environment has ${faults.length === 1 ? 'a fault' : `${faults.length} faults`}:\n${faults.join('\n')}`,
  );
}

function temporalOf(given: Given): TemporalConfig | null {
  if (given.TEMPORAL_ADDRESS === undefined) return null;
  const files = [
    given.TEMPORAL_TLS_SERVER_CA_CERT_PATH,
    given.TEMPORAL_TLS_CLIENT_CERT_PATH,
    given.TEMPORAL_TLS_SERVER_NAME,
    given.TEMPORAL_API_KEY,
  ];
  const isTls = given.TEMPORAL_TLS ?? files.some((file) => file !== undefined);
  return {
    address: given.TEMPORAL_ADDRESS,
    namespace: given.TEMPORAL_NAMESPACE,
    apiKey: given.TEMPORAL_API_KEY ?? null,
    tls: isTls
      ? {
          serverName: given.TEMPORAL_TLS_SERVER_NAME ?? null,
          serverCaFile: given.TEMPORAL_TLS_SERVER_CA_CERT_PATH ?? null,
          clientCertFile: given.TEMPORAL_TLS_CLIENT_CERT_PATH ?? null,
          clientKeyFile: given.TEMPORAL_TLS_CLIENT_KEY_PATH ?? null,
        }
      : null,
  };
}

/** A listener may bind every address; a URL needs one that can be reached. */
function hostOfUrl(host: string): string {
  if (host === '0.0.0.0' || host === '::') return '127.0.0.1';
  return host.includes(':') ? `[${host}]` : host;
}

function deepFreeze<T extends object>(value: T): T {
  for (const part of Object.values(value)) {
    if (typeof part === 'object' && part !== null) deepFreeze(part);
  }
  return Object.freeze(value);
}
