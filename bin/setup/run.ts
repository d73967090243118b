import { spawn, spawnSync } from 'node:child_process';

/** The path of a program on PATH, or null. */
export function which(program: string): string | null {
  const found = spawnSync('sh', ['-c', 'command -v "$1"', 'sh', program], { encoding: 'utf8' });
  return found.status === 0 ? found.stdout.trim() : null;
}

export type RunOptions = {
  readonly cwd?: string;
  readonly environment?: NodeJS.ProcessEnv;
  readonly withinMs?: number;
};

const TAIL_CHARACTERS = 4000;

/**
 * Runs a command to its end; what it prints is kept for the error only.
 * Throws with the end of its output when it does not succeed.
 */
export function runCommand(
  file: string,
  commandArguments: readonly string[],
  options: RunOptions = {},
): Promise<void> {
  return new Promise((resolve, reject) => {
    let output = '';
    const child = spawn(file, [...commandArguments], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: options.environment ?? process.env,
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      ...(options.withinMs === undefined ? {} : { timeout: options.withinMs }),
    });
    const keep = (chunk: Buffer): void => {
      output = (output + chunk.toString('utf8')).slice(-TAIL_CHARACTERS);
    };
    // When this process is told to end, the command must not go on alone.
    const end = (): void => {
      child.kill('SIGKILL');
    };
    process.once('exit', end);
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    child.once('error', reject);
    child.once('close', (code, signal) => {
      process.off('exit', end);
      if (code === 0) {
        resolve();
        return;
      }
      const how = signal === null ? `exit code ${code}` : `signal ${signal}`;
      reject(new Error(`${[file, ...commandArguments].join(' ')} failed (${how}):\n${output}`));
    });
  });
}
