/**
 * The port of `port.ts` over real shards: one subscriber → one slot → one shard → one script. It reads the slot map
 * through `mapSource` at each call, never re-sends a call whose outcome is unknown, and knows nothing of what the
 * scripts decide.
 */
import { slotOf } from '../billing/slot.ts';
import {
  commandTimeoutMsDefault,
  connectWaitMsDefault,
  type ConnectionOptions,
  unavailable,
} from './connection.ts';
import { openPipe, type Pipe } from './pipe.ts';
import { ShardUnavailable, type Shards, type SlotMap } from './port.ts';
import {
  readApplyReply,
  readAuthorizeReply,
  readCreditReply,
  readRecordReply,
  readSealReply,
  readSettleReply,
  readStateReply,
  type Reply,
} from './replies.ts';
import { encodeCommand, type RespValue } from './resp.ts';
import { scriptWords } from './run-script.ts';
import {
  applyArguments,
  authorizeArguments,
  creditArguments,
  recordArguments,
  settleArguments,
} from './script-arguments.ts';
import type { ScriptName } from './scripts.ts';

export type ShardsOptions = {
  /** The newest slot map known, or null while none is; asked at each call. */
  readonly mapSource: () => SlotMap | null;
  /** Fetches a newer map after a shard answered `stale_epoch`; the call is made once more if its owner or epoch changed. */
  readonly refreshMap?: () => Promise<void>;
  readonly connectionOptions?: ConnectionOptions;
};

/**
 * Opens the shards; each connection is made at the first call that needs it. Calls reject with `ShardUnavailable`, or
 * with `RangeError` when an argument is not in its grammar (a mistake of the caller, without effect).
 */
export function createShards(options: ShardsOptions): Shards {
  const { call, close } = createCaller(options);
  return {
    authorize: (request) =>
      call('authorize', request.subscriberId, authorizeArguments(request), readAuthorizeReply),
    settle: (request) =>
      call('settle', request.subscriberId, settleArguments(request), readSettleReply),
    record: (request) =>
      call('record', request.subscriberId, recordArguments(request), readRecordReply),
    apply: (constraints) =>
      call('apply', constraints.subscriberId, applyArguments(constraints), readApplyReply),
    credit: (entry) => call('credit', entry.subscriberId, creditArguments(entry), readCreditReply),
    seal: ({ subscriberId, productId, periodId }) =>
      call('seal', subscriberId, [productId, periodId], readSealReply),
    read: (subscriberId) => call('read', subscriberId, [], readStateReply),
    close,
  };
}

type Owner = SlotMap['shards'][number];
type Place = { readonly slot: number; readonly epoch: number; readonly owner: Owner };
type Call = <T>(
  name: ScriptName,
  subscriberId: string,
  rest: readonly string[],
  read: (reply: Reply, owner: Owner) => T,
) => Promise<T>;

/** One promise a call: each further one would cost the hot path as much as the words that it sends. */
function createCaller(options: ShardsOptions): { call: Call; close: () => Promise<void> } {
  const { send, close } = createSender(options.connectionOptions ?? {});
  const call: Call = (name, subscriberId, rest, read) =>
    new Promise((resolve, reject) => {
      const place = placeOf(options.mapSource(), subscriberId);
      const onReply = (reply: Reply): void => {
        if (reply[0] === 'stale_epoch') {
          resolve(askAgain(place, { name, subscriberId, rest, read }));
          return;
        }
        try {
          resolve(read(admitted(reply, place), place.owner));
        } catch (error) {
          reject(asError(error));
        }
      };
      send(place, { name, subscriberId, rest }, onReply, reject);
    });

  /** A stale epoch changed nothing, so this one answer may be asked again, once, of a newer map. */
  const askAgain = async <T>(
    place: Place,
    { read, ...asked }: Asked & { readonly read: (reply: Reply, owner: Owner) => T },
  ): Promise<T> => {
    if (options.refreshMap !== undefined) await atMost(refreshMsMax, options.refreshMap());
    const newer = placeOf(options.mapSource(), asked.subscriberId);
    if (newer.epoch !== place.epoch || newer.owner.name !== place.owner.name) {
      const again = await new Promise<Reply>((resolve, reject) => {
        send(newer, asked, resolve, reject);
      });
      if (again[0] !== 'stale_epoch') return read(admitted(again, newer), newer.owner);
    }
    throw new ShardUnavailable(
      newer.owner.name,
      'not_sent',
      `slot ${newer.slot}: epoch ${newer.epoch} is stale`,
    );
  };
  return { call, close };
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error('a reply could not be read', { cause: error });
}

