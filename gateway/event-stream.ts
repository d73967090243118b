import { reportEventBytesMax } from './limits.ts';

const LF = 10;
const CR = 13;

/**
 * Finds the data of each event in a `text/event-stream`, however the bytes are cut into chunks, without changing or
 * holding back a byte: it only looks. Lines may end in LF, CRLF or CR. An event longer than the bound is passed over.
 */
export class EventStream {
  #carry: Buffer[] = [];
  #carriedBytes = 0;
  #isTooLong = false;
  #isAfterCr = false;
  #data: string[] = [];
  #dataBytes = 0;
  readonly #onData: (data: string) => void;

  constructor(onData: (data: string) => void) {
    this.#onData = onData;
  }

  push(chunk: Buffer): void {
    let start = 0;
    if (this.#isAfterCr && chunk.length > 0) {
      this.#isAfterCr = false;
      if (chunk[0] === LF) start = 1;
    }
    let nextLf = chunk.indexOf(LF, start);
    let nextCr = chunk.indexOf(CR, start);
    while (nextLf !== -1 || nextCr !== -1) {
      const isCr = nextCr !== -1 && (nextLf === -1 || nextCr < nextLf);
      const end = isCr ? nextCr : nextLf;
      this.#line(chunk.subarray(start, end));
      start = end + 1;
      if (isCr) {
        if (start === chunk.length) this.#isAfterCr = true;
        else if (chunk[start] === LF) start += 1;
        nextCr = chunk.indexOf(CR, start);
      }
      if (nextLf !== -1 && nextLf < start) nextLf = chunk.indexOf(LF, start);
    }
    if (start < chunk.length) this.#keep(chunk.subarray(start));
  }

  /** The stream is over; an event without its empty line still counts, as the report is often the last thing said. */
  end(): void {
    if (this.#carriedBytes > 0 || this.#isTooLong) this.#line(Buffer.alloc(0));
    this.#dispatch();
  }

  #keep(rest: Buffer): void {
    if (this.#isTooLong) return;
    if (this.#carriedBytes + rest.length > reportEventBytesMax) {
      this.#isTooLong = true;
      this.#carry = [];
      this.#carriedBytes = 0;
      return;
    }
    // Copied: the forwarder's buffer may be used again.
    this.#carry.push(Buffer.from(rest));
    this.#carriedBytes += rest.length;
  }

  #line(end: Buffer): void {
    if (this.#isTooLong) {
      this.#isTooLong = false;
      return;
    }
    let line = end;
    if (this.#carriedBytes > 0) {
      line = Buffer.concat([...this.#carry, end]);
      this.#carry = [];
      this.#carriedBytes = 0;
    }
    if (line.length === 0) {
      this.#dispatch();
      return;
    }
    if (!isData(line)) return;
    const text = line.toString('utf8', line[5] === 32 ? 6 : 5);
    this.#dataBytes += line.length;
    if (this.#dataBytes <= reportEventBytesMax) this.#data.push(text);
  }

  #dispatch(): void {
    if (this.#data.length > 0 && this.#dataBytes <= reportEventBytesMax) {
      this.#onData(this.#data.join('\n'));
    }
    this.#data = [];
    this.#dataBytes = 0;
  }
}

/** `data:` */
function isData(line: Buffer): boolean {
  return (
    line.length >= 5 &&
    line[0] === 100 &&
    line[1] === 97 &&
    line[2] === 116 &&
    line[3] === 97 &&
    line[4] === 58
  );
}
