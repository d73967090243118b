import { linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

/** Another live process writes to this journal: two gateways need two names, so that each has its own. */
export class JournalLocked extends Error {
  override readonly name = 'JournalLocked';
}

/**
 * Takes a journal folder for this process; one whose holder has died is taken over.
 * @returns a function that gives it back
 * @throws JournalLocked
 */
export function lockJournal(file: string): () => void {
  mkdirSync(dirname(file), { recursive: true });
  const draft = `${file}.${process.pid}`;
  writeFileSync(draft, `${process.pid} ${startOf(process.pid) ?? 'unknown'}`);
  try {
    for (let attempt = 0; attempt < 10; attempt += 1) {
      try {
        // A hard link to a finished file: it is there with its content, or not at all.
        linkSync(draft, file);
        return () => {
          rmSync(file, { force: true });
        };
      } catch (error) {
        if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
      }
      const holder = liveHolder(file);
      if (holder !== null) {
        throw new JournalLocked(
          `the journal ${dirname(file)} belongs to the running process ${holder}; give this gateway another GATEWAY_NAME or JOURNAL_DIR`,
        );
      }
      rmSync(file, { force: true });
    }
    throw new JournalLocked(`the lock ${file} could not be taken`);
  } finally {
    rmSync(draft, { force: true });
  }
}

function liveHolder(file: string): number | null {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    return null;
  }
  const [pidText = '', ...start] = text.split(' ');
  const pid = Number(pidText);
  if (!Number.isSafeInteger(pid) || pid <= 0) return null;
  try {
    process.kill(pid, 0);
  } catch (error) {
    // EPERM: it lives, under another user.
    if (!(error instanceof Error && 'code' in error && error.code === 'EPERM')) return null;
  }
  // Pids are given out again; in a container they even repeat. The start tells two processes of one pid apart.
  const startedAt = startOf(pid);
  return startedAt === null || startedAt === start.join(' ') ? pid : null;
}

/** The start of a process in clock ticks since boot, where the system tells (Linux); else null. */
function startOf(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null;
  } catch {
    return null;
  }
}
