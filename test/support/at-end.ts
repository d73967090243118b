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
  },
};
