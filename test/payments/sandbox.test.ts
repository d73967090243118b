import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { type ChargeRequest, ProviderFault } from '../../payments/port.ts';
import { sandboxProvider } from '../../payments/sandbox-client.ts';
import { type Sandbox, startSandbox } from '../../payments/sandbox-server.ts';
import { freePort } from '../support/ports.ts';

const request = (idempotencyKey: string, method: string): ChargeRequest => ({
  idempotencyKey,
  amountMinor: 8245n,
  currency: 'USD',
  method,
  description: 'INV-2025-0042',
});

async function chargesAt(
  url: string,
): Promise<readonly { idempotency_key: string; status: string }[]> {
  const response = await fetch(`${url}/_charges`);
  const body: { data: { idempotency_key: string; status: string }[] } = JSON.parse(
    await response.text(),
  );
  return body.data;
}

describe('payments/sandbox', () => {
  let folder: string;
  let sandbox: Sandbox;

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'tollbook-payments-'));
    sandbox = await startSandbox({ file: join(folder, 'a.jsonl'), host: '127.0.0.1', port: 0 });
  });
  after(async () => {
    await sandbox.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  it('takes the money once for a key, however often it is asked', async () => {
    const provider = sandboxProvider({ url: sandbox.url });
    const outcomes = await Promise.all(
      Array.from({ length: 5 }, () => provider.charge(request('once', 'card_ok'))),
    );
    assert.equal(new Set(outcomes.map((outcome) => outcome.providerRef)).size, 1);
    assert.deepEqual(await provider.lookup('once'), outcomes[0]);
    const taken = (await chargesAt(sandbox.url)).filter((it) => it.idempotency_key === 'once');
    assert.equal(taken.length, 1);
  });

  it('declines with a code, as an answer', async () => {
    const provider = sandboxProvider({ url: sandbox.url });
    const outcome = await provider.charge(request('no', 'card_decline'));
    assert.equal(outcome.kind, 'declined');
    assert.equal(outcome.kind === 'declined' && outcome.code, 'card_declined');
  });

  it('refuses a key that was used for another amount', async () => {
    const provider = sandboxProvider({ url: sandbox.url });
    await provider.charge(request('changed', 'card_ok'));
    await assert.rejects(
      provider.charge({ ...request('changed', 'card_ok'), amountMinor: 1n }),
      (error) => error instanceof ProviderFault && error.kind === 'refused',
    );
  });

  it('does not know a key that was never charged', async () => {
    const provider = sandboxProvider({ url: sandbox.url });
    assert.deepEqual(await provider.lookup('never'), { kind: 'not_found' });
  });

  it('card_timeout: takes the money, and tells it only to the second call', async () => {
    const provider = sandboxProvider({ url: sandbox.url, timeoutMs: 300 });
    await assert.rejects(
      provider.charge(request('silent', 'card_timeout')),
      (error) => error instanceof ProviderFault && error.kind === 'unavailable',
    );
    const outcome = await provider.charge(request('silent', 'card_timeout'));
    assert.equal(outcome.kind, 'succeeded');
    assert.deepEqual(await provider.lookup('silent'), outcome);
  });

  it('card_error_once: fails, then takes the money', async () => {
    const provider = sandboxProvider({ url: sandbox.url });
    await assert.rejects(provider.charge(request('once500', 'card_error_once')), ProviderFault);
    const outcome = await provider.charge(request('once500', 'card_error_once'));
    assert.equal(outcome.kind, 'succeeded');
  });

  it('card_slow: is pending while it is under way', async () => {
    const provider = sandboxProvider({ url: sandbox.url });
    const charging = provider.charge(request('slow', 'card_slow'));
    for (;;) {
      const seen = await provider.lookup('slow');
      if (seen.kind === 'not_found') continue;
      assert.equal(seen.kind, 'pending');
      break;
    }
    assert.equal((await charging).kind, 'succeeded');
  });

  describe('refunds', () => {
    const provider = () => sandboxProvider({ url: sandbox.url, timeoutMs: 500 });
    const charged = async (key: string, method: string) => {
      const outcome = await provider().charge(request(key, method));
      assert.equal(outcome.kind, 'succeeded');
      return outcome.providerRef;
    };
    const back = (idempotencyKey: string, providerRef: string, amountMinor: bigint) => ({
      idempotencyKey,
      providerRef,
      amountMinor,
      currency: 'USD',
    });

    it('gives back once for a key, in parts, and no more than was taken', async () => {
      const providerRef = await charged('back', 'card_ok');
      const first = await provider().refund(back('r1', providerRef, 8000n));
      assert.equal(first.kind, 'succeeded');
      assert.deepEqual(await provider().refund(back('r1', providerRef, 8000n)), first);
      assert.deepEqual(await provider().lookupRefund('r1'), first);
      assert.equal((await provider().refund(back('r2', providerRef, 245n))).kind, 'succeeded');
      const third = await provider().refund(back('r3', providerRef, 1n));
      assert.ok(third.kind === 'declined');
      assert.equal(third.code, 'amount_too_large');
    });

    it('says that it gives nothing back, or nothing at all', async () => {
      const firm = await provider().refund(
        back('r4', await charged('no-back', 'card_no_refund'), 5n),
      );
      assert.ok(firm.kind === 'declined');
      assert.equal(firm.code, 'refund_declined');
      const silent = await charged('mute', 'card_refund_timeout');
      await assert.rejects(
        provider().refund(back('r5', silent, 5n)),
        (error) => error instanceof ProviderFault && error.kind === 'unavailable',
      );
      assert.equal((await provider().lookupRefund('r5')).kind, 'succeeded');
      assert.deepEqual(await provider().lookupRefund('never'), { kind: 'not_found' });
    });

    it('refuses a key that is used for another refund, and a charge that took nothing', async () => {
      const providerRef = await charged('mine', 'card_ok');
      await provider().refund(back('r6', providerRef, 5n));
      const isRefused = (error: unknown): boolean =>
        error instanceof ProviderFault && error.kind === 'refused';
      await assert.rejects(provider().refund(back('r6', providerRef, 6n)), isRefused);
      await assert.rejects(provider().refund(back('r7', 'ch_none', 6n)), isRefused);
    });

    it('knows its refunds after a kill', async () => {
      const file = join(folder, 'refunds.jsonl');
      const one = await startSandbox({ file, host: '127.0.0.1', port: 0 });
      const before = sandboxProvider({ url: one.url });
      const taken = await before.charge(request('kept', 'card_ok'));
      const made = await before.refund(back('kept-back', taken.providerRef, 5n));
      await one.stop();
      const two = await startSandbox({ file, host: '127.0.0.1', port: 0 });
      const after = sandboxProvider({ url: two.url });
      assert.deepEqual(await after.lookupRefund('kept-back'), made);
      assert.deepEqual(await after.lookup('kept'), taken);
      await two.stop();
    });
  });
});

