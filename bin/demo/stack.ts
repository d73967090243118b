import { readStackConfig } from '../config.ts';
import { runningStack } from '../setup/stack-file.ts';
import { startStack } from '../setup/stack.ts';
import { AdminApi } from './api.ts';

/** What a demo needs of the stack, whether it was running or was started for it. */
export type DemoStack = {
  readonly api: AdminApi;
  readonly gatewayUrls: readonly string[];
  readonly upstreamUrl: string;
  readonly temporalUiUrl: string | undefined;
  /** Stops the stack if it was started here; leaves one alone that ran before. */
  readonly stop: () => Promise<void>;
};

/** Uses the stack that runs in this checkout, or starts one and stops it at the end. */
export async function findOrStartStack(say: (line: string) => void): Promise<DemoStack> {
  const config = readStackConfig(process.env);
  const running = runningStack(config.stateDir);
  if (running?.isReady === true) {
    return fromEnvironment(running.environment, running.urls, async () => undefined);
  }
  say('Nothing runs yet: starting everything for this demo.');
  const stack = await startStack(config, { say });
  return fromEnvironment(stack.environment, stack.urls, stack.stop);
}

/** The demo's view of a stack, from the environment its processes run with. */
export function fromEnvironment(
  environment: Readonly<Record<string, string>>,
  urls: Readonly<Record<string, string>>,
  stop: () => Promise<void>,
): DemoStack {
  return {
    api: new AdminApi(environment['ADMIN_URL'] ?? '', environment['ADMIN_TOKEN'] ?? ''),
    gatewayUrls: (environment['GATEWAY_URLS'] ?? '').split(','),
    upstreamUrl: environment['DEMO_UPSTREAM_URL'] ?? '',
    temporalUiUrl: urls['temporal-ui'],
    stop,
  };
}
