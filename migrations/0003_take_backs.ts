import type { Knex } from 'knex';

/**
 * Credits of a top-up that are taken back for a credit note on its invoice. The intent comes first; then the shard says
 * what it took; what that comes to is decided once, in the transaction that posts it; then the note is issued for it.
 */
const takeBacks = `
CREATE TABLE take_backs (
  id text PRIMARY KEY CHECK (id ~ '^tkb_[0-9a-z]{22}$'),
  environment text NOT NULL CHECK (environment IN ('test', 'live')),
  subscriber_id text NOT NULL REFERENCES subscribers,
  invoice_id text NOT NULL REFERENCES invoices,
  grant_id text NOT NULL REFERENCES grants,
  -- That of the credit note: whoever asks again gets the same one.
  business_key text NOT NULL UNIQUE,
  -- What the shard is asked for; it may have less.
  asked_micro bigint NOT NULL CHECK (asked_micro > 0),
  -- The amount of the invoice's line that is wanted back; null: what all that is available cost.
  asked_minor bigint CHECK (asked_minor > 0),
  reason text NOT NULL CHECK (reason IN ('duplicate', 'mistake', 'service_issue', 'goodwill', 'cancellation', 'other')),
  memo text,
  refund_to text NOT NULL CHECK (refund_to IN ('balance', 'refund')),
  actor text NOT NULL,
  -- taking: the shard has not answered; taken: the note is to be issued; refused: nothing was left that a unit of money buys.
  state text NOT NULL CHECK (state IN ('taking', 'taken', 'credited', 'refused')),
  taken_micro bigint CHECK (taken_micro BETWEEN 0 AND asked_micro),
  -- The amount of the line that is given back for them.
  credited_minor bigint CHECK (credited_minor >= 0),
  credit_note_id text UNIQUE REFERENCES credit_notes,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  CHECK ((state = 'taking') = (taken_micro IS NULL) AND (taken_micro IS NULL) = (credited_minor IS NULL)),
  CHECK ((state = 'refused') = (taken_micro IS NOT NULL AND taken_micro = 0)),
  CHECK ((taken_micro > 0) = (credited_minor > 0)),
  CHECK ((state = 'credited') = (credit_note_id IS NOT NULL))
);
CREATE UNIQUE INDEX one_take_back_at_a_time ON take_backs (grant_id) WHERE state IN ('taking', 'taken');
CREATE INDEX take_backs_by_grant ON take_backs (grant_id);
CREATE INDEX take_backs_by_invoice ON take_backs (invoice_id, created_at);
`;

export async function up(knex: Knex): Promise<void> {
  await knex.raw(takeBacks);
}

/** Migrations only go forward: a release is undone by the next migration, never by losing rows. */
export async function down(): Promise<void> {
  throw new Error('migrations are not reversed: write the next one');
}
