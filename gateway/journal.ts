/**
 * The gateway's own memory of what it owes the shards: one line for each request that ended, written before the client
 * has the last byte. `append` gathers the lines of one turn of the event loop and writes them with one write(2): the
 * page cache survives the death of the process, which is what the journal is for (the loss of a machine is the
 * shards' and Postgres' matter).
 *
 * Files are closed at a size or age and deleted when each of their records has its answer and Postgres has committed
 * what the answers appended. What is needed for that is kept per file and shard, never per record, so that a drain that
 * stands still for hours costs disk, not memory.
 */
import {
  closeSync,
  mkdirSync,
  openSync,
  existsSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';

import type { SettleRequest } from '../shards/port.ts';
import { lockJournal } from './journal-lock.ts';
import { journalFileAgeMs, journalFileBytesMax } from './limits.ts';
import { formatRecord, parseRecord } from './settle-record.ts';

/** A place in the stream of a shard. */
export type StreamPlace = {
  readonly shard: string;
  readonly incarnation: number;
  readonly streamId: string;
};

/** A journal file, while the process knows it. */
export type JournalFile = {
  readonly path: string;
  readonly openedMs: number;
  /** Null: closed. */
  fd: number | null;
  bytes: number;
  /** Records without an answer of their shard. */
  unsettled: number;
  /** Of an earlier run and not yet read. */
  isUnread: boolean;
  /** The furthest place that must be committed, for each shard. */
  readonly needed: Map<string, StreamPlace>;
};

export type Journal = {
  /** `done(null)`: the line is written. `done(error)`: it is not, and the caller needs another proof. */
  append(request: SettleRequest, done: (error: Error | null) => void): JournalFile;
  /** The shard has answered a record of this file; `place` null: nothing to wait for. */
  answered(file: JournalFile, place: StreamPlace | null): void;
  /** Files of earlier runs whose records have not been sent by this one. */
  unread(): readonly JournalFile[];
  files(): readonly JournalFile[];
  /** `tornCount`: lines that are no record; a crash in the middle of a write leaves one at the end. */
  read(file: JournalFile): {
    readonly requests: readonly SettleRequest[];
    readonly tornCount: number;
  };
  /** Closes an old file, deletes what is committed. */
  tidy(isCommitted: (place: StreamPlace) => boolean): void;
  isHealthy(): boolean;
  /** Writes what waits, closes, unlocks. Files that are still needed stay for the next run. */
  close(isCommitted: (place: StreamPlace) => boolean): void;
};

const suffix = '.jsonl';

/** Opens the journal of `folder`. Throws JournalLocked when another process has it. */
export function openJournal(folder: string, now: () => number = Date.now): Journal {
  mkdirSync(folder, { recursive: true });
  const unlock = lockJournal(join(folder, 'lock'));
  return new FileJournal(folder, unlock, now);
}

class FileJournal implements Journal {
  readonly #folder: string;
  readonly #unlock: () => void;
  readonly #now: () => number;
  #files: JournalFile[];
  #current: JournalFile | null = null;
  #lines = '';
  #waiting: ((error: Error | null) => void)[] = [];
  #isHealthy = true;
  #fileCount = 0;

  constructor(folder: string, unlock: () => void, now: () => number) {
    this.#folder = folder;
    this.#unlock = unlock;
    this.#now = now;
    this.#files = readdirSync(folder)
      .filter((name) => name.endsWith(suffix))
      .toSorted()
      .map((name) => ({ ...newFile(join(folder, name), now()), isUnread: true }));
  }

  append(request: SettleRequest, done: (error: Error | null) => void): JournalFile {
    const file = this.#fileFor();
    this.#lines += formatRecord(request);
    file.unsettled += 1;
    if (this.#waiting.push(done) === 1) setImmediate(this.#flush);
    return file;
  }

  answered(file: JournalFile, place: StreamPlace | null): void {
    file.unsettled -= 1;
    if (place === null) return;
    const before = file.needed.get(place.shard);
    if (before === undefined || isBehind(before, place)) file.needed.set(place.shard, place);
  }

  unread(): readonly JournalFile[] {
    return this.#files.filter(({ isUnread }) => isUnread);
  }

  files(): readonly JournalFile[] {
    return this.#files;
  }

  read(file: JournalFile): {
    readonly requests: readonly SettleRequest[];
    readonly tornCount: number;
  } {
    if (file === this.#current) this.#flush();
    // A disk that was full when the file was begun has none of it.
    const text = existsSync(file.path) ? readFileSync(file.path, 'utf8') : '';
    const lines = text.split('\n').filter((line) => line !== '');
    const requests = lines.flatMap((line) => parseRecord(line) ?? []);
    return { requests, tornCount: lines.length - requests.length };
  }

  tidy(isCommitted: (place: StreamPlace) => boolean): void {
    // Requests are refused meanwhile, so nobody else would ever find out that it can be written again.
    if (!this.#isHealthy) this.#isHealthy = this.#isWritable();
    const current = this.#current;
    if (current !== null && this.#waiting.length === 0) {
      const isOld = this.#now() - current.openedMs >= journalFileAgeMs;
      if (isOld && current.bytes > 0) this.#closeCurrent();
    }
    this.#files = this.#files.filter((file) => {
      const isNeeded =
        file.fd !== null ||
        file.isUnread ||
        file.unsettled > 0 ||
        !file.needed.values().every(isCommitted);
      if (!isNeeded) rmSync(file.path, { force: true });
      return isNeeded;
    });
  }

  isHealthy(): boolean {
    return this.#isHealthy;
  }

  close(isCommitted: (place: StreamPlace) => boolean): void {
    this.#flush();
    this.#closeCurrent();
    this.tidy(isCommitted);
    this.#unlock();
  }

  #fileFor(): JournalFile {
    if (this.#current !== null && this.#current.bytes < journalFileBytesMax) return this.#current;
    // The lines that wait belong to the file that they were promised to.
    this.#flush();
    this.#closeCurrent();
    this.#fileCount += 1;
    const name = `${this.#now()}-${process.pid}-${String(this.#fileCount).padStart(6, '0')}${suffix}`;
    const file = newFile(join(this.#folder, name), this.#now());
    this.#current = file;
    this.#files.push(file);
    return file;
  }

  readonly #flush = (): void => {
    if (this.#waiting.length === 0) return;
    const waiting = this.#waiting;
    const lines = this.#lines;
    this.#waiting = [];
    this.#lines = '';
    const error = this.#write(lines);
    this.#isHealthy = error === null;
    for (const done of waiting) done(error);
  };

  #isWritable(): boolean {
    this.#fileFor();
    // An empty line is no record.
    return this.#write('\n') === null;
  }

  #write(lines: string): Error | null {
    const file = this.#current;
    if (file === null) return new Error('the journal has no file');
    try {
      file.fd ??= openSync(file.path, 'a');
      const bytes = Buffer.from(lines);
      let written = 0;
      while (written < bytes.length) written += writeSync(file.fd, bytes, written);
      file.bytes += bytes.length;
      return null;
    } catch (error) {
      // Half a line may be in the file; the next one must not begin behind it.
      this.#closeCurrent();
      return error instanceof Error ? error : new Error('the journal cannot be written');
    }
  }

  #closeCurrent(): void {
    const file = this.#current;
    this.#current = null;
    if (file === null || file.fd === null) return;
    closeSync(file.fd);
    file.fd = null;
  }
}

function newFile(path: string, openedMs: number): JournalFile {
  return {
    path,
    openedMs,
    fd: null,
    bytes: 0,
    unsettled: 0,
    isUnread: false,
    needed: new Map(),
  };
}

/** Whether `a` lies before `b`. */
export function isBehind(a: StreamPlace, b: StreamPlace): boolean {
  if (a.incarnation !== b.incarnation) return a.incarnation < b.incarnation;
  const [aMs = 0, aSequence = 0] = a.streamId.split('-').map(Number);
  const [bMs = 0, bSequence = 0] = b.streamId.split('-').map(Number);
  return aMs === bMs ? aSequence < bSequence : aMs < bMs;
}
