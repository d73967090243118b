import assert from 'node:assert/strict';

import { upstreamFault } from '../../admin/upstream-url.ts';

const inside: readonly string[] = [
  'https://127.0.0.1',
  'https://127.1',
  'https://0x7f.1',
  'https://2130706433',
  'https://0177.0.0.1',
  'https://0',
  'https://0.0.0.0',
  'https://10.0.0.1',
  'https://10.255.255.255',
  'https://172.16.0.1',
  'https://172.31.255.255',
  'https://192.168.1.1',
  'https://169.254.169.254',
  'https://169.254.169.254/latest/meta-data',
  'https://100.64.0.1',
  'https://198.18.0.1',
  'https://224.0.0.1',
  'https://255.255.255.255',
  'https://[::1]',
  'https://[::]',
  'https://[::ffff:127.0.0.1]',
  'https://[::ffff:7f00:1]',
  'https://[fc00::1]',
  'https://[fd12:3456::1]',
  'https://[fe80::1]',
  'https://[ff02::1]',
  'https://[64:ff9b::7f00:1]',
  'https://localhost',
  'https://LOCALHOST',
  'https://localhost.',
  'https://a.localhost',
  'https://db',
  'https://metadata.google.internal',
  'https://x.internal',
  'https://printer.local',
  'https://nas.lan',
  'https://router.home',
  'https://wiki.corp',
  'https://x.intranet',
  'https://ⓛocalhost',
  'https://１２７.0.0.1',
  'https://127.0.0.1.',
  'https://169.254.169.254.',
];
const malformed: readonly string[] = [
  'http://api.example.com',
  'ftp://api.example.com',
  'file:///etc/passwd',
  'gopher://api.example.com',
  'javascript:alert(1)',
  'https://user@api.example.com',
  'https://user:pass@api.example.com',
  'https://api.example.com:8443',
  'https://api.example.com:22',
  'https://api.example.com/?a=1',
  'https://api.example.com/#a',
  '//api.example.com',
  'api.example.com',
  '',
  'https://',
  'https://exa mple.com',
  'https://127.0.0.1@api.example.com',
  'redis://10.0.0.1:6379',
];

describe('admin › upstream URL', () => {
  it(`refuses ${inside.length} ways into a private network`, () => {
    for (const url of inside) {
      assert.notEqual(upstreamFault(url, { allowPrivate: false }), null, url);
    }
  });

  it(`refuses ${malformed.length} that are no plain https address`, () => {
    for (const url of malformed) {
      assert.notEqual(upstreamFault(url, { allowPrivate: false }), null, url);
    }
  });

  it('takes public ones, and in a local stack private ones', () => {
    for (const url of [
      'https://api.example.com',
      'https://api.example.com/base/v1',
      'https://93.184.216.34',
    ]) {
      assert.equal(upstreamFault(url, { allowPrivate: false }), null, url);
    }
    assert.equal(upstreamFault('http://127.0.0.1:7090', { allowPrivate: true }), null);
    assert.notEqual(upstreamFault('http://user@127.0.0.1:7090', { allowPrivate: true }), null);
    assert.notEqual(upstreamFault('file:///etc/passwd', { allowPrivate: true }), null);
  });
});
