import type { Knex } from 'knex';

/** Every draft asks what the invoices of its subscription have billed. The rules of `0001_foundation.ts` hold here too. */
const index = `
CREATE INDEX invoices_by_subscription ON invoices (subscription_id, created_at) WHERE subscription_id IS NOT NULL;
`;

export async function up(knex: Knex): Promise<void> {
  await knex.raw(index);
}

/** Migrations only go forward: a release is undone by the next migration, never by losing rows. */
export async function down(): Promise<void> {
  throw new Error('migrations are not reversed: write the next one');
}
