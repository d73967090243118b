/** A drainer in a process of its own that kills itself: `node drainer-child.ts <database> <redis> <failpoint> <batch number>`. */
import { runDrainer } from '../../drain/drainer.ts';
import { openShardLink } from '../../shards/admin-client.ts';
import { openDb } from '../../store/db.ts';

const [databaseUrl = '', redisUrl = '', failpoint = '', batch = '1'] = process.argv.slice(2);
let seen = 0;
const quiet = (): void => {};
runDrainer({
  db: openDb(databaseUrl),
  databaseUrl,
  link: openShardLink({ name: 'a', url: redisUrl }),
  shard: 'a',
  incarnation: 1,
  log: { info: quiet, warn: quiet, error: quiet },
  batchMax: 7,
  blockMs: 40,
  failpoint: async (name) => {
    if (name !== failpoint) return;
    seen += 1;
    if (seen < Number(batch)) return;
    process.kill(process.pid, 'SIGKILL');
    // Death comes from outside; nothing may happen in between.
    await new Promise(() => {});
  },
});
