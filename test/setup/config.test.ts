import assert from 'node:assert/strict';

import { ConfigProblem, readConfig, readStackConfig } from '../../bin/config.ts';

describe('bin/config', () => {
  it('has a default for everything, frozen to the bottom', () => {
    const config = readConfig({});
    assert.equal(config.databaseUrl, 'postgres://tollbook:tollbook@127.0.0.1:7432/tollbook');
    assert.deepEqual(config.gatewayUrls, ['http://127.0.0.1:7080', 'http://127.0.0.1:7081']);
    assert.deepEqual(
      config.shards.map(({ name }) => name),
      ['shard-1', 'shard-2', 'shard-3'],
    );
    assert.equal(config.adminToken, null);
    assert.ok(Object.isFrozen(config) && Object.isFrozen(config.shards[0]));
  });

  it('names all faults together, and never the password', () => {
    const environment = {
      DATABASE_URL: 'mysql://u:secret@h/d',
      ADMIN_PORT: '70700',
      SHARDS: 'a=redis://h:1,a=redis://h:2',
      LOG_LEVEL: 'loud',
      TEMPORAL_ADDRESS: 'nowhere',
    };
    assert.throws(
      () => readConfig(environment),
      (error) => {
        assert.ok(error instanceof ConfigProblem);
        assert.match(error.message, /^The environment has 5 faults:/);
        assert.match(error.message, /DATABASE_URL must be a URL like postgres:/);
        assert.match(error.message, /ADMIN_PORT must be a port \(0 to 65535\), is "70700"/);
        assert.match(error.message, /SHARDS names a shard twice/);
        assert.match(error.message, /LOG_LEVEL must be one of trace,/);
        assert.match(error.message, /TEMPORAL_ADDRESS must be host:port/);
        assert.ok(!error.message.includes('secret'));
        return true;
      },
    );
  });

  it('an empty variable counts as unset; a set one replaces an embedded part', () => {
    const own = readStackConfig({ DATABASE_URL: '', TEMPORAL_ADDRESS: '' });
    assert.equal(own.databaseUrl, null);
    assert.equal(own.temporal, null);
    assert.equal(own.shards, null);
    const given = readStackConfig({
      DATABASE_URL: 'postgres://h/d',
      TEMPORAL_ADDRESS: 'cloud.example:7233',
      TEMPORAL_API_KEY: 'k',
      SHARDS: 'eu-1=rediss://h:6379',
    });
    assert.equal(given.databaseUrl, 'postgres://h/d');
    assert.ok(given.temporal?.tls !== null);
    assert.deepEqual(given.shards, [{ name: 'eu-1', url: 'rediss://h:6379' }]);
  });
});
