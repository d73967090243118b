/**
 * The connection that requests go through: the calls of one turn of the event loop leave by few writes, replies are
 * matched in order, and no call is ever sent twice. A call ends exactly once: by its reply, by its deadline, or with the
 * connection. Why it is our own: docs/decisions/0009-shard-pipe.md.
 */
import { connect as connectTcp } from 'node:net';
import type { Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';

import { encodeCommand, ReplyError, ReplyReader } from './resp.ts';
import type { RespValue } from './resp.ts';

/** There is no connection, so the call was not sent. */
export class NotConnected extends Error {
  override readonly name = 'NotConnected';
}

export type Pipe = {
  /** Ready, or being made ready. */
  isReady(): boolean;
  /** Resolves when it is ready, or after `waitMs`, whatever comes first; the call then tells. */
  awaitReady(waitMs: number): Promise<void>;
  /**
   * Sends a command as `encodeCommand` gives it, once. Exactly one of the two is called, never before this returns.
   * `onError`: NotConnected (without effect), ReplyError (what the server said), or anything else: it may have run.
   */
  send(command: string, onReply: (reply: RespValue) => void, onError: (error: Error) => void): void;
  /** Ends the connection for ever; what waits for a reply is told so. */
  close(): void;
};

export type PipeOptions = {
  /** A call without an answer for so long is given up; it may still run. */
  readonly commandTimeoutMs: number;
};

const connectMsMax = 2000;
const reconnectMsMax = 1000;
/** A server that went away without a word leaves the socket open: nothing heard for so long ends it. */
const silenceMsMax = 5000;
/**
 * A busy turn is written in pieces: a server answers a piece only when it has run all of it, so one large piece would make
 * gateway and shard wait for each other by turns.
 */
const piecesBytesMax = 3_000;
/** One clock serves all calls of a connection: a timer of its own would cost each of them more than its bytes. */
const sweepEveryMs = 10;

/** Opens a connection in the background; it reconnects by itself, with jitter, until `close()`. */
export function openPipe(url: string, options: PipeOptions): Pipe {
  return new RedisPipe(url, options);
}

type Pending = {
  readonly deadlineMs: number;
  readonly onReply: (reply: RespValue) => void;
  readonly onError: (error: Error) => void;
  /** Given up: its reply, if it comes, is nobody's. */
  isOver: boolean;
  next: Pending | null;
};

class RedisPipe implements Pipe {
  readonly #address: Address;
  readonly #commandTimeoutMs: number;
  readonly #waiters = new Set<() => void>();
  #socket: Socket | null = null;
  #isReady = false;
  #isClosed = false;
  #attempts = 0;
  #reconnecting: NodeJS.Timeout | null = null;
  /** What leaves at the end of this turn. */
  #outgoing = '';
  /** The calls that wait for a reply, oldest first. */
  #head: Pending | null = null;
  #tail: Pending | null = null;
  /** The oldest that has not been given up. */
  #live: Pending | null = null;
  #sweeper: NodeJS.Timeout | null = null;
  #heardMs = 0;

  constructor(url: string, { commandTimeoutMs }: PipeOptions) {
    this.#address = readAddress(url);
    this.#commandTimeoutMs = commandTimeoutMs;
    this.#connect();
  }

  isReady(): boolean {
    return this.#isReady;
  }

  async awaitReady(waitMs: number): Promise<void> {
    if (this.#isReady || this.#isClosed || waitMs <= 0) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#waiters.delete(done);
        resolve();
      };
      const timer = setTimeout(done, waitMs);
      this.#waiters.add(done);
    });
  }

  send(
    command: string,
    onReply: (reply: RespValue) => void,
    onError: (error: Error) => void,
  ): void {
    if (!this.#isReady) {
      queueMicrotask(() => {
        onError(new NotConnected('no connection'));
      });
      return;
    }
    this.#push(command, onReply, onError);
  }

  close(): void {
    this.#isClosed = true;
    if (this.#reconnecting !== null) clearTimeout(this.#reconnecting);
    this.#socket?.destroy();
    this.#fail(new Error('the connection was closed'));
    this.#wake();
  }

  #push(
    command: string,
    onReply: (reply: RespValue) => void,
    onError: (error: Error) => void,
  ): void {
    const nowMs = performance.now();
    const pending: Pending = {
      deadlineMs: nowMs + this.#commandTimeoutMs,
      onReply,
      onError,
      isOver: false,
      next: null,
    };
    if (this.#tail === null) {
      this.#head = pending;
      // Silence counts from the first call that waits.
      this.#heardMs = nowMs;
    } else {
      this.#tail.next = pending;
    }
    this.#tail = pending;
    this.#live ??= pending;
    this.#sweeper ??= setInterval(this.#sweep, sweepEveryMs);
    if (this.#outgoing === '') setImmediate(this.#flush);
    this.#outgoing += command;
    if (this.#outgoing.length >= piecesBytesMax) this.#flush();
  }

  readonly #flush = (): void => {
    const text = this.#outgoing;
    this.#outgoing = '';
    // Empty: the connection has ended since, and its calls have been told.
    if (text === '' || this.#socket === null) return;
    // ASCII leaves faster as Latin-1, and is the same bytes.
    this.#socket.write(text, Buffer.byteLength(text) === text.length ? 'latin1' : 'utf8');
  };

  readonly #take = (reply: RespValue): void => {
    const pending = this.#head;
    if (pending === null) throw new Error('a reply that nobody asked for');
    this.#head = pending.next;
    if (this.#head === null) this.#tail = null;
    if (this.#live === pending) this.#live = pending.next;
    if (pending.isOver) return;
    pending.isOver = true;
    if (reply instanceof ReplyError) pending.onError(reply);
    else pending.onReply(reply);
  };

  /** Gives up what is past its deadline, and the connection when nothing at all is heard. */
  readonly #sweep = (): void => {
    const nowMs = performance.now();
    while (this.#live !== null && this.#live.deadlineMs <= nowMs) {
      const pending = this.#live;
      this.#live = pending.next;
      pending.isOver = true;
      pending.onError(new Error('no reply in time'));
    }
    if (this.#head === null) this.#stopSweeper();
    else if (nowMs - this.#heardMs > silenceMsMax) this.#socket?.destroy();
  };

  #stopSweeper(): void {
    if (this.#sweeper !== null) clearInterval(this.#sweeper);
    this.#sweeper = null;
  }

  #connect(): void {
    const { host, port, isTls } = this.#address;
    const options = { host, port, noDelay: true, keepAlive: true };
    const socket = isTls ? connectTls({ ...options, servername: host }) : connectTcp(options);
    this.#socket = socket;
    const reader = new ReplyReader(this.#take);
    const tooLate = setTimeout(() => socket.destroy(), connectMsMax);
    socket.once(isTls ? 'secureConnect' : 'connect', () => {
      this.#greet(socket, () => {
        clearTimeout(tooLate);
      });
    });
    socket.on('data', (chunk: Buffer) => {
      // Bytes that were read before it was destroyed belong to calls that have ended.
      if (this.#socket !== socket) return;
      this.#heardMs = performance.now();
      try {
        reader.push(chunk);
      } catch {
        socket.destroy();
      }
    });
    // Each call reports its own failure, when the socket closes.
    socket.on('error', () => {});
    socket.once('end', () => socket.destroy());
    socket.once('close', () => {
      clearTimeout(tooLate);
      this.#lost(socket);
    });
  }

  /** Signs in, chooses the database, and asks whether the data is there: a server that loads it refuses `PING`. */
  #greet(socket: Socket, onReady: () => void): void {
    const { username, password, database } = this.#address;
    const commands = [
      ...(password === '' ? [] : [['AUTH', ...(username === '' ? [] : [username]), password]]),
      ...(database === '' ? [] : [['SELECT', database]]),
      ['PING'],
    ];
    let isRefused = false;
    for (const [index, words] of commands.entries()) {
      const isLast = index === commands.length - 1;
      const refused = (): void => {
        isRefused = true;
        socket.destroy();
      };
      const accepted = (): void => {
        if (!isLast || isRefused || this.#isClosed) return;
        onReady();
        this.#attempts = 0;
        this.#isReady = true;
        this.#wake();
      };
      this.#push(encodeCommand(words), accepted, refused);
    }
  }

  #lost(socket: Socket): void {
    if (this.#socket !== socket) return;
    this.#socket = null;
    this.#fail(new Error('the connection was lost'));
    if (this.#isClosed) return;
    const waitMs = Math.min(25 * 2 ** Math.min(this.#attempts, 6), reconnectMsMax);
    this.#attempts += 1;
    this.#reconnecting = setTimeout(
      () => {
        this.#connect();
      },
      waitMs * (0.5 + Math.random()),
    );
  }

  /** Tells every call that waits, once, and forgets it. */
  #fail(error: Error): void {
    this.#isReady = false;
    this.#outgoing = '';
    let pending = this.#live;
    this.#head = null;
    this.#tail = null;
    this.#live = null;
    this.#stopSweeper();
    while (pending !== null) {
      const { next } = pending;
      pending.isOver = true;
      pending.onError(error);
      pending = next;
    }
  }

  #wake(): void {
    for (const waiter of [...this.#waiters]) waiter();
  }
}

type Address = {
  readonly host: string;
  readonly port: number;
  readonly isTls: boolean;
  readonly username: string;
  readonly password: string;
  readonly database: string;
};

function readAddress(url: string): Address {
  const { protocol, hostname, port, username, password, pathname } = new URL(url);
  return {
    // The brackets of an IPv6 address are the URL's.
    host: hostname.replace(/^\[(.*)\]$/, '$1'),
    port: port === '' ? 6379 : Number(port),
    isTls: protocol === 'rediss:',
    username: decodeURIComponent(username),
    password: decodeURIComponent(password),
    database: pathname.slice(1),
  };
}
