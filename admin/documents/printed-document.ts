/**
 * An invoice or credit note as it is printed: every text ready, in the subscriber's locale and zone. The page and the
 * PDF are made from this alone, so that neither says anything that the other does not.
 */
export type PrintedDocument = {
  /** Of the words; BCP 47. */
  readonly language: string;
  readonly paper: 'A4' | 'LETTER';
  readonly title: string;
  /** Its number; null on a draft. */
  readonly number: string | null;
  readonly mark: Mark | null;
  /** Who sells: name first; empty where the operator told nothing. */
  readonly from: readonly string[];
  readonly to: { readonly label: string; readonly rows: readonly string[] };
  readonly facts: readonly Fact[];
  /** What stands between the label of a fact and its value. */
  readonly colon: string;
  readonly table: {
    readonly heading: string;
    readonly item: string;
    readonly amount: string;
    readonly lines: readonly PrintedLine[];
  };
  readonly sums: readonly Sum[];
  readonly notes: readonly string[];
  readonly footer: readonly string[];
  readonly page: (page: number, pages: number) => string;
  /** Said by a rendering that lacks glyphs. */
  readonly unprintable: string;
  /** What a file that is made from it is dated, so that it is the same file whenever it is made. */
  readonly datedAt: Date;
};

/** `stamped`: so that nobody takes it for the final thing, it is also written across the paper. */
export type Mark = {
  readonly text: string;
  readonly tone: 'good' | 'bad' | 'soft';
  readonly stamped: boolean;
};

export type Fact = { readonly label: string; readonly value: string };

export type PrintedLine = {
  readonly description: string;
  /** Beneath the description: the price's own name, the time that it is for, how the amount comes about. */
  readonly beneath: readonly string[];
  readonly amount: string;
};

export type Sum = {
  readonly label: string;
  /** What the amount is worked out on. */
  readonly note: string | null;
  readonly amount: string;
  readonly weight: 'plain' | 'total';
};
