/**
 * What the scripts must do, told again in plain TypeScript over maps, with no regard to speed, for one subscriber with
 * one product. Rates are reckoned in whole numbers by another formula than the script's.
 */
import type { Bucket, Command, Plan, Subject } from './command.ts';

type Counter = { readonly from: number; readonly until: number; used: number; held: number };
type Stock = { readonly bucket: Bucket; free: number; held: number };
type Take = { readonly stock: Stock; micro: number };
type Meter = {
  readonly name: 'calls' | 'tokens';
  readonly estimate: number;
  readonly price: number;
  takes: Take[];
  overage: number;
  counters: Counter[];
};
type Op =
  | {
      readonly state: 'open' | 'expired';
      readonly plan: Plan;
      readonly meters: readonly Meter[];
      readonly until: number;
      readonly ttl: number;
      readonly slice: number;
    }
  | { readonly state: 'settled' | 'released' | 'late' | 'recorded'; readonly charged: number };
type Refusal = { readonly refused: string };

export type Totals = {
  readonly free: number;
  readonly held: number;
  readonly spent: number;
  readonly expired: number;
  readonly debited: number;
  readonly granted: number;
  readonly overage: number;
  readonly writtenOff: number;
};

export function createModel(): Subject & { totals(): Totals } {
  let now = 0;
  let version = 0;
  let plans: readonly Plan[] = [];
  let stocks: Stock[] = [];
  const ops = new Map<string, Op>();
  const counters = new Map<string, Counter>();
  let tat = 0n;
  const sums = { spent: 0, expired: 0, debited: 0, granted: 0, overage: 0, writtenOff: 0 };

  const planNow = (): Plan | undefined => plans.findLast((plan) => plan.from <= now) ?? plans[0];
  const isLapsed = (stock: Stock): boolean => (stock.bucket.expires ?? Infinity) <= now;
  const lapse = (): void => {
    for (const stock of stocks.filter(isLapsed)) {
      sums.expired += stock.free;
      stock.free = 0;
    }
  };
  const isOpen = (stock: Stock, meter?: string): boolean =>
    (stock.bucket.effective ?? 0) <= now &&
    !isLapsed(stock) &&
    (meter === undefined ||
      (stock.bucket.scope ?? []).length === 0 ||
      (stock.bucket.scope ?? []).includes(meter));
  const freeNow = (): number =>
    stocks.filter((stock) => isOpen(stock)).reduce((sum, stock) => sum + stock.free, 0);
  const heldNow = (): number => stocks.reduce((sum, stock) => sum + stock.held, 0);
  const openOps = (period?: number): number =>
    [...ops.values()].filter(
      (op) => op.state === 'open' && (period === undefined || op.plan.period === period),
    ).length;

  const counterOf = (limit: NonNullable<Plan['limits']>[number]): Counter => {
    const [from, until] =
      typeof limit.window === 'number'
        ? [
            Math.floor(now / limit.window) * limit.window,
            (Math.floor(now / limit.window) + 1) * limit.window,
          ]
        : limit.window;
    const name = `${limit.name}|${limit.meter ?? 'calls'}|${from}|${until}`;
    const counter = counters.get(name) ?? { from, until, used: 0, held: 0 };
    counters.set(name, counter);
    return counter;
  };
  const takeFrom = (meter: string, need: number): { takes: Take[]; short: number } => {
    const takes: Take[] = [];
    let rest = need;
    for (const stock of stocks) {
      if (rest === 0 || !isOpen(stock, meter) || stock.free === 0) continue;
      const micro = Math.min(rest, stock.free);
      stock.free -= micro;
      takes.push({ stock, micro });
      rest -= micro;
    }
    return { takes, short: rest };
  };

  const hold = (plan: Plan, quantities: readonly Quantity[]): Refusal | Meter[] => {
    for (const limit of plan.limits ?? []) {
      const quantity = quantities.find(({ name }) => name === (limit.meter ?? 'calls'))?.quantity;
      const counter = counterOf(limit);
      if (limit.soft === true || quantity === undefined) continue;
      if (counter.used + counter.held + quantity > limit.limit) {
        const retryable = counter.held > 0 && counter.used + quantity <= limit.limit;
        return {
          refused: `limit_exceeded ${limit.limit}/${counter.used}/${counter.held} ${retryable}`,
        };
      }
    }
    const before = { free: freeNow(), held: heldNow() };
    const need = quantities.reduce(
      (sum, { name, quantity }) => sum + quantity * (plan.price?.[name] ?? 0),
      0,
    );
    const meters = quantities.map(({ name, quantity }): Meter => {
      const price = plan.price?.[name] ?? 0;
      const { takes, short } = takeFrom(name, quantity * price);
      return { name, estimate: quantity, price, takes, overage: short, counters: [] };
    });
    const short = meters.reduce((sum, meter) => sum + meter.overage, 0);
    if (short > 0 && plan.overage !== true) {
      for (const meter of meters) for (const take of meter.takes) take.stock.free += take.micro;
      const code = creditCode(before.free, before.held, need);
      return {
        refused: `${code} ${before.free + before.held}/${need}/${before.held} ${code === 'credits_in_flight'}`,
      };
    }
    for (const meter of meters) {
      for (const take of meter.takes) take.stock.held += take.micro;
      meter.counters = (plan.limits ?? [])
        .filter((limit) => (limit.meter ?? 'calls') === meter.name)
        .map(counterOf);
      for (const counter of meter.counters) counter.held += meter.estimate;
    }
    return meters;
  };

  const giveBack = ({ stock, micro }: Take): void => {
    stock.held -= micro;
    if (isLapsed(stock)) sums.expired += micro;
    else stock.free += micro;
  };
  const settleMeters = (
    op: Extract<Op, { meters: unknown }>,
    actuals: readonly Quantity[],
  ): { charged: number; overage: number; written: number } => {
    const result = { charged: 0, overage: 0, written: 0 };
    for (const meter of op.meters) {
      const actual = actuals.find(({ name }) => name === meter.name)?.quantity ?? 0;
      for (const counter of meter.counters) {
        counter.used += actual;
        if (op.state === 'open') counter.held -= meter.estimate;
      }
      let rest = actual * meter.price;
      if (op.state === 'open') {
        for (const take of meter.takes) {
          const kept = Math.min(rest, take.micro);
          take.stock.held -= kept;
          result.charged += kept;
          rest -= kept;
          giveBack({ stock: take.stock, micro: take.micro - kept });
        }
        const admitted = Math.min(rest, meter.overage);
        result.overage += admitted;
        rest -= admitted;
      }
      const { takes, short } = takeFrom(meter.name, rest);
      for (const take of takes) result.charged += take.micro;
      if (op.plan.overage === true) result.overage += short;
      else result.written += short;
    }
    lapse();
    sums.spent += result.charged;
    sums.overage += result.overage;
    sums.writtenOff += result.written;
    return result;
  };
  const available = (plan: Plan): string => (plan.price === undefined ? 'none' : String(freeNow()));

  const authorize = (command: Extract<Command, { do: 'authorize' }>): string => {
    if (command.key === 'unknown' || version === 0) return 'invalid_credential 0/0/0 false';
    if (command.key === 'expired') return 'key_expired 0/0/0 false';
    if (command.key === 'other_product') return 'invalid_credential 0/0/0 false';
    if (ops.has(command.op)) return 'duplicate_request 0/0/0 false';
    const plan = planNow();
    if (plan === undefined) return 'subscription_inactive 0/0/0 false';
    if (now >= plan.until) return 'constraints_expired 0/0/0 true';
    if (now < plan.from) return 'subscription_inactive 0/0/0 false';
    if (plan.status === 'past_due') return 'payment_overdue 0/0/0 false';
    if (plan.status === 'inactive') return 'subscription_inactive 0/0/0 false';
    if (command.feature !== undefined && !(plan.features ?? []).includes(command.feature)) {
      return 'feature_not_enabled 0/0/0 false';
    }
    // GCRA by theoretical arrival time, in units of 1/limit of a millisecond.
    let nextTat = tat;
    if (plan.rate !== undefined) {
      const [limit, window] = [BigInt(plan.rate.limit), BigInt(plan.rate.windowMs)];
      const at = BigInt(now) * limit;
      nextTat = (tat > at ? tat : at) + window;
      if (nextTat - at > window * limit) {
        const used = (tat - at + window - 1n) / window;
        return `rate_limited ${plan.rate.limit}/${used}/0 true`;
      }
    }
    if (plan.concurrency !== undefined && openOps() >= plan.concurrency) {
      return `concurrency_exceeded ${plan.concurrency}/0/${openOps()} true`;
    }
    const meters = hold(plan, quantitiesOf(command));
    if ('refused' in meters) return meters.refused;
    tat = nextTat;
    lapse();
    const ttl = command.ttl ?? 60_000;
    ops.set(command.op, { state: 'open', plan, meters, until: now + ttl, ttl, slice: 0 });
    const held = meters.flatMap((meter) => meter.takes).reduce((sum, take) => sum + take.micro, 0);
    const over = meters.reduce((sum, meter) => sum + meter.overage, 0);
    return `ok held=${held} overage=${over} available=${available(plan)}`;
  };

  const settle = (opId: string, actuals: readonly Quantity[]): string => {
    const op = ops.get(opId);
    if (op === undefined) {
      ops.set(opId, { state: 'recorded', charged: 0 });
      return 'recorded';
    }
    if (!('meters' in op)) return `already ${op.state} ${op.charged}`;
    const { charged, overage, written } = settleMeters(op, actuals);
    ops.set(opId, { state: op.state === 'open' ? 'settled' : 'late', charged });
    if (op.state === 'expired') return `late ${charged}`;
    return `ok charged=${charged} overage=${overage} written=${written} available=${available(op.plan)}`;
  };

  const giveAllBack = (op: Extract<Op, { meters: unknown }>): void => {
    for (const meter of op.meters) {
      for (const counter of meter.counters) counter.held -= meter.estimate;
      for (const take of meter.takes) giveBack(take);
    }
    if (op.plan.price !== undefined) lapse();
  };
  const release = (opId: string): string => {
    const op = ops.get(opId);
    if (op !== undefined && !('meters' in op)) return `already ${op.state} ${op.charged}`;
    if (op?.state === 'expired') return 'already expired 0';
    if (op !== undefined) giveAllBack(op);
    ops.set(opId, { state: 'released', charged: 0 });
    return `ok charged=0 overage=0 written=0 available=${op === undefined ? 'none' : available(op.plan)}`;
  };
  const extend = (opId: string): string => {
    const op = ops.get(opId);
    if (op === undefined) return 'short';
    if (!('meters' in op)) return `already ${op.state} ${op.charged}`;
    if (op.state === 'expired') return 'short';
    ops.set(opId, { ...op, until: now + op.ttl });
    return `ok charged=0 overage=0 written=0 available=${available(op.plan)}`;
  };
  const slice = ({ op: opId, k, calls }: Extract<Command, { do: 'slice' }>): string => {
    const op = ops.get(opId);
    if (op !== undefined && !('meters' in op)) return `already ${op.state} ${op.charged}`;
    if (ops.has(`${opId}.${k}`)) return 'already recorded 0';
    if (op === undefined) {
      ops.set(`${opId}.${k}`, { state: 'recorded', charged: 0 });
      return 'recorded';
    }
    if (k <= op.slice) return 'already slice 0';
    if (op.state === 'expired') return 'short';
    const { charged, overage, written } = settleMeters(op, [{ name: 'calls', quantity: calls }]);
    const said = `ok charged=${charged} overage=${overage} written=${written} available=`;
    const plan = planNow();
    const balance = available(op.plan);
    const meters =
      plan === undefined || now >= plan.until || (plan.status ?? 'active') !== 'active'
        ? { refused: '' }
        : hold(
            plan,
            op.meters.map(({ name, estimate }) => ({ name, quantity: estimate })),
          );
    if (plan === undefined || 'refused' in meters) {
      ops.set(opId, { state: 'settled', charged });
      return 'short';
    }
    ops.set(opId, { state: 'open', plan, meters, until: now + op.ttl, ttl: op.ttl, slice: k });
    return said + (balance === 'none' ? balance : available(plan));
  };
  const expire = (opId: string): string => {
    const op = ops.get(opId);
    if (op?.state !== 'open') return op === undefined ? 'expired' : 'gone';
    if (op.until > now) return 'open';
    giveAllBack(op);
    const meters = op.meters.map((meter) => ({ ...meter, takes: [], overage: 0 }));
    ops.set(opId, { ...op, state: 'expired', meters });
    return 'expired';
  };

  const record = ({ op: opId, calls, at }: Extract<Command, { do: 'record' }>): string => {
    if (ops.has(opId)) return 'already';
    const plan = planNow();
    const instant = at ?? now;
    let [charged, overage, written, isOver] = [0, 0, 0, false];
    if (plan !== undefined && instant >= plan.from && instant < plan.until) {
      for (const limit of plan.limits ?? []) {
        const counter = counterOf(limit);
        if ((limit.meter ?? 'calls') !== 'calls') continue;
        if (typeof limit.window === 'number' && instant < counter.from) continue;
        counter.used += calls;
        isOver ||= limit.soft !== true && counter.used + counter.held > limit.limit;
      }
      const cost = calls * (plan.price?.calls ?? 0);
      if (cost > 0) {
        lapse();
        const { takes, short } = takeFrom('calls', cost);
        for (const take of takes) charged += take.micro;
        if (plan.overage === true) overage = short;
        else written = short;
      }
    }
    sums.spent += charged;
    sums.overage += overage;
    sums.writtenOff += written;
    ops.set(opId, { state: 'settled', charged });
    return `ok over=${isOver} charged=${charged} overage=${overage}`;
  };

  const credit = ({
    do: verb,
    bucket,
    micro,
  }: Extract<Command, { do: 'grant' | 'void' | 'debit' }>): string => {
    let stock = stocks.find((one) => one.bucket.id === bucket.id);
    let taken = 0;
    if (verb === 'grant') {
      if (stock === undefined) {
        stock = { bucket, free: 0, held: 0 };
        stocks = [...stocks, stock].toSorted(inBurnOrder);
      }
      stock.free += micro;
      sums.granted += micro;
    } else if (stock !== undefined) {
      taken = Math.min(stock.free, micro);
      stock.free -= taken;
      sums.debited += taken;
    }
    lapse();
    return `applied taken=${taken} available=${freeNow()}`;
  };

  const apply = (command: Extract<Command, { do: 'apply' }>): string => {
    if (command.version <= version) return command.version === version ? 'same' : 'older';
    const old = planNow();
    const kept = plans;
    plans = command.plans;
    const next = planNow();
    if (old !== undefined && next !== undefined && altersHistory(old, next, now)) {
      plans = kept;
      return 'boundary_passed';
    }
    version = command.version;
    return 'applied';
  };

  const seal = (period: number): string => {
    const plan = planNow();
    const isAhead = plans.some(
      (one) =>
        one.period === period && one.until > now && (plan === undefined || one.from >= plan.from),
    );
    if (isAhead) return 'not_over';
    const open = openOps(period);
    return open > 0 ? `open_holds ${open}` : 'sealed';
  };

  const read = (): string => {
    const plan = planNow();
    const limits = (plan?.limits ?? []).map((limit) => {
      const counter = counterOf(limit);
      return `${limit.name}=${counter.used}+${counter.held}`;
    });
    const buckets = stocks
      .filter((stock) => stock.free > 0 || stock.held > 0)
      .filter((stock) => !isLapsed(stock) || stock.held > 0)
      .map((stock) => `${stock.bucket.id}=${isLapsed(stock) ? 0 : stock.free}+${stock.held}`);
    return `segment=${plan?.id ?? 'none'} open=${openOps()} ${[...limits, ...buckets].join(' ')}`.trim();
  };

  const step = (command: Command): string => {
    switch (command.do) {
      case 'at':
        now = command.ms;
        return '';
      case 'apply':
        return apply(command);
      case 'grant':
      case 'void':
      case 'debit':
        return credit(command);
      case 'authorize':
        return authorize(command);
      case 'settle':
        return settle(command.op, quantitiesOf(command));
      case 'release':
        return release(command.op);
      case 'extend':
        return extend(command.op);
      case 'expire':
        return expire(command.op);
      case 'slice':
        return slice(command);
      case 'record':
        return record(command);
      case 'seal':
        return seal(command.period);
      case 'read':
        return read();
      default:
        return command satisfies never;
    }
  };
  return {
    run: (command) => Promise.resolve(step(command)),
    totals: () => {
      lapse();
      const free = stocks.reduce((sum, stock) => sum + stock.free, 0);
      return { ...sums, free, held: heldNow() };
    },
  };
}

