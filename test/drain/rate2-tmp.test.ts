import { formatFact, parseFact } from '../../billing/usage-fact.ts';
import { commitBatch } from '../../drain/batch.ts';
import { openCursor } from '../../store/stream-cursors.ts';
import { ensureDayPartition } from '../../store/day-partitions.ts';
import { openBench, usageFact, giveCredits, SHARD } from './drainer-fixture.ts';

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
    const N = 20_000;
    const entries = [];
    for (let i = 0; i < N; i += 1) {
      const p = parties[i % 50]!;
      entries.push({ id: `${i + 1}-0`, fact: formatFact(usageFact(bench.world, p.party, { takes: [{ bucketId: p.bucketId, micro: 1_000_000 }] })) });
    }
    let t0 = performance.now();
    for (const e of entries) parseFact(e.fact);
    console.log('parse us each', (performance.now() - t0) / N * 1000);
    const sums = new Map<string, number>();
    const started = new Map<string, number>();
    bench.db.on('query', (q) => started.set(q.__knexQueryUid, performance.now()));
    bench.db.on('query-response', (_r, q) => {
      const key = q.sql.trim().slice(0, 60).replace(/\s+/g, ' ');
      sums.set(key, (sums.get(key) ?? 0) + performance.now() - (started.get(q.__knexQueryUid) ?? 0));
    });
    let from = await openCursor(bench.db, { shard: SHARD, incarnation: 1 });
    const t = performance.now();
    for (let at = 0; at < N; at += 2000) {
      const chunk = entries.slice(at, at + 2000);
      await commitBatch(bench.db, { stream: { shard: SHARD, incarnation: 1 }, fromId: from, entries: chunk });
      from = chunk.at(-1)!.id;
    }
    const ms = performance.now() - t;
    console.log('total per batch', ms / 10);
    for (const [k, v] of [...sums].sort((a, b) => b[1] - a[1])) console.log((v / 10).toFixed(1), k);
    await bench.close();
  }).timeout(120000);
});
