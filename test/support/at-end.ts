/**
 * Work to do when the mocha run ends: singletons that test files share (a Postgres, a
 * time-skipping archive) stop here. `.mocharc.json` loads this file as a root hook.
 */
type Task = () => Promise<void>;

const tasks: Task[] = [];

/** Runs the task after the last test of this mocha run; the last one registered runs first. */
export function atEnd(task: Task): void {
  tasks.push(task);
}

export const mochaHooks = {
  async afterAll(): Promise<void> {
    for (let task = tasks.pop(); task !== undefined; task = tasks.pop()) await task();
    failOnLeak();
  },
};

/** Long enough for connections that are being closed, also on a loaded machine. */
const LEAK_AFTER_MS = 20_000;

/** A server or a timer that a test forgot would keep this process, and CI, alive for ever. */
function failOnLeak(): void {
  const timer = setTimeout(() => {
    const kept = process.getActiveResourcesInfo().filter((name) => name !== 'Timeout');
    process.stderr.write(
      `The tests are done, but this process is kept alive by: ${kept.join(', ')}\n`,
    );
    process.exit(1);
  }, LEAK_AFTER_MS);
  timer.unref();
}
