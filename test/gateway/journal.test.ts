import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { request as httpRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { isBehind, openJournal } from '../../gateway/journal.ts';
import type { Journal, StreamPlace } from '../../gateway/journal.ts';
import { JournalLocked } from '../../gateway/journal-lock.ts';
import { journalFileBytesMax } from '../../gateway/limits.ts';
import type { SettleRequest } from '../../shards/port.ts';
import { freePort } from '../support/ports.ts';
import { until } from '../support/until.ts';
import { openShard, openStage, productId } from './stage.ts';
import type { Stage, Subscriber } from './stage.ts';

function record(sequence: number): SettleRequest {
  return {
    subscriberId: 'sbr_0000000000000000000000',
    opId: `20260101-gabcdef-${sequence.toString(36)}`,
    generation: 1,
    atMs: 1,
    segmentId: '1',
    subscriptionId: 'sub_0000000000000000000000',
    productId,
    keyId: 'key_0000000000000000000000',
    verb: 'settle',
    status: 200,
    actuals: [{ meter: 'calls', quantity: 1 }],
    flags: [],
  };
}

const place = (streamId: string, incarnation = 1): StreamPlace => ({
  shard: 'shard-1',
  incarnation,
  streamId,
});
const files = (folder: string): string[] =>
  readdirSync(folder).filter((name) => name.endsWith('.jsonl'));

describe('gateway/journal', () => {
  let folder = '';
  let nowMs = 1_000_000;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'tollbook-journal-'));
    nowMs = 1_000_000;
  });
  afterEach(() => {
    rmSync(folder, { recursive: true, force: true });
  });
  const append = (
    journal: Journal,
    request: SettleRequest,
  ): Promise<ReturnType<Journal['append']>> =>
    new Promise((resolve, reject) => {
      const file = journal.append(request, (error) => {
        if (error === null) resolve(file);
        else reject(error);
      });
    });

  it('has written before it says so, all of one turn at once', async () => {
    const journal = openJournal(folder);
    const all = await Promise.all([1, 2, 3].map((sequence) => append(journal, record(sequence))));
    const [file] = all;
    assert.ok(file !== undefined);
    assert.deepEqual(
      journal.read(file).requests.map(({ opId }) => opId),
      [1, 2, 3].map((n) => record(n).opId),
    );
    journal.close(() => false);
  });

  it('keeps a file until every record is answered and what the answers appended is committed', async () => {
    const journal = openJournal(folder, () => nowMs);
    const file = await append(journal, record(1));
    await append(journal, record(2));
    nowMs += 60_000;
    journal.answered(file, place('5-1'));
    journal.tidy(() => true);
    assert.equal(files(folder).length, 1, 'one record has no answer');
    journal.answered(file, place('5-0'));
    journal.tidy((at) => !isBehind(place('5-0'), at));
    assert.equal(files(folder).length, 1, '5-1 is not committed');
    journal.tidy((at) => !isBehind(place('5-1'), at));
    assert.equal(files(folder).length, 0);
    journal.close(() => true);
  });

  it('begins another file at its size', async () => {
    const journal = openJournal(folder);
    const count = Math.ceil(journalFileBytesMax / JSON.stringify(record(1)).length) + 10;
    await Promise.all(Array.from({ length: count }, (_, index) => append(journal, record(index))));
    const first = await append(journal, record(count));
    assert.equal(files(folder).length, 2);
    const total = journal
      .files()
      .reduce((sum, file) => sum + journal.read(file).requests.length, 0);
    assert.equal(total, count + 1);
    assert.equal(journal.read(first).requests.length, 1);
    journal.close(() => false);
  });

  it('finds what an earlier run left, a torn line apart', async () => {
    const earlier = openJournal(folder);
    await append(earlier, record(1));
    earlier.close(() => false);
    const [name = ''] = files(folder);
    appendFileSync(join(folder, name), '{"subscriberId":"sbr_0000');
    const journal = openJournal(folder);
    const [file] = journal.unread();
    assert.ok(file !== undefined);
    const { requests, tornCount } = journal.read(file);
    assert.deepEqual(requests, [record(1)]);
    assert.equal(tornCount, 1);
    journal.tidy(() => true);
    assert.equal(files(folder).length, 1, 'it was not sent again yet');
    journal.close(() => true);
  });

  it('says when it cannot write, and recovers with the next file', async () => {
    const journal = openJournal(folder);
    rmSync(folder, { recursive: true });
    await assert.rejects(append(journal, record(1)));
    assert.equal(journal.isHealthy(), false);
    journal.tidy(() => true);
    assert.equal(journal.isHealthy(), false);
    mkdirSync(folder);
    journal.tidy(() => true);
    assert.equal(journal.isHealthy(), true);
    const file = await append(journal, record(2));
    assert.deepEqual(journal.read(file), { requests: [record(2)], tornCount: 0 });
    journal.close(() => true);
  });

  it('reads a file that was never written as empty: a replay goes on behind it', async () => {
    const journal = openJournal(folder);
    rmSync(folder, { recursive: true });
    await assert.rejects(append(journal, record(1)));
    const [file] = journal.files();
    assert.ok(file !== undefined);
    assert.deepEqual(journal.read(file), { requests: [], tornCount: 0 });
    mkdirSync(folder);
    journal.close(() => true);
  });

  it('belongs to one process', () => {
    const journal = openJournal(folder);
    assert.throws(() => openJournal(folder), JournalLocked);
    journal.close(() => true);
    writeFileSync(join(folder, 'lock'), `${process.pid} 1`);
    openJournal(folder).close(() => true);
    writeFileSync(join(folder, 'lock'), '99999999 1');
    openJournal(folder).close(() => true);
  });
});

