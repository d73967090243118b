/** Every argument of every script is hostile: refused with nothing changed. Sixty spellings of what is not a quantity. */
import assert from 'node:assert/strict';

import type { Redis } from 'ioredis';

import { slotOf } from '../../billing/slot.ts';
import {
  applyArguments,
  authorizeArguments,
  creditArguments,
  recordArguments,
  settleArguments,
} from '../../shards/script-arguments.ts';
import { runScript } from '../../shards/run-script.ts';
import type { ScriptName } from '../../shards/scripts.ts';
import {
  authorizeOf,
  constraintsOf,
  creditsFor,
  grantOf,
  newOp,
  newSetting,
  openTestShard,
  rateOf,
  segmentOf,
  settleOf,
  spanLimit,
  type Setting,
  type TestShard,
} from './support.ts';

const notQuantities: readonly string[] = [
  '',
  ' ',
  '-1',
  '-0',
  '+1',
  '-',
  '+',
  '00',
  '01',
  '007',
  '1.0',
  '1.',
  '.5',
  '0.1',
  '-5',
  '1e3',
  '1E3',
  '1e400',
  '1e-1',
  '0x10',
  '0X1F',
  '0b1',
  '0o7',
  '1_000',
  '1,000',
  "1'000",
  '1 000',
  ' 1',
  '1 ',
  '\t1',
  '1\n',
  '1\r\n',
  '1\0',
  '\0',
  '\u00001',
  'nan',
  'NaN',
  '-nan',
  'inf',
  'Infinity',
  '-Infinity',
  '1/0',
  'null',
  'nil',
  'undefined',
  'true',
  'false',
  '[]',
  '[1]',
  '{}',
  '١',
  '１',
  '²',
  '½',
  '十',
  '1000000000000000',
  '9007199254740992',
  '9007199254740993',
  '9223372036854775807',
  '99999999999999999999999999',
  '1;return 1',
  "1' or '1'='1",
  '%d',
  '1|2',
  '1:2',
  '🙂',
];
const notNames: readonly string[] = [
  ' ',
  'a b',
  'a|b',
  'a:b',
  'a,b',
  'a\nb',
  'a\0b',
  'é',
  '{x}',
  'x'.repeat(200),
  '*',
];

type Call = {
  readonly name: ScriptName;
  readonly arguments: readonly string[];
  /** Places that hold a number, and places that hold a name. */
  readonly numbers: readonly number[];
  readonly names: readonly number[];
  /** Texts that happen to be right there. */
  readonly allowed?: Readonly<Record<number, readonly string[]>>;
};

