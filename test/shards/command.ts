/** The commands that a table row, a property and both subjects (the model, the scripts) understand. Instants are ms after the base. */
export type Plan = {
  readonly id: number;
  readonly period: number;
  readonly from: number;
  readonly until: number;
  readonly status?: 'active' | 'past_due' | 'inactive';
  readonly overage?: boolean;
  readonly features?: readonly string[];
  readonly rate?: { readonly limit: number; readonly windowMs: number };
  readonly concurrency?: number;
  readonly limits?: readonly {
    readonly name: string;
    readonly meter?: string;
    readonly limit: number;
    readonly soft?: boolean;
    /** [from, until), or a length since the base. */
    readonly window: readonly [number, number] | number;
  }[];
  /** Micro-credits for one call, and for one token. */
  readonly price?: { readonly calls: number; readonly tokens?: number };
};

export type Bucket = {
  readonly id: number;
  readonly priority?: number;
  readonly promotional?: boolean;
  readonly effective?: number;
  readonly expires?: number;
  readonly scope?: readonly string[];
};

export type Command =
  | { readonly do: 'at'; readonly ms: number }
  | { readonly do: 'apply'; readonly version: number; readonly plans: readonly Plan[] }
  | { readonly do: 'grant' | 'void' | 'debit'; readonly bucket: Bucket; readonly micro: number }
  | {
      readonly do: 'authorize';
      readonly op: string;
      readonly calls?: number;
      readonly tokens?: number;
      readonly feature?: string;
      readonly ttl?: number;
      readonly key?: 'good' | 'unknown' | 'expired' | 'other_product';
    }
  | {
      readonly do: 'settle';
      readonly op: string;
      readonly calls?: number;
      readonly tokens?: number;
    }
  | { readonly do: 'release' | 'extend' | 'expire'; readonly op: string }
  | { readonly do: 'slice'; readonly op: string; readonly k: number; readonly calls: number }
  | { readonly do: 'record'; readonly op: string; readonly calls: number; readonly at?: number }
  | { readonly do: 'seal'; readonly period: number }
  | { readonly do: 'read' };

/** What a subject says to a command, in one line, without instants of its own. */
export type Subject = { run(command: Command): Promise<string> };