/** A newer map that does not come at once is not waited for: the call is answered within its time either way. */
const refreshMsMax = 40;

async function atMost(waitMs: number, work: Promise<void>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, waitMs);
  await Promise.race([work.catch(() => {}), promise]);
  clearTimeout(timer);
}

/** A shard whose facts are not drained takes no new work: a bounded stream, and no silent loss. */
function admitted(reply: Reply, { owner }: Place): Reply {
  if (reply[0] !== 'stream_full') return reply;
  throw new ShardUnavailable(
    owner.name,
    'not_sent',
    `shard ${owner.name}: its stream of facts is full`,
  );
}

type Asked = {
  readonly name: ScriptName;
  readonly subscriberId: string;
  readonly rest: readonly string[];
};

type Sender = {
  /** Sends one script, once. Exactly one of the two is called, `onError` with ShardUnavailable. */
  readonly send: (
    place: Place,
    asked: Asked,
    onReply: (reply: Reply) => void,
    onError: (error: Error) => void,
  ) => void;
  readonly close: () => Promise<void>;
};

function createSender(options: ConnectionOptions): Sender {
  const pipes = new Map<string, Pipe>();
  const commandTimeoutMs = options.commandTimeoutMs ?? commandTimeoutMsDefault;
  const connectWaitMs = options.connectWaitMs ?? connectWaitMsDefault;
  let isClosed = false;

  const pipeTo = (url: string): Pipe => {
    const known = pipes.get(url);
    if (known !== undefined) return known;
    const made = openPipe(url, { commandTimeoutMs });
    pipes.set(url, made);
    return made;
  };
  return {
    send: ({ slot, epoch, owner }, { name, subscriberId, rest }, onReply, onError) => {
      if (isClosed) throw new ShardUnavailable(owner.name, 'not_sent', 'the shards are closed');
      const pipe = pipeTo(owner.url);
      const target = { shard: owner.name, incarnation: owner.incarnation, slot, epoch };
      const command = encodeCommand(['EVALSHA', ...scriptWords(name, target, subscriberId, rest)]);
      const failed = (error: Error): void => {
        onError(unavailable(owner.name, error));
      };
      const replied = (reply: RespValue): void => {
        if (Array.isArray(reply)) onReply(reply);
        else failed(new TypeError(`${name} answered no list`));
      };
      if (pipe.isReady()) {
        pipe.send(command, replied, failed);
        return;
      }
      void pipe.awaitReady(connectWaitMs).then(() => {
        pipe.send(command, replied, failed);
      });
    },
    close: () => {
      isClosed = true;
      for (const pipe of pipes.values()) pipe.close();
      pipes.clear();
      return Promise.resolve();
    },
  };
}

function placeOf(map: SlotMap | null, subscriberId: string): Place {
  if (map === null) throw new ShardUnavailable('?', 'not_sent', 'no slot map yet');
  const slot = slotOf(subscriberId);
  const owner = map.shards[map.owners[slot] ?? -1];
  if (owner === undefined) {
    throw new ShardUnavailable('?', 'not_sent', `slot ${slot} has no shard`);
  }
  if (owner.state !== 'open') {
    throw new ShardUnavailable(owner.name, 'not_sent', `shard ${owner.name} is ${owner.state}`);
  }
  return { slot, epoch: map.epochs[slot] ?? 0, owner };
}