describe('shards/scripts › hostile arguments', () => {
  let shard: TestShard;
  let setting: Setting;
  let calls: readonly Call[];
  before(async () => {
    shard = await openTestShard({ 'enable-debug-command': 'local' });
    setting = newSetting();
    await shard.shards.apply(
      constraintsOf(setting, [
        segmentOf({
          credits: creditsFor(1),
          features: ['api'],
          limits: [spanLimit('calls', 1000)],
          rates: [rateOf(1000, 1000)],
        }),
      ]),
    );
    await shard.shards.credit(grantOf(setting, 1, 1000));
    const request = authorizeOf(setting, { feature: 'api' });
    const held = await shard.shards.authorize(request);
    const { productId, subscriberId } = setting;
    calls = [
      {
        name: 'authorize',
        arguments: authorizeArguments(authorizeOf(setting, { feature: 'api' })),
        numbers: [4, 5, 7],
        names: [0, 1, 2, 3, 6],
      },
      {
        name: 'settle',
        arguments: settleArguments(settleOf(request, held)),
        numbers: [1, 2, 8, 10, 12],
        names: [0, 3, 4, 5, 6, 7, 9, 11],
        // The status may be any number to 999, no flag is a right list of flags.
        allowed: { 9: [''], 8: [] },
      },
      {
        name: 'record',
        arguments: recordArguments({
          subscriberId,
          opId: newOp(),
          productId,
          atMs: Date.now(),
          quantities: [{ meter: 'calls', quantity: 1 }],
        }),
        numbers: [2, 3, 5],
        names: [0, 1, 4],
      },
      {
        name: 'credit',
        arguments: creditArguments(grantOf(setting, 2, 5, { scope: ['calls'] })),
        numbers: [0, 4, 6, 7, 9],
        names: [1, 2, 3, 5, 8],
        allowed: { 8: ['a,b'] },
      },
      {
        name: 'seal',
        arguments: [productId, 'per_0000000000000000000000'],
        numbers: [],
        names: [0, 1],
      },
      { name: 'expire', arguments: [request.opId], numbers: [], names: [0] },
      { name: 'read', arguments: [], numbers: [], names: [] },
    ];
  });
  after(async () => shard.close());

  /** A digest of everything that the shard holds, whatever the order inside a hash. */
  const dump = async (): Promise<string> => String(await shard.raw.call('DEBUG', 'DIGEST'));
  const run = async (name: ScriptName, rest: readonly string[]): Promise<string> => {
    const { subscriberId } = setting;
    const target = { shard: 's1', incarnation: 1, slot: slotOf(subscriberId), epoch: 1 };
    const reply = await runScript(shard.raw, name, target, [subscriberId, ...rest]);
    return String(reply[0]);
  };

  it('knows at least sixty of them', () => {
    assert.ok(new Set(notQuantities).size >= 60);
  });

  it('refuses each in every place of a number, and changes nothing', async () => {
    const before = await dump();
    let refused = 0;
    for (const call of calls) {
      for (const place of call.numbers) {
        for (const text of notQuantities) {
          const rest = call.arguments.with(place, text);
          assert.equal(
            await run(call.name, rest),
            'bad_argument',
            `${call.name}[${place}]=${JSON.stringify(text)}`,
          );
          refused += 1;
        }
      }
    }
    assert.equal(await dump(), before);
    assert.ok(refused >= 60 * 16);
  });

  it('refuses what is not a name in every place of a name, and changes nothing', async () => {
    const before = await dump();
    for (const call of calls) {
      for (const place of call.names) {
        for (const text of ['', ...notNames, ...notQuantities]) {
          if (isRightThere(call, place, text)) continue;
          const rest = call.arguments.with(place, text);
          assert.equal(
            await run(call.name, rest),
            'bad_argument',
            `${call.name}[${place}]=${JSON.stringify(text)}`,
          );
        }
      }
    }
    assert.equal(await dump(), before);
  });

  it('refuses too few arguments, too many, and the same meter twice', async () => {
    const before = await dump();
    for (const call of calls) {
      for (let count = 0; count < call.arguments.length; count++) {
        assert.equal(
          await run(call.name, call.arguments.slice(0, count)),
          'bad_argument',
          `${call.name} with ${count}`,
        );
      }
      if (call.name === 'expire') continue;
      assert.equal(
        await run(call.name, [...call.arguments, 'calls']),
        'bad_argument',
        `${call.name} with one more`,
      );
    }
    const authorize = calls[0]?.arguments ?? [];
    const twice = [...authorize.slice(0, 5), '2', 'calls', '1', 'calls', '1'];
    assert.equal(await run('authorize', twice), 'bad_argument');
    assert.equal(await dump(), before);
  });

  it('refuses slot, epoch and subscriber out of form in every script', async () => {
    const before = await dump();
    for (const call of calls) {
      for (const text of notQuantities) {
        for (const place of [0, 1]) {
          const head = ['7', '1', setting.subscriberId].with(place, text);
          const reply = await evalAs(
            shard.raw,
            call.name,
            [...head, ...call.arguments],
            setting.subscriberId,
          );
          assert.equal(reply, 'bad_argument', `${call.name}: ${JSON.stringify(text)}`);
        }
      }
      for (const other of [newSetting().subscriberId, '', 'sbr_', `${setting.subscriberId}}`]) {
        const head = ['7', '1', other];
        const reply = await evalAs(
          shard.raw,
          call.name,
          [...head, ...call.arguments],
          setting.subscriberId,
        );
        assert.equal(reply, 'bad_argument', `${call.name} for ${other}`);
      }
    }
    assert.equal(await dump(), before);
  });

  it('refuses constraints with any number, id or word out of form', async () => {
    const other = newSetting();
    const constraints = {
      ...constraintsOf(other, [
        segmentOf({
          credits: creditsFor(1),
          features: ['api'],
          limits: [
            spanLimit('calls', 1000),
            spanLimit('tokens', 5, { window: { kind: 'every', anchorMs: 5, lengthMs: 60_000 } }),
          ],
          rates: [rateOf(1000, 1000), { kind: 'concurrency', name: 'at once', limit: 3 }],
        }),
      ]),
      subscriberId: setting.subscriberId,
      version: 2,
    };
    const json = applyArguments(constraints)[0] ?? '';
    const before = await dump();
    let tried = 0;
    for (const path of leavesOf(JSON.parse(json))) {
      const isNumber = /^-?\d+$/.test(String(valueAt(JSON.parse(json), path)));
      const name = path.join('.');
      const wrong: readonly unknown[] = isNumber
        ? [...notQuantities.map((text) => text), 1, 0, -1, null, [], true]
        : ['', 'x|y', 'a\nb', '\u0000', 5, [], {}, 'x'.repeat(200)];
      for (const value of wrong) {
        // What is right there: a free name for people, an offset that may be negative, no expiry.
        if (name.endsWith('.name') && value === 'x|y') continue;
        if (name === 'clockOffsetMs' && (value === '-1' || value === '-5' || value === '-0'))
          continue;
        if (name.endsWith('expiresMs') && value === null) continue;
        if (name.endsWith('segmentId') && value === '9007199254740992') continue;
        if (
          name.endsWith('segmentId') &&
          /^[1-9]\d{0,18}$/.test(String(value)) &&
          typeof value === 'string'
        )
          continue;
        const changed: unknown = JSON.parse(json);
        setAt(changed, path, value);
        assert.equal(
          await run('apply', [JSON.stringify(changed)]),
          'bad_argument',
          `${name}=${JSON.stringify(value)}`,
        );
        tried += 1;
      }
    }
    for (const text of [
      '',
      '{',
      'null',
      '1',
      '[]',
      '"x"',
      '[['.repeat(2000),
      '{"version":NaN}',
      '\0',
    ]) {
      assert.equal(await run('apply', [text]), 'bad_argument', text.slice(0, 20));
    }
    assert.ok(tried > 500);
    assert.equal(await dump(), before);
    assert.equal(await run('apply', [json]), 'applied');
  });

  it('refuses quantity × rate above 10^15 − 1, at the hold and at the settle', async () => {
    const rich = newSetting();
    await shard.shards.apply(
      constraintsOf(rich, [segmentOf({ overage: true, credits: creditsFor(1_000_000) })]),
    );
    const over = authorizeOf(rich, { estimates: [{ meter: 'calls', quantity: 1_000_000_000 }] });
    const refused = await shard.shards.authorize(over);
    assert.equal(refused.kind === 'refused' && refused.refusal.code, 'bad_argument');
    const request = authorizeOf(rich, { estimates: [{ meter: 'calls', quantity: 999_999_999 }] });
    const held = await shard.shards.authorize(request);
    assert.equal(held.kind, 'ok');
    const before = await dump();
    await assert.rejects(
      shard.shards.settle(
        settleOf(request, held, { actuals: [{ meter: 'calls', quantity: 1_000_000_000 }] }),
      ),
      RangeError,
    );
    assert.equal(await dump(), before);
    const settled = await shard.shards.settle(settleOf(request, held));
    assert.deepEqual(settled.kind === 'ok' && settled.overageMicro, 999_999_999_000_000);
  });

  it('holds balances up to 10^15 − 1 and refuses one more; no exponent is ever written', async () => {
    const rich = newSetting();
    await shard.shards.apply(constraintsOf(rich, [segmentOf({ credits: creditsFor(1) })]));
    const grant = grantOf(rich, 1, 999_999_999_999_999);
    await shard.shards.credit(grant);
    await assert.rejects(shard.shards.credit({ ...grant, seq: 2, amountMicro: 1 }), RangeError);
    const request = authorizeOf(rich, {
      estimates: [{ meter: 'calls', quantity: 999_999_999_999_999 }],
    });
    const held = await shard.shards.authorize(request);
    assert.deepEqual(
      held.kind === 'ok' && [held.heldMicro, held.availableMicro],
      [999_999_999_999_999, 0],
    );
    assert.equal(
      (await shard.shards.read(rich.subscriberId))?.buckets[0]?.heldMicro,
      999_999_999_999_999,
    );
    const settled = await shard.shards.settle(settleOf(request, held));
    assert.equal(settled.kind === 'ok' && settled.chargedMicro, 999_999_999_999_999);
    const texts = (await shard.link.readStream('0-0', 10_000, 0)).map((entry) => entry.fact);
    assert.ok(texts.some((text) => text.includes('999999999999999')));
    assert.ok(
      texts.every(
        (text) =>
          !/\d[eE][+-]?\d/.test(text.replaceAll(/[a-z]+_[0-9a-z]{22}|\d{8}-[0-9a-z-]+/g, '')),
      ),
    );
  });
});

