import type { Knex } from 'knex';

/**
 * What of a subscription's usage was looked at and found to cost less than its threshold, so that it is priced again only
 * when there is more of it. The rules of `0001_foundation.ts` hold here too.
 */
const looks = `
CREATE TABLE threshold_looks (
  subscription_id text PRIMARY KEY REFERENCES subscriptions,
  -- The period with the terms and the number of events, or more of them, that were priced.
  mark text NOT NULL
);
`;

export async function up(knex: Knex): Promise<void> {
  await knex.raw(looks);
}

/** Migrations only go forward: a release is undone by the next migration, never by losing rows. */
export async function down(): Promise<void> {
  throw new Error('migrations are not reversed: write the next one');
}
