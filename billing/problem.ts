import { isoInstant } from './periods.ts';

/**
 * Every refusal by its name: the same word in the type, the problem document, the metric label, the workflow failure and
 * the test row. The gateway, the admin API and the portal render refusals from this one table.
 */
export const problemCodes = [
  // Who is asking.
  'missing_credential',
  'invalid_credential',
  'key_revoked',
  'key_expired',
  'forbidden',
  'cross_origin',
  // Money and credits.
  'payment_overdue',
  'credit_exhausted',
  'credits_in_flight',
  'request_exceeds_balance',
  'spend_cap_reached',
  'payment_declined',
  // What the plan allows.
  'subscription_inactive',
  'feature_not_enabled',
  'limit_exceeded',
  'rate_limited',
  'concurrency_exceeded',
  'too_many_attempts',
  // The request itself.
  'bad_argument',
  'invalid_request',
  'invalid_json',
  'validation_failed',
  'not_found',
  'product_not_found',
  'route_not_found',
  'method_not_allowed',
  'duplicate_request',
  'body_too_large',
  'payload_too_large',
  'unsupported_media_type',
  // Conflicts with what is there.
  'conflict',
  'already_exists',
  'in_use',
  'idempotency_key_in_flight',
  'idempotency_key_reused',
  'plan_not_published',
  'plan_not_found',
  'plan_archived',
  'plan_version_published',
  'draft_exists',
  'product_needed',
  'subscription_exists',
  'subscription_not_active',
  'subscription_not_ended',
  'period_not_closable',
  'plan_unchanged',
  'credits_already_spent',
  'payment_method_needed',
  'payment_in_progress',
  'invoice_state',
  'invoice_has_credits',
  'credit_too_large',
  'nothing_to_refund',
  'take_back_in_progress',
  'event_not_correctable',
  'nothing_to_correct',
  'tax_rate_final',
  'coupon_archived',
  'coupon_expired',
  'coupon_used_up',
  'coupon_held',
  'add_on_archived',
  'add_on_billed',
  'currency_differs',
  'tax_inclusion_differs',
  'product_differs',
  // Why a plan cannot be published.
  'publish_refused',
  'neither_rations_nor_bills',
  'unreachable_charge',
  'tier_gap',
  'tier_overlap',
  'tiers_malformed',
  'price_missing',
  'price_malformed',
  'currency_unknown',
  'meter_unknown',
  'meter_unnamed',
  'meter_scale',
  'ambiguous_name',
  'duplicate_charge',
  'duplicate_name',
  'charge_in_advance',
  'charge_bounds',
  'percentage_meter',
  'tax_rate_unusable',
  'term_without_effect',
  'limit_without_meter',
  'limit_reset_unsupported',
  'rate_limit_malformed',
  'credit_definition_missing',
  'credit_terms_malformed',
  'overage_price_missing',
  // We cannot tell, or the other side failed.
  'constraints_expired',
  'enforcement_unavailable',
  'origin_unavailable',
  'origin_timeout',
  'workflow_engine_unavailable',
  'database_unavailable',
  'internal_error',
] as const;
export type ProblemCode = (typeof problemCodes)[number];

export type ProblemEntry = {
  readonly status: number;
  /** One short sentence without a full stop, the same for every occurrence. */
  readonly title: string;
  /** Whether the same request may succeed later without anybody changing anything. */
  readonly retryable: boolean;
  /** What it means and what to do, for the reference page. */
  readonly doc: string;
};

const no = false;
const yes = true;

function entry(status: number, retryable: boolean, title: string, doc: string): ProblemEntry {
  return { status, title, retryable, doc };
}