function isRightThere(call: Call, place: number, text: string): boolean {
  if (call.allowed?.[place]?.includes(text) === true) return true;
  // An absent feature, segment, subscription, key, flag, scope or operation is a value.
  if (text === '') {
    if (call.name === 'authorize') return place === 3;
    if (call.name === 'settle') return [3, 4, 6, 9].includes(place);
    return (call.name === 'credit' && place === 8) || call.name === 'expire';
  }
  if (
    /^[1-9]\d{0,18}$/.test(text) &&
    ((call.name === 'settle' && place === 3) || (call.name === 'credit' && place === 2))
  )
    return true;
  const isName = /^[\w.-]{1,64}$/.test(text);
  if (
    isName &&
    ((call.name === 'authorize' && place === 3) || (call.name === 'credit' && place === 3))
  )
    return true;
  const isMeter = /^[a-z][a-z0-9_]{1,62}$/.test(text);
  const meterPlaces = new Map<ScriptName, number>([
    ['authorize', 6],
    ['settle', 11],
    ['record', 4],
    ['credit', 8],
  ]);
  return isMeter && place === meterPlaces.get(call.name);
}

async function evalAs(
  raw: Redis,
  name: ScriptName,
  all: readonly string[],
  subscriberId: string,
): Promise<string> {
  const { scriptsOf } = await import('../../shards/scripts.ts');
  const { dueKey, epochsKey, factsKey, operationsKey, stateKey } =
    await import('../../shards/keys.ts');
  const reply = await raw.evalsha(
    scriptsOf('s1', 1)[name].sha,
    6,
    stateKey(subscriberId),
    operationsKey(subscriberId, 0),
    operationsKey(subscriberId, 1),
    epochsKey,
    dueKey,
    factsKey,
    ...all,
  );
  return Array.isArray(reply) ? String(reply[0]) : '?';
}

type Path = readonly (string | number)[];
function leavesOf(value: unknown, path: Path = []): Path[] {
  if (typeof value !== 'object' || value === null) return [path];
  return Object.entries(value).flatMap(([name, inner]) => leavesOf(inner, [...path, name]));
}
function valueAt(value: unknown, path: Path): unknown {
  return path.reduce<unknown>((inner, name) => (isRecord(inner) ? inner[name] : undefined), value);
}
function setAt(value: unknown, path: Path, to: unknown): void {
  const parent = valueAt(value, path.slice(0, -1));
  const name = path.at(-1);
  if (isRecord(parent) && name !== undefined) parent[name] = to;
}
function isRecord(value: unknown): value is Record<string | number, unknown> {
  return typeof value === 'object' && value !== null;
}