describe('gateway: what it owes survives', () => {
  let stage: Stage;
  let subscriber: Subscriber;
  const children: ChildProcess[] = [];
  beforeEach(async () => {
    stage = await openStage();
    subscriber = await stage.subscribe({ credits: 1_000_000 });
  });
  afterEach(async () => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
    await stage.close();
  });

  type Received = { readonly status: number; readonly opId: string; readonly isWhole: boolean };
  const ask = (port: number): Promise<Received | null> =>
    new Promise((resolve) => {
      const sent = httpRequest(
        { port, path: '/weather/v1/cheap', agent: false, headers: { 'x-api-key': subscriber.key } },
        (response) => {
          response.resume();
          response.once('close', () => {
            resolve({
              status: response.statusCode ?? 0,
              opId: String(response.headers['x-decision-id']),
              isWhole: response.complete,
            });
          });
        },
      );
      sent.once('error', () => {
        resolve(null);
      });
      sent.end();
    });
  const eventIds = async (): Promise<string[]> => (await stage.usage()).map(({ opId }) => opId);

  const startChild = async (journalDir: string): Promise<{ child: ChildProcess; port: number }> => {
    const port = await freePort();
    const child = spawn(process.execPath, [join(import.meta.dirname, '../../bin/gateway.ts')], {
      env: {
        ...process.env,
        GATEWAY_PORT: String(port),
        JOURNAL_DIR: journalDir,
        SHARDS: `shard-1=${stage.redis.url}`,
        LOG_LEVEL: 'warn',
      },
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    children.push(child);
    await until(async () => {
      const answer = await fetch(`http://127.0.0.1:${port}/readyz`).catch(() => null);
      return answer?.status === 200 ? true : null;
    });
    return { child, port };
  };

  it('kill -9 of the process: each whole 2xx has one event, others only what the upstream answered', async () => {
    const answeredByUpstream = new Set<string>();
    stage.upstream.handler = (request, response) => {
      request.resume();
      answeredByUpstream.add(String(request.headers['x-decision-id']));
      response.end('{"ok":true}');
    };
    const journalDir = mkdtempSync(join(tmpdir(), 'tollbook-journal-'));
    const { child, port } = await startChild(journalDir);
    const received: (Received | null)[] = [];
    const over = new AbortController();
    const clients = Array.from({ length: 32 }, async () => {
      while (!over.signal.aborted) received.push(await ask(port));
    });
    await until(() => (received.length > 1_000 ? true : null));
    child.kill('SIGKILL');
    await once(child, 'exit');
    over.abort();
    await Promise.all(clients);

    await startChild(journalDir);
    const whole = received.filter((one) => one?.status === 200 && one.isWhole);
    const wanted = new Set(whole.map((one) => one?.opId ?? ''));
    assert.ok(wanted.size > 900);
    const events = await until(async () => {
      const ids = await eventIds();
      return [...wanted].every((id) => ids.includes(id)) ? ids : null;
    });
    assert.equal(new Set(events).size, events.length, 'no event twice');
    const more = events.filter((id) => !wanted.has(id));
    assert.ok(more.length <= 32, `${more.length} events without a received answer`);
    assert.ok(more.every((id) => answeredByUpstream.has(id)));
    // Once all is committed the files of the dead process go.
    await stage.commit();
    await until(async () => {
      await stage.commit();
      return readdirSync(journalDir).some((name) => name.includes(`-${child.pid}-`)) ? null : true;
    });
    rmSync(journalDir, { recursive: true, force: true });
  });

  it('the shard dies after the upstream answered: the client has its answer, the settle comes later', async () => {
    stage.upstream.handler = (request, response) => {
      request.resume();
      void stage.redis.kill9().then(() => response.end('{"ok":true}'));
    };
    const answer = await ask(stage.gateway.port);
    assert.ok(answer?.isWhole === true && answer.status === 200);
    const denied = await ask(stage.gateway.port);
    assert.equal(denied?.status, 503);
    await stage.redis.restart();
    // As the keeper does: what survived is drained, then the next incarnation opens.
    await until(() =>
      openShard(stage.link, stage.redis.url, 2).then(
        () => true,
        () => null,
      ),
    );
    const ids = await until(async () => {
      const found = await eventIds();
      return found.includes(answer.opId) ? found : null;
    });
    assert.deepEqual(ids, [answer.opId]);
    const [fact] = await stage.usage();
    assert.deepEqual(fact?.quantities, [{ meter: 'calls', quantity: 1 }]);
  });

  it('shard and gateway die together: the journal has the settle', async () => {
    const journalDir = mkdtempSync(join(tmpdir(), 'tollbook-journal-'));
    const { child, port } = await startChild(journalDir);
    stage.upstream.handler = (request, response) => {
      request.resume();
      void stage.redis.kill9().then(() => response.end('{"ok":true}'));
    };
    const answer = await ask(port);
    assert.ok(answer?.isWhole === true && answer.status === 200);
    child.kill('SIGKILL');
    await once(child, 'exit');
    await stage.redis.restart();
    await until(() =>
      openShard(stage.link, stage.redis.url, 2).then(
        () => true,
        () => null,
      ),
    );
    assert.deepEqual(await eventIds(), []);
    await startChild(journalDir);
    await until(async () => ((await eventIds()).includes(answer.opId) ? true : null));
    rmSync(journalDir, { recursive: true, force: true });
  });

  it('the shard loses its data: everything not committed is sent again', async () => {
    const before = await Promise.all(Array.from({ length: 5 }, () => ask(stage.gateway.port)));
    await until(async () => ((await eventIds()).length === 5 ? true : null));
    await stage.redis.kill9();
    for (const name of readdirSync(stage.redis.folder)) {
      rmSync(join(stage.redis.folder, name), { recursive: true, force: true });
    }
    await stage.redis.restart();
    await until(() =>
      openShard(stage.link, stage.redis.url, 2).then(
        () => true,
        () => null,
      ),
    );
    const facts = await until(async () => {
      const found = await stage.usage();
      return found.length >= 5 ? found : null;
    });
    assert.deepEqual(
      facts.map(({ opId }) => opId).toSorted(),
      before.map((one) => one?.opId ?? '').toSorted(),
    );
    assert.ok(facts.every(({ flags }) => flags.includes('unheld')));
  });

  it('a shard that does not answer: 503 in time, nothing forwarded, no hold left', async () => {
    await stage.close();
    stage = await openStage({ decisionMs: 230 });
    subscriber = await stage.subscribe({ credits: 1_000_000 });
    process.kill(stage.redis.pid(), 'SIGSTOP');
    try {
      const saw = stage.upstream.requests.length;
      const answers = await Promise.all(Array.from({ length: 10 }, () => ask(stage.gateway.port)));
      assert.ok(answers.every((one) => one?.status === 503));
      assert.equal(stage.upstream.requests.length, saw);
    } finally {
      process.kill(stage.redis.pid(), 'SIGCONT');
    }
    // The authorizes that were on their way take effect now, and are taken back.
    await until(async () => {
      const { products, buckets } = await stage.state(subscriber);
      const isIdle =
        products.every(({ openHolds }) => openHolds === 0) &&
        buckets.every(
          ({ heldMicro, availableMicro }) => heldMicro === 0 && availableMicro === 1e12,
        );
      return isIdle ? true : null;
    });
    await sleep(300);
    assert.deepEqual(await eventIds(), []);
    assert.equal((await ask(stage.gateway.port))?.status, 200);
  });
});
