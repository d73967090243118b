/** `npm run setup`: fetches every part that the stack and the tests need, and starts nothing. */
import { runMain } from './setup/main.ts';
import { prepareParts } from './setup/prepare.ts';
import { say } from './setup/progress.ts';

await runMain(async () => {
  await prepareParts(['postgres', 'redis', 'temporal', 'time-skipping']);
  say('✓ Everything that npm start and npm test need is here.');
});