export const problemTable = {
  missing_credential: entry(
    401,
    no,
    'A key is needed',
    'Send the API key as `Authorization: Bearer …` or `X-API-Key`.',
  ),
  invalid_credential: entry(
    401,
    no,
    'This key is not valid',
    'The key is mistyped, was never issued, or was revoked. Create another one.',
  ),
  key_revoked: entry(401, no, 'This key was revoked', 'Create another key.'),
  key_expired: entry(401, no, 'This key has expired', 'Create another key.'),
  forbidden: entry(
    403,
    no,
    'This token may not do that',
    'Use a token whose role allows the call.',
  ),
  cross_origin: entry(
    403,
    no,
    'This call came from another site',
    'Calls that change state with a cookie must come from the same origin, with a JSON content type.',
  ),
  payment_overdue: entry(
    402,
    no,
    'A payment is overdue',
    'Pay the open invoice; access returns within seconds.',
  ),
  credit_exhausted: entry(
    402,
    no,
    'The credits are used up',
    'Top up, or allow overage where the plan has it.',
  ),
  credits_in_flight: entry(
    402,
    yes,
    'The remaining credits are held by running requests',
    'Wait for running requests to end, or top up.',
  ),
  request_exceeds_balance: entry(
    402,
    no,
    'This request costs more than the balance',
    'Top up, or ask for less in one request.',
  ),
  spend_cap_reached: entry(
    402,
    no,
    'The spend cap is reached',
    'Raise the cap, or wait for the next period.',
  ),
  payment_declined: entry(402, no, 'The payment was declined', 'Use another payment method.'),
  subscription_inactive: entry(
    403,
    no,
    'There is no active subscription',
    'Subscribe to a plan of this product, or resume the subscription.',
  ),
  feature_not_enabled: entry(
    403,
    no,
    'The plan does not contain this feature',
    'Change to a plan that contains it.',
  ),
  limit_exceeded: entry(
    429,
    yes,
    'The limit of the plan is reached',
    'Wait until `reset_at`, or change to a plan with a higher limit.',
  ),
  rate_limited: entry(429, yes, 'Too many requests at once', 'Wait for the time in `Retry-After`.'),
  concurrency_exceeded: entry(
    429,
    yes,
    'Too many requests are running',
    'Wait for one of them to end.',
  ),
  too_many_attempts: entry(
    429,
    yes,
    'Too many wrong keys from this address',
    'Wait a minute and check the key.',
  ),
  bad_argument: entry(
    400,
    no,
    'The request does not fit',
    'A number of the request is out of bounds.',
  ),
  invalid_request: entry(
    400,
    no,
    'The request does not fit',
    'Each entry of `errors` names a field and what is allowed.',
  ),
  invalid_json: entry(
    400,
    no,
    'The body is not JSON that we accept',
    'Send one JSON object in UTF-8.',
  ),
  validation_failed: entry(
    422,
    no,
    'Some fields cannot be accepted',
    'Each entry of `errors` names a field and what is allowed.',
  ),
  not_found: entry(
    404,
    no,
    'There is no such thing',
    'Check the id or lookup_id, and the environment of the token.',
  ),
  product_not_found: entry(
    404,
    no,
    'There is no such product',
    'The host or the first path segment must name a product.',
  ),
  route_not_found: entry(404, no, 'The product has no such route', 'Check method and path.'),
  method_not_allowed: entry(
    405,
    no,
    'This path does not know the method',
    'See the API description.',
  ),
  duplicate_request: entry(409, no, 'This request was seen before', 'It was not forwarded again.'),
  body_too_large: entry(413, no, 'The body is too large', 'Send a smaller body.'),
  payload_too_large: entry(413, no, 'The body is too large', 'Send a smaller body.'),
  unsupported_media_type: entry(
    415,
    no,
    'The body must be JSON',
    'Send `Content-Type: application/json`.',
  ),
  conflict: entry(
    409,
    no,
    'It conflicts with what is there',
    'Read the current state and decide again.',
  ),
  already_exists: entry(
    409,
    no,
    'The name is taken',
    'Choose another lookup_id, or use the one that exists.',
  ),
  in_use: entry(409, no, 'Something else relies on it', 'Remove what relies on it first.'),
  idempotency_key_in_flight: entry(
    409,
    yes,
    'The first request with this key is not finished',
    'Repeat the request in a moment.',
  ),
  idempotency_key_reused: entry(
    422,
    no,
    'This key was used for another request',
    'Use a new Idempotency-Key for a new request.',
  ),
  plan_not_published: entry(409, no, 'The plan is a draft', 'Publish the plan, then subscribe.'),
  plan_not_found: entry(404, no, 'There is no such plan', 'Check the id or lookup_id.'),
  plan_archived: entry(409, no, 'The plan is archived', 'Choose a plan that is on sale.'),
  plan_version_published: entry(
    409,
    no,
    'A published version never changes',
    'Change the draft of the next version.',
  ),
  draft_exists: entry(409, no, 'The plan has a draft already', 'Change or publish that draft.'),
  product_needed: entry(
    422,
    no,
    'A product must be named',
    'There is more than one product: say which one is meant.',
  ),
  subscription_exists: entry(
    409,
    no,
    'The subscriber has a live subscription to this product',
    'Change or cancel that subscription.',
  ),
  subscription_not_active: entry(
    409,
    no,
    'The subscription is not active',
    'Only an active subscription can do that.',
  ),
  subscription_not_ended: entry(
    409,
    no,
    'The subscription has not ended',
    'Late usage is billed by its next invoice: wait for that.',
  ),
  period_not_closable: entry(
    409,
    no,
    'The period cannot be closed now',
    'Only the current period can be closed early.',
  ),
  plan_unchanged: entry(
    409,
    no,
    'The subscription has this plan',
    'Name another plan, or another version of it.',
  ),
  credits_already_spent: entry(
    409,
    no,
    'Credits that the plan brought are spent',
    'Ask for the change at the end of the period: when = period_end.',
  ),
  event_not_correctable: entry(
    409,
    no,
    'This event cannot be corrected',
    'Single events of SUM and COUNT meters that took no credits are corrected. Give money back with a credit note, credits with a grant.',
  ),
  nothing_to_correct: entry(
    409,
    no,
    'The event says so already',
    'Nothing was changed: the corrected quantities are those that the event has now.',
  ),
  payment_method_needed: entry(
    422,
    no,
    'There is nothing to charge',
    'Give the subscriber a payment method.',
  ),
  payment_in_progress: entry(
    409,
    yes,
    'A payment of this invoice is under way',
    'Try again when it has ended: most end within seconds. The collection of the invoice says what it waits for.',
  ),
  invoice_state: entry(
    409,
    no,
    'The invoice is in another state',
    'Only a draft is finalized; only an invoice that is owed is paid, voided or given up; the rest is done by credit notes.',
  ),
  invoice_has_credits: entry(
    409,
    no,
    'Something of the invoice was credited or paid',
    'It can no longer be voided: credit what is left of it with a credit note.',
  ),
  credit_too_large: entry(
    422,
    no,
    'More is credited than the line has left',
    'Credit at most what earlier credit notes left of the line, and of a top-up what its unspent credits cost; `full` credits all that is left.',
  ),
  nothing_to_refund: entry(
    409,
    no,
    'No payment of this invoice can be refunded',
    'Give it to the account balance (`refund_to: balance`), or pay it back outside and say so in the memo.',
  ),
  take_back_in_progress: entry(
    409,
    yes,
    'Credits of this invoice are being taken back',
    'Wait until that has ended, most often within a second; then what is left can be taken back.',
  ),
  tax_rate_final: entry(
    409,
    no,
    'A tax rate never changes',
    'Make a new rate, give it to what is taxed, and archive this one: old invoices stay what they are.',
  ),
  coupon_archived: entry(409, no, 'The coupon is archived', 'Choose a coupon that is on offer.'),
  coupon_expired: entry(
    409,
    no,
    'The coupon can no longer be redeemed',
    'Its `redeem_by` has passed. Make a new coupon.',
  ),
  coupon_used_up: entry(
    409,
    no,
    'The coupon was redeemed as often as it can be',
    'Its `max_redemptions` is reached. Make a new coupon.',
  ),
  coupon_held: entry(
    409,
    no,
    'The subscription has this coupon already',
    'Take it away first to give it once more.',
  ),
  add_on_archived: entry(409, no, 'The add-on is archived', 'Choose an add-on that is on sale.'),
  add_on_billed: entry(
    409,
    no,
    'The add-on was billed already',
    'Give the money back with a credit note on its invoice.',
  ),
  currency_differs: entry(
    409,
    no,
    'It is of another currency than the subscription',
    'Use one of the currency of the subscription.',
  ),
  tax_inclusion_differs: entry(
    409,
    no,
    'The prices of one plan hold the tax, those of the other do not',
    'Publish a version that is priced alike, or start another subscription.',
  ),
  product_differs: entry(
    409,
    no,
    'It is of another product than the subscription',
    'Use one of the product of the subscription.',
  ),
  publish_refused: entry(
    422,
    no,
    'The plan cannot be published as it is',
    'Each entry of `errors` names a fault and its mend.',
  ),
  neither_rations_nor_bills: entry(
    422,
    no,
    'The plan neither rations nor bills',
    'Add a charge, a hard limit, a rate limit, or credits.',
  ),
  unreachable_charge: entry(
    422,
    no,
    'A hard limit stops usage before it is billed',
    'Raise the limit above the included units, make it SOFT, or remove the charge.',
  ),
  tier_gap: entry(422, no, 'Tiers leave a gap', 'Let each tier begin where the one before ends.'),
  tier_overlap: entry(422, no, 'Tiers overlap', 'Let each tier begin where the one before ends.'),
  tiers_malformed: entry(
    422,
    no,
    'Tiers are not well formed',
    'Bounds are whole numbers that rise; the last tier is open.',
  ),
  price_missing: entry(
    422,
    no,
    'A charge has no price',
    'Give the charge a price, or its meter usage_pricing_rules.',
  ),
  price_malformed: entry(
    422,
    no,
    'A price is not well formed',
    'Prices are decimals from zero up with at most 12 places.',
  ),
  currency_unknown: entry(
    422,
    no,
    'The currency is not known',
    'Use an ISO 4217 code in upper case.',
  ),
  meter_unknown: entry(
    422,
    no,
    'There is no such meter',
    'Create the meter first, or name another.',
  ),
  meter_unnamed: entry(
    422,
    no,
    'A meter has no name or no unit',
    'Give it a name and a unit {one, other}: invoices quote them.',
  ),
  meter_scale: entry(
    422,
    no,
    'The scale does not fit the aggregation',
    'A COUNT or UNIQUE_COUNT counts whole things: its scale is 0.',
  ),
  ambiguous_name: entry(
    422,
    no,
    'Two names differ only in case or plural',
    'Rename one of them: subscribers could not tell them apart.',
  ),
  duplicate_charge: entry(
    422,
    no,
    'A meter is charged twice',
    'Remove one of the two charges, or use tiers.',
  ),
  duplicate_name: entry(422, no, 'A name occurs twice', 'Names within a plan are unique.'),
  charge_in_advance: entry(
    422,
    no,
    'Only recurring fees are billed in advance',
    'Use bill_in arrears, or a RECURRING charge.',
  ),
  charge_bounds: entry(
    422,
    no,
    'The bounds of a charge do not fit',
    'Give a minimum that is not above the maximum, and a maximum above zero.',
  ),
  percentage_meter: entry(
    422,
    no,
    'A percentage needs a meter of money',
    'Use a SUM meter that adds up amounts and whose scale has at least the places of the currency.',
  ),
  tax_rate_unusable: entry(
    422,
    no,
    'A tax rate cannot be used',
    'Use a tax rate that exists and is not archived.',
  ),
  term_without_effect: entry(
    422,
    no,
    'A term of the plan can never matter',
    'See the named field: remove the term, or add what it needs.',
  ),
  limit_without_meter: entry(
    422,
    no,
    'A limit has nothing to count',
    'Give the feature a meter, or remove the limit.',
  ),
  limit_reset_unsupported: entry(
    422,
    no,
    'The limit resets out of step with the plan',
    'Use reset_interval period, or the interval of the plan.',
  ),
  rate_limit_malformed: entry(
    422,
    no,
    'A rate limit is not well formed',
    'Limits are whole numbers from 1; windows are at least 1 ms.',
  ),
  credit_definition_missing: entry(
    422,
    no,
    'The product does not say what one credit is',
    'Set credit_definition of the product.',
  ),
  credit_terms_malformed: entry(
    422,
    no,
    'The credit terms are not well formed',
    'See the named field.',
  ),
  overage_price_missing: entry(
    422,
    no,
    'Overage has no price',
    'Give overage.credit_price or credit_price.',
  ),
  constraints_expired: entry(
    503,
    yes,
    'The rules for this subscription are out of date',
    'Nothing was forwarded. Repeat the request in a moment.',
  ),
  enforcement_unavailable: entry(
    503,
    yes,
    'The request could not be checked',
    'Nothing was forwarded. Repeat the request in a moment.',
  ),
  origin_unavailable: entry(
    502,
    yes,
    'The upstream could not be reached',
    'Nothing was charged. Repeat the request.',
  ),
  origin_timeout: entry(
    504,
    yes,
    'The upstream did not answer in time',
    'Nothing was charged. Repeat the request.',
  ),
  workflow_engine_unavailable: entry(
    503,
    yes,
    'The workflow engine does not answer',
    'Repeat the request with the same Idempotency-Key.',
  ),
  database_unavailable: entry(
    503,
    yes,
    'The database does not answer',
    'Repeat the request with the same Idempotency-Key.',
  ),
  internal_error: entry(
    500,
    no,
    'Something went wrong on our side',
    'The request id names it in our logs.',
  ),
} as const satisfies Record<ProblemCode, ProblemEntry>;