describe('payments/sandbox › as a process', () => {
  it('knows every charge that it answered after kill -9, and cuts off a torn line', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'tollbook-payments-'));
    const port = await freePort();
    const started = async (): Promise<ChildProcess> => {
      const child = spawn(process.execPath, ['bin/payments-sandbox.ts'], {
        env: { ...process.env, PAYMENTS_PORT: String(port), STATE_DIR: folder, LOG_LEVEL: 'info' },
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      if (child.stdout === null) throw new Error('no output to read');
      await once(child.stdout, 'data');
      return child;
    };
    const provider = sandboxProvider({ url: `http://127.0.0.1:${port}` });
    let child = await started();
    try {
      const before = [];
      for (let i = 0; i < 20; i += 1)
        before.push(await provider.charge(request(`k${i}`, 'card_ok')));
      child.kill('SIGKILL');
      await once(child, 'exit');
      appendFileSync(join(folder, 'payments.jsonl'), '{"id":"ch_torn');
      child = await started();
      for (const [i, outcome] of before.entries()) {
        assert.deepEqual(await provider.charge(request(`k${i}`, 'card_ok')), outcome);
      }
      assert.equal((await chargesAt(`http://127.0.0.1:${port}`)).length, 20);
    } finally {
      child.kill('SIGKILL');
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
