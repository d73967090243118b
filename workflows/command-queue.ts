import { ApplicationFailure, currentUpdateInfo } from '@temporalio/workflow';

/** So many answers of each kind are kept for repetitions; beyond them the rows themselves make a repetition harmless. */
const ANSWERS_MAX = 50;

/** An update that was answered, by its id: carried through continue-as-new, where the server forgets it. */
export type Answered<R> = { readonly id: string; readonly reply: R };

/** A command in line, with its caller waiting. */
export type Waiting<C, R> = {
  readonly command: C;
  readonly resolve: (result: R) => void;
  readonly reject: (error: Error) => void;
};

/**
 * Handlers put commands in line and wait; the workflow's main loop takes them out one by one. So two updates never
 * interleave with each other or with a rollover.
 */
export type CommandQueue<C, R> = {
  submit(command: C): Promise<R>;
  take(): Waiting<C, R> | undefined;
  isEmpty(): boolean;
};

export function commandQueue<C, R>(): CommandQueue<C, R> {
  const line: Waiting<C, R>[] = [];
  return {
    submit: (command) =>
      new Promise((resolve, reject) => {
        line.push({ command, resolve, reject });
      }),
    take: () => line.shift(),
    isEmpty: () => line.length === 0,
  };
}

/** Answers a repeated update of one kind with its first reply. `answered` is oldest first. */
export type AnswerBook<R> = {
  answer(make: () => Promise<R>): Promise<R>;
  all(): readonly Answered<R>[];
};

export function answerBook<R>(answered: readonly Answered<R>[]): AnswerBook<R> {
  const book = new Map(answered.map(({ id, reply }) => [id, reply]));
  return {
    answer: async (make) => {
      const id = currentUpdateInfo()?.id;
      if (id === undefined) throw ApplicationFailure.nonRetryable('not an update', 'no_update');
      const known = book.get(id);
      if (known !== undefined) return known;
      const reply = await make();
      book.set(id, reply);
      for (const oldest of book.keys()) {
        if (book.size <= ANSWERS_MAX) break;
        book.delete(oldest);
      }
      return reply;
    },
    all: () => [...book].map(([id, reply]) => ({ id, reply })),
  };
}
