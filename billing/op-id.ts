/**
 * Names of operations. `op_id` names one attempt of one request; the gateway makes it, and it becomes the event's id:
 * UTC day, incarnation of the maker, sequence in base 36 (`20250131-k3x9q2-1f`). The day decides the partition of the
 * event, so a resend cannot land elsewhere. A slice of a long stream has `.k` behind it. Events from outside are
 * `<day>-x<15 random>-<n>`.
 */
const opIdGrammar = /^\d{8}-[0-9a-z]{6,16}-[0-9a-z]{1,11}$/;
const eventIdGrammar = /^\d{8}-[0-9a-z]{6,16}-[0-9a-z]{1,11}(\.[0-9a-z]{1,4})?$/;

/** Whether a text is an operation's name and its day exists. */
export function isOpId(text: string): boolean {
  return opIdGrammar.test(text) && isDay(text.slice(0, 8));
}

/** Whether a text is an event's id: an operation's name, or a slice of one. */
export function isEventId(text: string): boolean {
  return eventIdGrammar.test(text) && isDay(text.slice(0, 8));
}

/** @param parts `day` yyyymmdd in UTC; `incarnation` 6–16 of [0-9a-z]; `sequence` a safe integer from 0. @throws RangeError */
export function formatOpId(parts: {
  readonly day: string;
  readonly incarnation: string;
  readonly sequence: number;
}): string {
  const text = `${parts.day}-${parts.incarnation}-${parts.sequence.toString(36)}`;
  if (!isOpId(text)) throw new RangeError(`not an operation's name: ${text}`);
  return text;
}

/** The name of an event from outside. @param parts `random` 15 of [0-9a-z]; `row` its place in the call. @throws RangeError */
export function formatExternalOpId(parts: {
  readonly day: string;
  readonly random: string;
  readonly row: number;
}): string {
  if (parts.random.length !== 15) throw new RangeError('an external name has 15 random characters');
  return formatOpId({ day: parts.day, incarnation: `x${parts.random}`, sequence: parts.row });
}

/** The id of the k-th slice of an operation. @throws RangeError */
export function sliceId(opId: string, k: number): string {
  const text = `${opId}.${k.toString(36)}`;
  if (!isEventId(text)) throw new RangeError(`not a slice's id: ${text}`);
  return text;
}

/** The UTC day inside an id, as the `event_day` column has it: `2025-01-31`. */
export function eventDayOf(eventId: string): string {
  return `${eventId.slice(0, 4)}-${eventId.slice(4, 6)}-${eventId.slice(6, 8)}`;
}

const monthLengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

function isDay(yyyymmdd: string): boolean {
  const year = Number(yyyymmdd.slice(0, 4));
  const month = Number(yyyymmdd.slice(4, 6));
  const day = Number(yyyymmdd.slice(6, 8));
  if (month < 1 || month > 12 || day < 1) return false;
  const isLeap = (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0;
  return day <= (month === 2 && isLeap ? 29 : (monthLengths[month - 1] ?? 0));
}
