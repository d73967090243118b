import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';

import { slotOf } from '../../billing/slot.ts';
import { startDrain, type DrainProcess } from '../../drain/process.ts';
import { connectShards, type Fleet } from '../../shards/fleet.ts';
import { inTransaction } from '../../store/db.ts';
import { bumpRuntime, waitForApplied } from '../../store/projection.ts';
import { selectRows } from '../../store/query.ts';
import { readShards } from '../../store/slots.ts';
import { freePort } from '../support/ports.ts';
import { until } from '../support/until.ts';
import {
  type Catalogue,
  type Control,
  grant,
  openControl,
  quiet,
  seedCatalogue,
  seedSubscriber,
  type Subscriber,
  untilWritten,
} from './control-fixture.ts';

const patient = { timeoutMs: 30_000 };

describe('drain/process', () => {
  let control: Control;
  let catalogue: Catalogue;
  let processes: DrainProcess[];
  let fleet: Fleet;
  beforeEach(async () => {
    control = await openControl(2);
    catalogue = await seedCatalogue(control.db);
    processes = [];
    fleet = connectShards(addresses(), { pollMs: 50 });
  });
  afterEach(async () => {
    await fleet.close();
    await Promise.all(processes.map((one) => one.stop()));
    await control.close();
  });

  const addresses = () => control.links.map(({ name, url }) => ({ name, url }));
  const start = async (): Promise<DrainProcess> => {
    const options = { databaseUrl: control.database.url, host: '127.0.0.1', port: 0, log: quiet };
    const drain = await startDrain({ ...options, shards: addresses() });
    processes.push(drain);
    return drain;
  };
  const get = async (port: number, path: string) => {
    const answer = await fetch(`http://127.0.0.1:${port}${path}`);
    return { status: answer.status, text: await answer.text() };
  };
  const ready = (port: number) =>
    until(async () => ((await get(port, '/readyz')).status === 200 ? true : null), {
      what: 'readyz says 200',
    });
  const day = new Date().toISOString().slice(0, 10).replaceAll('-', '');
  let sequence = 0;
  /** One request as a gateway makes it; null when the shard does not decide. */
  const request = async (subscriber: Subscriber): Promise<string | null> => {
    const opId = `${day}-process-${(sequence++).toString(36)}`;
    try {
      const held = await fleet.shards.authorize({
        subscriberId: subscriber.id,
        opId,
        digest16: subscriber.digest16,
        productId: catalogue.productId,
        feature: 'demo_api',
        ttlMs: 60_000,
        estimates: [{ meter: 'demo_calls', quantity: 1 }],
      });
      if (held.kind === 'refused') return `refused ${held.refusal.code}`;
      const settled = await fleet.shards.settle({
        subscriberId: subscriber.id,
        opId,
        generation: held.generation,
        atMs: held.atMs,
        segmentId: held.segmentId,
        subscriptionId: held.subscriptionId,
        productId: catalogue.productId,
        keyId: held.keyId,
        verb: 'settle',
        status: 200,
        actuals: [{ meter: 'demo_calls', quantity: 1 }],
        flags: [],
      });
      return settled.kind === 'ok' ? opId : `settled ${settled.kind}`;
    } catch {
      return null;
    }
  };
  const served = (subscriber: Subscriber) =>
    until(
      async () => {
        const answer = await request(subscriber);
        return answer?.startsWith(day) === true ? answer : null;
      },
      { what: 'a request is served' },
    );

  it('opens the shards, serves, and brings usage to Postgres; a killed shard serves again by itself', async () => {
    const drain = await start();
    await ready(drain.port);
    const ada = await seedSubscriber(control.db, catalogue);
    await grant(control.db, ada.id, 50);
    assert.equal(await waitForApplied(control.db, ada.id, {}, patient), true);
    assert.equal(await fleet.awaitMap(20_000), true);
    const opIds = [await served(ada), await served(ada)];
    const server = control.servers[ownerOf(fleet, ada.id)];
    assert.ok(server !== undefined);
    await untilWritten(server.url);
    await server.kill9();
    await until(async () => {
      const { status, text } = await get(drain.port, '/readyz');
      return status === 503 && text.includes('"state":"away"') ? true : null;
    });
    await server.restart();
    await ready(drain.port);
    opIds.push(await served(ada));
    const rows = await until(async () => {
      const found = await selectRows<{ event_id: string }>(
        control.db,
        'SELECT event_id FROM usage_events WHERE subscriber_id = ? ORDER BY event_id',
        [ada.id],
      );
      return found.length >= opIds.length ? found.map((row) => row.event_id) : null;
    });
    assert.deepEqual(rows, opIds.toSorted());
    const state = await fleet.shards.read(ada.id);
    const credits = state?.buckets.reduce((sum, bucket) => sum + bucket.availableMicro, 0);
    assert.equal(credits, 47_000_000);
    assert.deepEqual(
      (await readShards(control.db))
        .map(({ incarnation }) => incarnation)
        .toSorted((a, b) => a - b),
      [1, 2],
    );
    const metrics = (await get(drain.port, '/metrics')).text;
    assert.match(metrics, /tollbook_shard_open\{shard="shard-1"\} 1/);
    assert.match(metrics, /tollbook_shard_incarnation\{shard="shard-[12]"\} 2/);
    assert.match(metrics, /tollbook_projector_backlog 0/);
    assert.match(metrics, /tollbook_drain_lag_seconds\{shard="shard-1"\}/);
  });

  it('stands by while another process is active, and takes over when that one ends', async () => {
    const first = await start();
    await ready(first.port);
    const second = await start();
    await ready(second.port);
    const ada = await seedSubscriber(control.db, catalogue);
    assert.equal(await waitForApplied(control.db, ada.id, {}, patient), true);
    await first.stop();
    processes.splice(0, 1);
    const version = await inTransaction(control.db, (tx) => bumpRuntime(tx, ada.id));
    assert.equal(await waitForApplied(control.db, ada.id, { version }, patient), true);
    await ready(second.port);
    assert.deepEqual(
      (await readShards(control.db)).map(({ state, incarnation }) => [state, incarnation]),
      [
        ['open', 1],
        ['open', 1],
      ],
    );
  });

  it('loses Postgres sessions and goes on', async () => {
    const drain = await start();
    await ready(drain.port);
    await control.db.raw(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
       WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'tollbook-%'`,
    );
    const ada = await seedSubscriber(control.db, catalogue);
    assert.equal(await waitForApplied(control.db, ada.id, {}, patient), true);
    await ready(drain.port);
  });

  it('as a program: says what a taken port means, and ends in order on SIGTERM', async () => {
    const port = await freePort();
    const program = spawn(process.execPath, ['bin/drain.ts'], {
      env: {
        ...process.env,
        DATABASE_URL: control.database.url,
        SHARDS: addresses()
          .map(({ name, url }) => `${name}=${url}`)
          .join(','),
        DRAIN_PORT: String(port),
        LOG_LEVEL: 'info',
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let log = '';
    program.stdout.on('data', (data: Buffer) => {
      log += data.toString();
    });
    await until(async () => {
      const answer = await get(port, '/readyz').catch(() => null);
      return answer?.status === 200 ? true : null;
    });
    await assert.rejects(
      startDrain({
        databaseUrl: control.database.url,
        shards: addresses(),
        host: '127.0.0.1',
        port,
        log: quiet,
      }),
      /EADDRINUSE/,
    );
    program.kill('SIGTERM');
    const [code] = await once(program, 'exit');
    assert.equal(code, 0, log);
    assert.match(log, /the drain ends/);
    assert.doesNotMatch(log, /redis:\/\/[^/]*:[^/]*@|postgres:\/\//);
  });
});

function ownerOf(fleet: Fleet, subscriberId: string): number {
  const map = fleet.map();
  assert.ok(map !== null);
  return map.owners[slotOf(subscriberId)] ?? -1;
}
