import { randomBytes } from 'node:crypto';

const alphabet = '0123456789abcdefghijklmnopqrstuvwxyz';

export type IdPrefix =
  | 'prod'
  | 'mtr'
  | 'feat'
  | 'rte'
  | 'plan'
  | 'pver'
  | 'chg'
  | 'sbr'
  | 'key'
  | 'sub'
  | 'per'
  | 'wal'
  | 'pay'
  | 'grant'
  | 'inv'
  | 'line'
  | 'top'
  | 'tok'
  | 'txr'
  | 'cpn'
  | 'add'
  | 'pch'
  | 'dsc'
  | 'sad'
  | 'cn'
  | 'ref'
  | 'tkb'
  | 'cor';

/** A new id `prefix_` + 22 characters of [0-9a-z] (113 bits). */
export function newId(prefix: IdPrefix): string {
  return `${prefix}_${randomBody(22)}`;
}

/** `length` characters of [0-9a-z], without modulo bias. */
export function randomBody(length: number): string {
  let body = '';
  while (body.length < length) {
    for (const byte of randomBytes(length)) {
      if (byte < 252 && body.length < length) body += alphabet.charAt(byte % 36);
    }
  }
  return body;
}
