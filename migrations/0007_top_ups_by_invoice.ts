import type { Knex } from 'knex';

/** Whatever asks for the money of an invoice looks for the top-up that it may be of. */
const index = 'CREATE INDEX top_ups_by_invoice ON top_ups (invoice_id);';

export async function up(knex: Knex): Promise<void> {
  await knex.raw(index);
}

/** Migrations only go forward: a release is undone by the next migration, never by losing rows. */
export async function down(): Promise<void> {
  throw new Error('migrations are not reversed: write the next one');
}
