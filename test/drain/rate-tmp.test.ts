import { formatFact } from '../../billing/usage-fact.ts';
import { commitBatch } from '../../drain/batch.ts';
import { openCursor } from '../../store/stream-cursors.ts';
import { ensureDayPartition } from '../../store/day-partitions.ts';
import { openBench, usageFact, giveCredits, SHARD } from './drainer-fixture.ts';
import { execFileSync } from 'node:child_process';

describe('rate', () => {
  it('measures', async () => {
    const bench = await openBench();
    await ensureDayPartition(bench.db, '20250102');
    const parties = [];
    for (let i = 0; i < 50; i += 1) {
      const party = await bench.party();
      const { bucketId } = await giveCredits(bench.db, party, { key: 'g', micro: 900_000_000_000n });
      parties.push({ party, bucketId });
    }
    const N = 40_000;
    const ids = [];
    const entries = [];
    for (let i = 0; i < N; i += 1) {
      const p = parties[i % 50]!;
      entries.push({ id: `${i + 1}-0`, fact: formatFact(usageFact(bench.world, p.party, { takes: [{ bucketId: p.bucketId, micro: 1_000_000 }] })) });
    }
    let from = await openCursor(bench.db, { shard: SHARD, incarnation: 1 });
    const t = performance.now();
    for (let at = 0; at < N; at += 2000) {
      const chunk = entries.slice(at, at + 2000);
      await commitBatch(bench.db, { stream: { shard: SHARD, incarnation: 1 }, fromId: from, entries: chunk });
      from = chunk.at(-1)!.id;
    }
    const ms = performance.now() - t;
    console.log('drain', Math.round(N / ms * 1000), '/s', ms.toFixed(0), 'ms', 'js cpu', process.cpuUsage().user / 1000);
    await bench.db.raw('CREATE TABLE copy_target (LIKE usage_events_20250102 INCLUDING ALL)');
    await bench.db.raw("COPY usage_events_20250102 TO '/tmp/rate/copy.bin' (FORMAT text)").catch((e) => console.log(String(e)));
    for (let r = 0; r < 3; r += 1) {
      await bench.db.raw('TRUNCATE copy_target');
      const t2 = performance.now();
      await bench.db.raw("COPY copy_target FROM '/tmp/rate/copy.bin' (FORMAT text)");
      const m2 = performance.now() - t2;
      console.log('copy', Math.round(N / m2 * 1000), '/s', m2.toFixed(0), 'ms; ratio', (m2 / ms).toFixed(3));
    }
    await bench.close();
  }).timeout(120000);
});
