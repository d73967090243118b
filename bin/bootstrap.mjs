// The first thing that runs in a fresh clone: on any Node from 20 on, with built-ins only. It
// installs the dependencies when they are missing or do not fit the lock file, then hands over to
// the Node 24 among them, which runs TypeScript as it is.
//
//   node bin/bootstrap.mjs <command> [arguments…]
//
// An import below needs nothing but Node itself; keep it so.
import { spawn, spawnSync } from 'node:child_process';
import {
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const NODE_MAJOR_MIN = 20;
const folder = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const modules = join(folder, 'node_modules');

/** Command → the program that does it. */
const programs = {
  start: ['bin/up.ts'],
  test: ['bin/test.ts'],
  demo: ['bin/demo.ts'],
  traffic: ['bin/traffic.ts'],
  reset: ['bin/reset.ts'],
  doctor: ['bin/doctor.ts'],
  bench: ['bench/index.ts'],
  check: ['bin/check.ts'],
  fix: ['bin/check.ts', '--fix'],
  setup: ['bin/prepare.ts'],
  migrate: ['bin/migrate.ts'],
  seed: ['bin/seed.ts'],
  invariants: ['bin/invariants.ts'],
  cases: ['bin/cases.ts'],
};

const [command = '', ...rest] = process.argv.slice(2);
const program = Object.hasOwn(programs, command) ? programs[command] : undefined;
if (program === undefined) {
  fail(`Usage: node bin/bootstrap.mjs <command>; commands: ${Object.keys(programs).join(', ')}`);
}
if (Number(process.versions.node.split('.')[0]) < NODE_MAJOR_MIN) {
  fail(
    `Tollbook needs Node ${NODE_MAJOR_MIN} or later to set itself up; this is ${process.version}.\n` +
      '  Install a current one from https://nodejs.org or with your version manager.',
  );
}
const reason = whyInstall();
if (reason !== null && command === 'doctor') {
  fail(
    `✗ Dependencies    ${reason}\n  Run: npm run setup   (npm start and npm test do it by themselves), then again: npm run doctor`,
  );
}
if (reason !== null) await installOnce(reason);
handOver([...program, ...rest]);

/** What is wrong with node_modules in words, or null. */
function whyInstall() {
  const installed = readJson(join(modules, '.package-lock.json'));
  if (installed === null) return 'not installed yet';
  const wanted = readJson(join(folder, 'package-lock.json'));
  if (wanted === null) fail('package-lock.json is missing: is this a whole checkout?');
  for (const [path, { version, optional }] of Object.entries(wanted.packages)) {
    if (path === '') continue;
    const there = installed.packages[path];
    // Packages of other platforms are optional and not there.
    if (there === undefined ? optional !== true : there.version !== version) {
      return `${path.replace('node_modules/', '')} is not at ${version}`;
    }
  }
  return existsSync(nodeFile()) ? null : 'Node 24 is missing among them';
}

function nodeFile() {
  return join(modules, 'node', 'bin', process.platform === 'win32' ? 'node.exe' : 'node');
}

function readJson(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return null;
  }
}

/** Two set-ups of one checkout at once: the second waits and then finds everything done. */
async function installOnce(why) {
  const release = await lock(join(cacheFolder(), `npm-${slug(folder)}.lock`));
  try {
    if (whyInstall() !== null) await install(why);
  } finally {
    release();
  }
  const still = whyInstall();
  if (still !== null)
    fail(`npm install ended well, and yet: ${still}.\n  Remove node_modules and try again.`);
}

async function install(why) {
  say(`• Installing dependencies with npm (${why}; a minute or two, about 300 MB) …`);
  const startedAt = Date.now();
  const seconds = () => Math.round((Date.now() - startedAt) / 1000);
  const ticker = setInterval(() => {
    say(`  … still at it after ${seconds()} s: npm install`);
  }, 10_000);
  const output = [];
  // Under npm itself the variables of the outer run would reach into the inner one.
  const environment = Object.fromEntries(
    Object.entries(process.env).filter(
      ([name]) => !/^npm_(lifecycle|package|command|config_(?:local_)?prefix)/.test(name),
    ),
  );
  const code = await new Promise((done) => {
    // Not `npm ci`: it refuses a lock file that lacks the binaries of other platforms, which is what
    // npm itself writes where the registry does not offer them. This installs what the lock says
    // and leaves the lock alone.
    const npm = spawn('npm', ['install', '--no-save', '--no-audit', '--no-fund', '--include=dev'], {
      cwd: folder,
      env: environment,
      stdio: ['ignore', 'pipe', 'pipe'],
      shell: process.platform === 'win32',
    });
    npm.stdout.on('data', (chunk) => output.push(chunk.toString()));
    npm.stderr.on('data', (chunk) => output.push(chunk.toString()));
    npm.once('error', (error) => {
      output.push(String(error));
      done(1);
    });
    npm.once('close', done);
  });
  clearInterval(ticker);
  if (code !== 0) {
    const tail = output.join('').trimEnd().split('\n').slice(-15).join('\n');
    fail(
      `npm install failed:\n${tail}\n\n  Mend it and run the command again; nothing else was done.`,
    );
  }
  say(`  done in ${seconds()} s`);
}