/** One field at fault. */
export type FieldError = {
  /** `tiers[1].from`, `limit`, `meter_id`. */
  readonly field: string;
  readonly message: string;
  readonly allowed?: readonly string[];
};

/** What is particular to one occurrence. Numbers of credits are decimal strings; nothing here betrays the inside. */
export type ProblemDetails = {
  /** A sentence about this occurrence; default: what the reference page says. */
  readonly detail?: string;
  /** Epoch ms at which it may end by itself; 0 or absent = never by time. */
  readonly resetMs?: number;
  /** Overrides the table: a quota that is only held by running requests is retryable. */
  readonly retryable?: boolean;
  readonly errors?: readonly FieldError[];
  /** Further members: `limit`, `used`, `level`, `name`, `subscription_id`, `decision_id`, … */
  readonly extra?: Readonly<Record<string, unknown>>;
};

/** An RFC 9457 problem document with our members. */
export type Problem = {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly code: ProblemCode;
  readonly detail: string;
  readonly retryable: boolean;
  readonly reset_at?: string;
  readonly errors?: readonly FieldError[];
  readonly [member: string]: unknown;
};

/** Whether a text is the code of a problem of ours. */
export function isProblemCode(text: string): text is ProblemCode {
  return Object.hasOwn(problemTable, text);
}

/** The problem document of one occurrence; `details.extra` never replaces a member of the table. */
export function problemOf(code: ProblemCode, details: ProblemDetails = {}): Problem {
  const { status, title, retryable, doc }: ProblemEntry = problemTable[code];
  return {
    ...details.extra,
    type: `/docs#${code}`,
    title,
    status,
    code,
    detail: details.detail ?? doc,
    retryable: details.retryable ?? retryable,
    ...(details.resetMs === undefined || details.resetMs <= 0
      ? {}
      : { reset_at: isoInstant(details.resetMs) }),
    ...(details.errors === undefined || details.errors.length === 0
      ? {}
      : { errors: details.errors }),
  };
}
