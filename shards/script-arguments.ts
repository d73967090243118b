/**
 * The arguments of each script after slot, epoch and subscriber, in the order that the head of its Lua file gives.
 * Nothing is checked here: the scripts hold every argument to its grammar, which is the one wall that all callers meet.
 */
import type { SubscriberConstraints } from '../billing/constraints.ts';
import type {
  AuthorizeRequest,
  CreditEntry,
  MeterQuantity,
  RecordRequest,
  SettleRequest,
} from './port.ts';

export function authorizeArguments(request: AuthorizeRequest): string[] {
  return [
    request.opId,
    request.digest16,
    request.productId,
    request.feature,
    String(request.ttlMs),
    ...quantityArguments(request.estimates),
  ];
}

export function settleArguments(request: SettleRequest): string[] {
  return [
    request.opId,
    String(request.generation),
    String(request.atMs),
    request.segmentId,
    request.subscriptionId,
    request.productId,
    request.keyId,
    request.verb,
    String(request.status),
    request.flags.join(','),
    ...quantityArguments(request.actuals),
  ];
}

export function recordArguments(request: RecordRequest): string[] {
  return [
    request.opId,
    request.productId,
    String(request.atMs),
    ...quantityArguments(request.quantities),
  ];
}

export function creditArguments({ seq, verb, bucket, amountMicro }: CreditEntry): string[] {
  return [
    String(seq),
    verb,
    bucket.id,
    bucket.unit,
    String(bucket.priority),
    bucket.class,
    String(bucket.effectiveMs),
    String(bucket.expiresMs ?? 0),
    bucket.scope.join(','),
    String(amountMicro),
  ];
}

function quantityArguments(quantities: readonly MeterQuantity[]): string[] {
  const words = [String(quantities.length)];
  for (const { meter, quantity } of quantities) words.push(meter, String(quantity));
  return words;
}

/** Numbers travel as text, so that the script can hold them to the same grammar as every other argument. */
export function applyArguments(constraints: SubscriberConstraints): string[] {
  return [
    JSON.stringify(constraints, (_name, value: unknown) =>
      typeof value === 'number' ? String(value) : value,
    ),
  ];
}