function cacheFolder() {
  if (process.env.TOLLBOOK_CACHE) return resolve(process.env.TOLLBOOK_CACHE);
  if (process.env.XDG_CACHE_HOME) return join(process.env.XDG_CACHE_HOME, 'tollbook');
  return join(homedir(), '.cache', 'tollbook');
}

function slug(path) {
  return path.replace(/[^A-Za-z0-9]+/g, '-').slice(-80);
}

/**
 * The same lock as bin/setup/lock.ts, in the words of this file: a hard link to a file that names
 * its holder, taken over when the holder is dead.
 */
async function lock(file) {
  mkdirSync(dirname(file), { recursive: true });
  const draft = `${file}.${process.pid}`;
  const mine = { pid: process.pid, startedAt: processStart(process.pid) ?? 'unknown' };
  let hasSaid = false;
  for (;;) {
    writeFileSync(draft, JSON.stringify(mine));
    try {
      linkSync(draft, file);
      return () => rmSync(file, { force: true });
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    } finally {
      rmSync(draft, { force: true });
    }
    const holder = liveHolder(file);
    if (holder === null) {
      removeStale(file);
      continue;
    }
    if (!hasSaid) say(`• Waiting for another set-up (pid ${holder.pid}) to finish …`);
    hasSaid = true;
    await new Promise((done) => setTimeout(done, 500));
  }
}

function liveHolder(file) {
  const holder = readJson(file);
  return holder !== null && processStart(holder.pid) === holder.startedAt ? holder : null;
}

/** Looked at again after the rename: another process may have taken the lock since, and gets it back. */
function removeStale(file) {
  const aside = `${file}.stale.${process.pid}`;
  try {
    renameSync(file, aside);
    if (liveHolder(aside) !== null) linkSync(aside, file);
  } catch {
    // Gone, or taken by a third one: the caller looks again.
  }
  rmSync(aside, { force: true });
}

/** When the process started, as exactly as the system tells it; null when there is no such process. */
function processStart(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null;
  } catch {
    if (process.platform === 'linux') return null;
  }
  const environment = { ...process.env, LC_ALL: 'C' };
  const shown = spawnSync('ps', ['-o', 'lstart=', '-p', String(pid)], {
    encoding: 'utf8',
    env: environment,
  });
  return shown.status === 0 && shown.stdout.trim() !== '' ? shown.stdout.trim() : null;
}

/** Runs the program and becomes its shadow: signals go on to it, and its end is ours. */
function handOver(words) {
  const path = [join(modules, '.bin'), process.env.PATH ?? ''].join(
    process.platform === 'win32' ? ';' : ':',
  );
  const child = spawn(nodeFile(), words, {
    cwd: folder,
    stdio: 'inherit',
    env: { ...process.env, PATH: path, TOLLBOOK_BOOTSTRAPPED: '1' },
  });
  // A terminal sends Ctrl-C to the whole group, so the child has it already and must not get it
  // twice; without a terminal it comes from one process only.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => {
      if (signal === 'SIGINT' && process.stdin.isTTY) return;
      child.kill(signal);
    });
  }
  // npm told to end takes its shell with it and leaves us: then nobody waits for us any more.
  const parent = process.ppid;
  if (process.env.npm_lifecycle_event !== undefined) {
    const watch = setInterval(() => {
      if (process.ppid === parent) return;
      clearInterval(watch);
      child.kill('SIGTERM');
    }, 500);
  }
  child.once('error', (error) => fail(`${nodeFile()} could not be started: ${error.message}`));
  child.once('exit', (code, signal) => {
    process.exit(signal === null ? (code ?? 1) : 128 + 15);
  });
}

function say(line) {
  process.stderr.write(`${line}\n`);
}

function fail(message) {
  say(message);
  process.exit(1);
}
