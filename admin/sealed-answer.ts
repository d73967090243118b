/**
 * An answer that shows a secret once must be repeatable under its Idempotency-Key, yet the database may hold no secret
 * that can be read. So it is kept encrypted with a key derived from the caller's own token, of which we hold a digest only.
 */
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';

import type { StoredAnswer } from '../store/idempotency.ts';

type Owner = { readonly secret: string; readonly key: string };

export function sealAnswer(body: string, owner: Owner): StoredAnswer {
  const iv = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', keyOf(owner), iv);
  const data = Buffer.concat([cipher.update(body, 'utf8'), cipher.final()]);
  return {
    kind: 'sealed',
    iv: iv.toString('base64'),
    data: data.toString('base64'),
    tag: cipher.getAuthTag().toString('base64'),
  };
}

/** The text of a kept answer. Throws when it was sealed by another token. */
export function openAnswer(answer: StoredAnswer, owner: Owner): string {
  if (answer.kind === 'open') return answer.body;
  const decipher = createDecipheriv('aes-256-gcm', keyOf(owner), Buffer.from(answer.iv, 'base64'));
  decipher.setAuthTag(Buffer.from(answer.tag, 'base64'));
  return decipher.update(answer.data, 'base64', 'utf8') + decipher.final('utf8');
}

function keyOf({ secret, key }: Owner): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, key, 'tollbook idempotent answer', 32));
}
