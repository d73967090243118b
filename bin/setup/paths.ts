import { homedir } from 'node:os';
import { join, resolve } from 'node:path';

/** The checkout's top folder. */
export const repositoryFolder = resolve(import.meta.dirname, '..', '..');

/**
 * Where downloaded and built parts are kept: outside the checkout, so that a second clone on the
 * same machine starts at once. `TOLLBOOK_CACHE` wins, then `XDG_CACHE_HOME`, then `~/.cache`.
 */
export function cacheFolder(environment: NodeJS.ProcessEnv = process.env): string {
  const own = environment['TOLLBOOK_CACHE'];
  if (own !== undefined && own !== '') return resolve(own);
  const xdg = environment['XDG_CACHE_HOME'];
  if (xdg !== undefined && xdg !== '') return join(xdg, 'tollbook');
  return join(homedir(), '.cache', 'tollbook');
}
