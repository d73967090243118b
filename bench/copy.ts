/** COPY through node-postgres, which speaks its messages but offers no call for it. */
import type { Client, Submittable } from 'pg';

/** As much of the driver's connection as COPY needs. */
type CopyConnection = {
  query(text: string): void;
  sendCopyFromChunk(chunk: Buffer): void;
  endCopyFrom(): void;
};

const CHUNK_BYTES = 65_536;

/** What the driver calls on the query that it runs. */
class Copy implements Submittable {
  readonly done: Promise<Buffer>;
  readonly #text: string;
  readonly #input: Buffer;
  readonly #output: Buffer[] = [];
  readonly #settle = Promise.withResolvers<Buffer>();

  constructor(text: string, input: Buffer) {
    this.#text = text;
    this.#input = input;
    this.done = this.#settle.promise;
  }

  submit(connection: Pick<CopyConnection, 'query'>): void {
    connection.query(this.#text);
  }
  handleCopyInResponse(connection: CopyConnection): void {
    for (let at = 0; at < this.#input.length; at += CHUNK_BYTES) {
      connection.sendCopyFromChunk(this.#input.subarray(at, at + CHUNK_BYTES));
    }
    connection.endCopyFrom();
  }
  handleCopyData(message: { readonly chunk: Buffer }): void {
    this.#output.push(Buffer.from(message.chunk));
  }
  handleError(error: Error): void {
    this.#settle.reject(error);
  }
  handleReadyForQuery(): void {
    this.#settle.resolve(Buffer.concat(this.#output));
  }
  handleRowDescription(): void {}
  handleDataRow(): void {}
  handleCommandComplete(): void {}
  handleEmptyQuery(): void {}
  handlePortalSuspended(): void {}
}

/** Runs `COPY … TO STDOUT` and gives what it said. */
export function copyOut(client: Client, text: string): Promise<Buffer> {
  const copy = new Copy(text, Buffer.alloc(0));
  client.query(copy);
  return copy.done;
}

/** Runs `COPY … FROM STDIN` with these bytes. */
export async function copyIn(client: Client, text: string, input: Buffer): Promise<void> {
  const copy = new Copy(text, input);
  client.query(copy);
  await copy.done;
}
