import assert from 'node:assert/strict';

import { startSweeper } from '../../drain/sweeper.ts';
import { compileConstraints } from '../../billing/compile.ts';
import { createShards } from '../../shards/client.ts';
import type { Shards } from '../../shards/port.ts';
import { readCompileInput } from '../../store/projection.ts';
import { openShard, readEpochs, readSlotMap } from '../../store/slots.ts';
import { until } from '../support/until.ts';
import {
  type Catalogue,
  type Control,
  openControl,
  quiet,
  seedCatalogue,
  seedSubscriber,
  type Subscriber,
} from './control-fixture.ts';

describe('drain/sweeper', () => {
  let control: Control;
  let catalogue: Catalogue;
  let ada: Subscriber;
  let shards: Shards;
  before(async () => {
    control = await openControl(1);
    catalogue = await seedCatalogue(control.db);
    ada = await seedSubscriber(control.db, catalogue);
    await link().loadScripts(1);
    await link().writeEpochs(await readEpochs(control.db, 'shard-1'));
    await openShard(control.db, 'shard-1', { from: 0, to: 1 });
    const map = await readSlotMap(control.db);
    shards = createShards({ mapSource: () => map });
    const input = await readCompileInput(control.db, ada.id);
    assert.ok(input !== null);
    await shards.apply(compileConstraints(input));
    await shards.credit({
      subscriberId: ada.id,
      seq: 1,
      verb: 'grant',
      bucket: {
        id: '1',
        unit: 'credit',
        priority: 100,
        class: 'paid',
        effectiveMs: 0,
        expiresMs: null,
        scope: [],
      },
      amountMicro: 900_000_000,
    });
  });
  after(async () => {
    await shards.close();
    await control.close();
  });

  const link = () => {
    const [first] = control.links;
    assert.ok(first !== undefined);
    return first;
  };
  const day = new Date().toISOString().slice(0, 10).replaceAll('-', '');
  const hold = async (op: string, ttlMs: number): Promise<void> => {
    const answer = await shards.authorize({
      subscriberId: ada.id,
      opId: `${day}-sweeper-${op}`,
      digest16: ada.digest16,
      productId: catalogue.productId,
      feature: '',
      ttlMs,
      estimates: [{ meter: 'demo_calls', quantity: 1 }],
    });
    assert.equal(answer.kind, 'ok');
  };
  const openHolds = async (): Promise<number> =>
    (await shards.read(ada.id))?.products[0]?.openHolds ?? -1;

  it('ends holds that are due and gives their credits back; leaves the others; sweeps nothing that is closed', async () => {
    let incarnation: number | null = null;
    let swept = 0;
    for (const op of ['a', 'b', 'c']) await hold(op, 1_000);
    await hold('d', 200_000);
    assert.equal(await openHolds(), 4);
    const sweeper = startSweeper({
      link: link(),
      log: quiet,
      sweepEachMs: 50,
      incarnation: () => incarnation,
      onSwept: () => {
        swept += 1;
      },
    });
    await until(async () => ((await link().dueHolds(Date.now(), 10)).length >= 3 ? true : null));
    assert.equal(swept, 0);
    incarnation = 1;
    await until(async () => ((await openHolds()) === 1 ? true : null));
    await sweeper.stop();
    assert.equal(swept, 3);
    const state = await shards.read(ada.id);
    assert.deepEqual(
      state?.buckets.map(({ availableMicro, heldMicro }) => [availableMicro, heldMicro]),
      [[899_000_000, 1_000_000]],
    );
    assert.deepEqual(await link().dueHolds(Date.now(), 10), []);
  });
});
