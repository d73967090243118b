export type Environment = 'test' | 'live';

/** The text of a key carries its own routing; the checksum refuses garbage without any look-up. */
export type ParsedApiKey =
  | { readonly kind: 'ok'; readonly environment: Environment; readonly subscriberId: string }
  | { readonly kind: 'refused' };

const grammar = /^tb_(test|live)_([0-9a-z]{22})_([0-9A-Za-z]{43})_([0-9A-Za-z]{6})$/;
const base62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const refused: ParsedApiKey = { kind: 'refused' };

/** Length of a key's text, whatever its environment. */
export const apiKeyLength = 3 + 5 + 23 + 44 + 6;

/** Who a key claims to be. Only its grammar and checksum are judged; the secret is judged by the shard. */
export function parseApiKey(text: string): ParsedApiKey {
  if (text.length !== apiKeyLength) return refused;
  const match = grammar.exec(text);
  if (match === null) return refused;
  const [, environment, body = '', , checksum] = match;
  if (checksumOf(text.slice(0, -7)) !== checksum) return refused;
  return {
    kind: 'ok',
    environment: environment === 'live' ? 'live' : 'test',
    subscriberId: `sbr_${body}`,
  };
}

/**
 * The text of a key, with its checksum.
 * @param parts `subscriberBody`: 22 of [0-9a-z], the id without `sbr_`; `secret`: 43 of [0-9A-Za-z], see `secretOf`.
 * @throws RangeError when a part does not fit the grammar.
 */
export function formatApiKey(parts: {
  readonly environment: Environment;
  readonly subscriberBody: string;
  readonly secret: string;
}): string {
  const head = `tb_${parts.environment}_${parts.subscriberBody}_${parts.secret}`;
  const text = `${head}_${checksumOf(head)}`;
  if (!grammar.test(text)) throw new RangeError('a part of the key does not fit its grammar');
  return text;
}

/** 32 random bytes as the 43 base-62 digits of a secret. @throws RangeError on any other number of bytes. */
export function secretOf(bytes: Uint8Array): string {
  if (bytes.length !== 32) throw new RangeError('a secret has 32 bytes');
  const value = bytes.reduce((sum, byte) => sum * 256n + BigInt(byte), 0n);
  return digits(value, 43);
}

function checksumOf(text: string): string {
  return digits(BigInt(crc32(text)), 6);
}

function digits(value: bigint, length: number): string {
  let text = '';
  for (let rest = value; text.length < length; rest /= 62n) {
    text = base62.charAt(Number(rest % 62n)) + text;
  }
  return text;
}

const crcTable = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

/** CRC-32 (ISO-HDLC, as in zip and PNG) of a text of ASCII characters. */
export function crc32(text: string): number {
  let crc = 0xffffffff;
  for (let index = 0; index < text.length; index++) {
    crc = (crc >>> 8) ^ (crcTable[(crc ^ text.charCodeAt(index)) & 0xff] ?? 0);
  }
  return (crc ^ 0xffffffff) >>> 0;
}