export type Quantity = { readonly name: 'calls' | 'tokens'; readonly quantity: number };

/** The meters of a command: calls (1 when nothing is said), then tokens. */
export function quantitiesOf(command: {
  readonly calls?: number;
  readonly tokens?: number;
}): Quantity[] {
  const calls = command.calls ?? (command.tokens === undefined ? 1 : undefined);
  return [
    ...(calls === undefined ? [] : [{ name: 'calls' as const, quantity: calls }]),
    ...(command.tokens === undefined
      ? []
      : [{ name: 'tokens' as const, quantity: command.tokens }]),
  ];
}

function creditCode(free: number, held: number, need: number): string {
  if (free + held === 0) return 'credit_exhausted';
  return held > 0 && free + held >= need ? 'credits_in_flight' : 'request_exceeds_balance';
}

function inBurnOrder(a: Stock, b: Stock): number {
  return (
    (a.bucket.priority ?? 0) - (b.bucket.priority ?? 0) ||
    Math.sign((a.bucket.expires ?? 1e15) - (b.bucket.expires ?? 1e15)) ||
    Number(a.bucket.promotional !== true) - Number(b.bucket.promotional !== true) ||
    a.bucket.id - b.bucket.id
  );
}

function altersHistory(old: Plan, next: Plan, now: number): boolean {
  if (now < old.from) return false;
  if (now < old.until) return next.id !== old.id || next.from !== old.from || now >= next.until;
  return next.id === old.id ? now < next.until : next.from < old.until;
}
