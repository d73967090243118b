/**
 * The part of RESP2 that a call of a script needs: a command as text, and replies read strictly. A reply that is not in
 * its form throws, and the connection goes with it: after one misread byte nothing on it can be believed.
 */
import { isAscii } from 'node:buffer';

/** An error that the server answered; its first word is the code. */
export class ReplyError extends Error {
  override readonly name = 'ReplyError';
}

/** Bytes that are no reply. */
export class NoReply extends Error {
  override readonly name = 'NoReply';
}

/** What a reply can be. An error inside a list stays where it is. */
export type RespValue = string | number | null | ReplyError | readonly RespValue[];

const replyBytesMax = 64 * 1024 * 1024;
const nestingMax = 16;

/** A command, ready to be written as UTF-8. */
export function encodeCommand(words: readonly string[]): string {
  let text = `*${words.length}\r\n`;
  for (const word of words) text += `$${word.length}\r\n${word}\r\n`;
  if (isOneByteEach(text)) return text;
  text = `*${words.length}\r\n`;
  for (const word of words) text += `$${Buffer.byteLength(word)}\r\n${word}\r\n`;
  return text;
}

/** Whether a text has as many bytes as letters. */
function isOneByteEach(text: string): boolean {
  return Buffer.byteLength(text) === text.length;
}

/**
 * Reads replies from chunks that may be cut anywhere. Chunks are read as Latin-1, so that one letter is one byte and
 * pieces are cut out of one string; only a chunk with bytes above 127 is decoded word by word.
 */
export class ReplyReader {
  readonly #onReply: (reply: RespValue) => void;
  #text = '';
  #at = 0;
  #isAscii = true;

  constructor(onReply: (reply: RespValue) => void) {
    this.#onReply = onReply;
  }

  /** Takes the next bytes; calls back for each reply that they complete. @throws NoReply */
  push(chunk: Buffer): void {
    this.#isAscii = (this.#text === '' || this.#isAscii) && isAscii(chunk);
    this.#text += chunk.toString('latin1');
    let done = 0;
    for (;;) {
      const reply = this.#at < this.#text.length ? this.#value(0) : undefined;
      if (reply === undefined) break;
      done = this.#at;
      this.#onReply(reply);
    }
    this.#text = done === this.#text.length ? '' : this.#text.slice(done);
    this.#at = 0;
    if (this.#text.length > replyBytesMax) throw new NoReply('a reply is too long');
  }

  /** Undefined: not all of it is here yet. */
  #value(depth: number): RespValue | undefined {
    const kind = this.#text.charCodeAt(this.#at);
    if (Number.isNaN(kind)) return undefined;
    switch (kind) {
      case 36: // $
        return this.#bulk();
      case 42: // *
        return this.#list(depth);
      case 58: // :
        return this.#integer();
      case 43: // +
        return this.#line();
      case 45: {
        // -
        const line = this.#line();
        return line === undefined ? undefined : new ReplyError(line);
      }
      default:
        throw new NoReply(`a reply begins with the byte ${kind}`);
    }
  }

  #bulk(): string | null | undefined {
    const length = this.#integer();
    if (length === undefined) return undefined;
    if (length === -1) return null;
    if (length < 0 || length > replyBytesMax) throw new NoReply('a length out of range');
    const end = this.#at + length;
    if (end + 2 > this.#text.length) return undefined;
    if (this.#text.charCodeAt(end) !== 13 || this.#text.charCodeAt(end + 1) !== 10) {
      throw new NoReply('a text does not end where its length says');
    }
    const text = this.#text.slice(this.#at, end);
    this.#at = end + 2;
    return this.#decoded(text);
  }

  #list(depth: number): readonly RespValue[] | null | undefined {
    const length = this.#integer();
    if (length === undefined) return undefined;
    if (length === -1) return null;
    if (length < 0 || length > replyBytesMax || depth >= nestingMax) {
      throw new NoReply('a list out of range');
    }
    const list: RespValue[] = [];
    for (let index = 0; index < length; index += 1) {
      const value = this.#value(depth + 1);
      if (value === undefined) return undefined;
      list.push(value);
    }
    return list;
  }

  /** The number after the byte that says what it is. */
  #integer(): number | undefined {
    const text = this.#text;
    let at = this.#at + 1;
    const isNegative = text.charCodeAt(at) === 45;
    if (isNegative) at += 1;
    const first = at;
    let value = 0;
    for (;;) {
      const code = text.charCodeAt(at);
      if (code >= 48 && code <= 57) {
        value = value * 10 + (code - 48);
        at += 1;
      } else if (Number.isNaN(code)) {
        if (at - first > 16) throw new NoReply('a number out of range');
        return undefined;
      } else {
        break;
      }
    }
    if (at === first || value > Number.MAX_SAFE_INTEGER || text.charCodeAt(at) !== 13) {
      throw new NoReply('not a number');
    }
    if (at + 1 === text.length) return undefined;
    if (text.charCodeAt(at + 1) !== 10) throw new NoReply('a line does not end');
    this.#at = at + 2;
    return isNegative ? -value : value;
  }

  #line(): string | undefined {
    const end = this.#text.indexOf('\r\n', this.#at);
    if (end === -1) return undefined;
    const line = this.#text.slice(this.#at + 1, end);
    this.#at = end + 2;
    return this.#decoded(line);
  }

  #decoded(text: string): string {
    return this.#isAscii ? text : Buffer.from(text, 'latin1').toString('utf8');
  }
}
