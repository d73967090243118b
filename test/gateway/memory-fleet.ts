/** A stand-in for the shards while a test only looks at what the gateway does with their words. */
import type { Catalogue } from '../../billing/catalogue.ts';
import type { FleetPort } from '../../gateway/fleet-port.ts';
import type {
  AuthorizeRequest,
  AuthorizeResult,
  SettleRequest,
  SettleResult,
} from '../../shards/port.ts';

export type MemoryFleet = FleetPort & {
  readonly authorized: AuthorizeRequest[];
  readonly settled: SettleRequest[];
  decide: (request: AuthorizeRequest) => Promise<AuthorizeResult> | AuthorizeResult;
  answer: (request: SettleRequest) => Promise<SettleResult> | SettleResult;
};

export function memoryFleet(catalogue: Catalogue): MemoryFleet {
  const authorized: AuthorizeRequest[] = [];
  const settled: SettleRequest[] = [];
  let stream = 0;
  const fleet: MemoryFleet = {
    authorized,
    settled,
    decide: (request) => ({
      kind: 'ok',
      version: 1,
      subscriptionId: 'sub_1',
      segmentId: '1',
      keyId: 'key_1',
      atMs: Date.now(),
      generation: 0,
      heldMicro: 1_000_000 * request.estimates.reduce((sum, { quantity }) => sum + quantity, 0),
      overageMicro: 0,
      availableMicro: 5_000_000,
      windows: [{ name: 'minute', limit: 60, left: 59, resetMs: Date.now() + 30_000 }],
    }),
    answer: (request) => ({
      kind: 'ok',
      chargedMicro: 1_000_000 * request.actuals.reduce((sum, { quantity }) => sum + quantity, 0),
      overageMicro: 0,
      writtenOffMicro: 0,
      availableMicro: 5_000_000,
      streamId: `1-${(stream += 1)}`,
    }),
    shards: {
      authorize: async (request) => {
        authorized.push(request);
        return fleet.decide(request);
      },
      settle: async (request) => {
        settled.push(request);
        return fleet.answer(request);
      },
    },
    map: () => ({
      version: 1,
      shards: [{ name: 'shard-1', url: '', incarnation: 1, state: 'open' }],
      owners: new Int16Array(4096),
      epochs: new Uint32Array(4096),
    }),
    catalogue: () => catalogue,
    watermark: () => ({ incarnation: 1, streamId: `1-${stream}` }),
    onChange: () => () => {},
    close: async () => {},
  };
  return fleet;
}
