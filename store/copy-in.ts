/**
 * `COPY … FROM STDIN`, the quickest way into a table. The driver speaks its messages but offers no call for it, so this is
 * a query of our own, on which the driver calls what it calls on its own queries.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';

import type { Tx } from './db.ts';

/** As much of the driver's connection as COPY needs. */
type Connection = {
  query(text: string): void;
  sendCopyFromChunk(chunk: Buffer): void;
  endCopyFrom(): void;
  sendCopyFail(message: string): void;
};
/** The driver sets `callback` on the query that it is given. */
type Asked = { callback: (error: Error | null, result?: { readonly rows: [] }) => void };

/**
 * Copies `parts`, rows in COPY's text format, by `statement`: Postgres writes each while the next is put together. Calls
 * `onSent` when all are handed over and Postgres is still busy with them. Throws whatever Postgres refuses.
 */
export async function copyIn(
  tx: Tx,
  statement: string,
  parts: Iterable<string>,
  onSent?: () => void,
): Promise<void> {
  let isOver = false;
  let sending: Promise<void> = Promise.resolve();
  const send = async (connection: Connection): Promise<void> => {
    try {
      for (const part of parts) {
        connection.sendCopyFromChunk(Buffer.from(part));
        await nextTurn();
        // It was refused: what is sent from now on could be taken for rows of the next COPY.
        if (isOver) return;
      }
    } catch (error) {
      connection.sendCopyFail('its rows could not be put together');
      throw error;
    }
    connection.endCopyFrom();
    await nextTurn();
    onSent?.();
  };
  const query = {
    submit: (connection: Connection) => {
      connection.query(statement);
    },
    handleCopyInResponse: (connection: Connection) => {
      sending = send(connection);
      // It is awaited below, after the answer.
      sending.catch(() => {});
    },
    handleCommandComplete: () => {},
    handleError(this: Asked, error: Error) {
      isOver = true;
      this.callback(error);
    },
    handleReadyForQuery(this: Asked) {
      isOver = true;
      this.callback(null, { rows: [] });
    },
  };
  try {
    await tx.raw(statement).options(query);
  } finally {
    // What went wrong while they were put together says more than that Postgres was not given all.
    await sending;
  }
}

/** A text as COPY reads it. */
export function copyText(value: string): string {
  // Ids and keys, which is nearly everything, need no escapes.
  if (!/[\\\t\n\r]/.test(value)) return value;
  return value.replaceAll(/[\\\t\n\r]/g, (special) => ESCAPES[special] ?? special);
}

const ESCAPES: Readonly<Record<string, string>> = {
  '\\': String.raw`\\`,
  '\t': String.raw`\t`,
  '\n': String.raw`\n`,
  '\r': String.raw`\r`,
};
/** How COPY's text format says null. */
export const COPY_NULL = String.raw`\N`;
