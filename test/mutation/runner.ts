/**
 * The runner that Stryker loads (`stryker.config.json`): mocha within the worker's process, so that a mutant costs as long
 * as the tests that cover it and not a start of Node. Properties run with one seed, so that a mutant dies or lives for good.
 */
import { globSync } from 'node:fs';

import fc from 'fast-check';
import Mocha from 'mocha';

/** What the instrumented code and we tell one another, under this global name, which Stryker fixes. */
const namespace = '__stryker__';
type Instrumentation = {
  activeMutant?: string | undefined;
  currentTestId?: string | undefined;
  mutantCoverage?: unknown;
  hitCount?: number | undefined;
  hitLimit?: number | undefined;
};

type TestRun = {
  readonly id: string;
  readonly name: string;
  readonly status: 0 | 1;
  readonly timeSpentMs: number;
  readonly failureMessage: string;
};
type DryRunOptions = { readonly coverageAnalysis: 'off' | 'all' | 'perTest' };
type MutantRunOptions = {
  readonly activeMutant: { readonly id: string };
  readonly testFilter?: readonly string[];
  readonly hitLimit?: number;
  readonly mutantActivation: 'static' | 'runtime';
};

/** Failures are gathered by the run below; nothing is printed. */
class Silent extends Mocha.reporters.Base {}

class BillingRunner {
  readonly #mocha: Mocha = new Mocha({ timeout: 0, forbidOnly: true });
  #isLoaded = false;
  #coveredTest: ((title: string | undefined) => void) | null = null;

  capabilities(): { readonly reloadEnvironment: boolean } {
    // Modules are imported once: what happens as they load needs a new process for each mutant.
    return { reloadEnvironment: false };
  }

  init(): void {
    fc.configureGlobal({ numRuns: 30, seed: 7_203_114 });
    this.#mocha.cleanReferencesAfterRun(false);
    this.#mocha.reporter(Silent);
    for (const file of globSync('test/billing/*.test.ts').toSorted()) this.#mocha.addFile(file);
    const noteTest = (title: string | undefined): void => this.#coveredTest?.(title);
    this.#mocha.suite.beforeEach(function note(this: Mocha.Context) {
      noteTest(this.currentTest?.fullTitle());
    });
  }

  async dryRun({ coverageAnalysis }: DryRunOptions): Promise<object> {
    const shared = instrumentation();
    if (coverageAnalysis === 'perTest') {
      this.#coveredTest = (title) => {
        shared.currentTestId = title;
      };
    }
    await this.#load();
    const tests = await this.#run(false);
    this.#coveredTest = null;
    return { status: 'complete', tests, mutantCoverage: shared.mutantCoverage };
  }

  async mutantRun(options: MutantRunOptions): Promise<object> {
    const { activeMutant, testFilter, hitLimit, mutantActivation } = options;
    const shared = instrumentation();
    shared.hitLimit = hitLimit;
    shared.hitCount = hitLimit === undefined ? undefined : 0;
    try {
      shared.activeMutant = mutantActivation === 'static' ? activeMutant.id : undefined;
      await this.#load();
    } catch (error) {
      return { status: 'error', errorMessage: String(error) };
    }
    shared.activeMutant = activeMutant.id;
    this.#mocha.grep(testFilter === undefined ? /^/ : exactly(testFilter));
    const tests = await this.#run(true);
    shared.activeMutant = undefined;
    if (hitLimit !== undefined && (shared.hitCount ?? 0) > hitLimit) {
      return { status: 'timeout', reason: `hit more than ${hitLimit} times` };
    }
    const [failed] = tests.filter((test) => test.status === 1);
    return failed === undefined
      ? { status: 'survived', nrOfTests: tests.length }
      : {
          status: 'killed',
          killedBy: [failed.id],
          failureMessage: failed.failureMessage,
          nrOfTests: tests.length,
        };
  }

  dispose(): void {
    this.#mocha.dispose();
  }

  async #load(): Promise<void> {
    if (this.#isLoaded) return;
    await this.#mocha.loadFilesAsync();
    this.#isLoaded = true;
  }

  #run(bail: boolean): Promise<readonly TestRun[]> {
    setBail(this.#mocha.suite, bail);
    const tests: TestRun[] = [];
    return new Promise((resolve) => {
      const run = this.#mocha.run(() => {
        resolve(tests);
      });
      run.on('pass', (test) => {
        tests.push(resultOf(test.fullTitle(), test.duration ?? 0, null));
      });
      run.on('fail', (test, error) => {
        tests.push(resultOf(test.fullTitle(), 0, String(error)));
      });
    });
  }
}

function resultOf(id: string, timeSpentMs: number, failure: string | null): TestRun {
  return {
    ...{ id, name: id, timeSpentMs },
    ...{ status: failure === null ? 0 : 1, failureMessage: failure ?? '' },
  };
}

function instrumentation(): Instrumentation {
  const known: unknown = Reflect.get(globalThis, namespace);
  if (isInstrumentation(known)) return known;
  const fresh: Instrumentation = {};
  Reflect.set(globalThis, namespace, fresh);
  return fresh;
}

/** Only the two of us write there. */
function isInstrumentation(value: unknown): value is Instrumentation {
  return typeof value === 'object' && value !== null;
}

function setBail(suite: Mocha.Suite, bail: boolean): void {
  suite.bail(bail);
  for (const child of suite.suites) setBail(child, bail);
}

function exactly(titles: readonly string[]): RegExp {
  const escaped = titles.map((title) => title.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`));
  return new RegExp(`^(${escaped.join('|')})$`);
}

export const strykerPlugins = [
  { kind: 'TestRunner', name: 'billing', injectableClass: BillingRunner },
];
