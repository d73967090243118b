import type { Shards } from '../shards/port.ts';
import { appendAudit } from '../store/audit.ts';
import { inTransaction, type Db, type Tx } from '../store/db.ts';
import { keepAnswer, noteObject } from '../store/idempotency.ts';
import type { Environment } from '../store/query.ts';
import type { ServiceToken } from '../store/tokens.ts';
import type { Answer } from './route.ts';
import { sealAnswer } from './sealed-answer.ts';
import type { WorkflowEngine } from './workflow-engine.ts';

/** What the admin service is made of; wired in `bin/admin.ts`, and in tests. */
export type AdminDeps = {
  readonly db: Db;
  /** Reads only: what a shard holds is shown, never changed, here. */
  readonly shards: Pick<Shards, 'read'>;
  readonly engine: WorkflowEngine;
  readonly log: AdminLog;
  /** How long a call waits for what goes on elsewhere, in ms. */
  readonly waits: AdminWaits;
  readonly home: HomeSettings;
  /** Upstreams on loopback and private addresses: in a local stack that is where they are. */
  readonly allowPrivateUpstreams: boolean;
};

export type AdminWaits = {
  /** For a change to reach the subscriber's shard. */
  readonly appliedMs: number;
  /** For a workflow to answer an update. */
  readonly workflowMs: number;
  /** For a period close. */
  readonly closeMs: number;
  /** For external events to be counted. */
  readonly countedMs: number;
};

export type AdminLog = {
  info(fields: Readonly<Record<string, unknown>>, message: string): void;
  warn(fields: Readonly<Record<string, unknown>>, message: string): void;
  error(fields: Readonly<Record<string, unknown>>, message: string): void;
};

export type HomeSettings = {
  /** True: a browser on this machine sees the subscribers of `test` without signing in. */
  readonly isOpen: boolean;
  readonly temporalUiUrl: string;
  readonly temporalNamespace: string;
  readonly gatewayUrls: readonly string[];
  readonly adminUrl: string;
};

export type Audit = {
  readonly action: string;
  readonly objectId: string;
  readonly details?: Readonly<Record<string, unknown>>;
};

type IdempotencyKey = { readonly key: string; readonly resumedObjectId: string | null };

/** One authenticated call, as handlers see it. */
export class Call {
  readonly deps: AdminDeps;
  readonly token: ServiceToken;
  readonly environment: Environment;
  readonly requestId: string;
  readonly params: Readonly<Record<string, string>>;
  /** Null: the caller sent no Idempotency-Key. */
  readonly idempotency: IdempotencyKey | null;
  private readonly secret: string | null;

  constructor(parts: {
    readonly deps: AdminDeps;
    readonly token: ServiceToken;
    readonly requestId: string;
    readonly params: Readonly<Record<string, string>>;
    readonly idempotency: IdempotencyKey | null;
    /** The token's text, for routes whose kept answer must be sealed. */
    readonly secret: string | null;
  }) {
    this.deps = parts.deps;
    this.token = parts.token;
    this.environment = parts.token.environment;
    this.requestId = parts.requestId;
    this.params = parts.params;
    this.idempotency = parts.idempotency;
    this.secret = parts.secret;
  }

  get db(): Db {
    return this.deps.db;
  }

  /** The path parameter; the router has matched it. */
  param(name: string): string {
    return this.params[name] ?? '';
  }

  /**
   * A change that is done when its transaction is: effect, audit record and the answer kept for the Idempotency-Key
   * are committed together, so that a repeat after any crash finds all or nothing.
   */
  async write(
    work: (tx: Tx, now: Date) => Promise<{ readonly answer: Answer; readonly audit: Audit | null }>,
  ): Promise<Answer> {
    return inTransaction(this.db, async (tx, now) => {
      const { answer, audit } = await work(tx, now);
      if (audit !== null) await this.audit(tx, audit);
      await this.keep(tx, answer);
      return answer;
    });
  }

  /**
   * The first half of a change that goes on elsewhere. The object is noted under the Idempotency-Key, so that a repeat
   * after a crash goes on with it instead of making another.
   */
  async begin<T>(
    work: (tx: Tx, now: Date) => Promise<{ readonly value: T; readonly audit: Audit }>,
  ): Promise<T> {
    return inTransaction(this.db, async (tx, now) => {
      const { value, audit } = await work(tx, now);
      await this.audit(tx, audit);
      if (this.idempotency !== null) {
        await noteObject(tx, {
          tokenId: this.token.id,
          key: this.idempotency.key,
          objectId: audit.objectId,
        });
      }
      return value;
    });
  }

  /** Keeps the answer of a call that carries an Idempotency-Key. A second time changes nothing. */
  async keep(tx: Db | Tx, answer: Answer): Promise<void> {
    if (this.idempotency === null || !('body' in answer)) return;
    const body = JSON.stringify(answer.body);
    await keepAnswer(tx, {
      tokenId: this.token.id,
      key: this.idempotency.key,
      status: answer.status,
      answer:
        this.secret === null
          ? { kind: 'open', body }
          : sealAnswer(body, { secret: this.secret, key: this.idempotency.key }),
    });
  }

  async audit(tx: Db | Tx, audit: Audit): Promise<void> {
    await appendAudit(tx, {
      environment: this.environment,
      actor: `token:${this.token.id}`,
      action: audit.action,
      objectId: audit.objectId,
      requestId: this.requestId,
      details: audit.details ?? {},
    });
  }
}
