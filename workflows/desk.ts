import {
  ActivityFailure,
  ChildWorkflowFailure,
  condition,
  defineUpdate,
  isCancellation,
  setCurrentDetails,
  setHandler,
} from '@temporalio/workflow';

import { retryStep } from './contracts.ts';
import { attributeWriter } from './attribute-writer.ts';
import type { Attributes } from './search-attributes.ts';

/** A fault may mend itself (a server that was away for a day): it is tried again without being told, rarely. */
const RETRY_UNASKED = '1 hour';

/**
 * What an operator sees of a workflow, and how he helps it on: details as a checklist, search attributes, and a step
 * that failed for good waits for `retryStep` instead of failing the workflow.
 */
export type Desk = {
  /** Changes search attributes; what is so already costs nothing. */
  tag(attributes: Attributes): void;
  /** A line of the checklist; a line with the same name is replaced. */
  note(step: string, state: StepState, text?: string): void;
  /** The heading above the checklist: what this is about. */
  head(text: string): void;
  /** Runs a step until it succeeds. Rejects only when the workflow is canceled or the code itself is wrong. */
  attend<T>(step: string, work: () => Promise<T>): Promise<T>;
  /** Shows that a person is needed, without a fault. */
  ask(reason: string): void;
  settled(): void;
};
export type StepState = 'waits' | 'runs' | 'done' | 'failed';

const marks = { waits: '[ ]', runs: '[~]', done: '[x]', failed: '[!]' } as const;

/** Call it before the first await: it registers the handler of `retryStep`. */
export function openDesk(): Desk {
  const tag = attributeWriter();
  const lines = new Map<string, { readonly state: StepState; readonly text: string }>();
  let heading = '';
  let asked: string | null = null;
  let retries = 0;

  const show = (): void => {
    const list = [...lines].map(
      ([step, { state, text }]) => `- ${marks[state]} ${step}${text === '' ? '' : `: ${text}`}`,
    );
    const help =
      asked === null
        ? []
        : ['', `**Needs attention:** ${asked}`, `When it is mended: update \`${retryStep}\`.`];
    setCurrentDetails([heading, '', ...list, ...help].join('\n'));
  };
  const desk: Desk = {
    tag,
    head: (text) => {
      heading = text;
      show();
    },
    note: (step, state, text = '') => {
      lines.set(step, { state, text });
      show();
    },
    ask: (reason) => {
      asked = reason;
      tag({ NeedsAttention: true, AttentionReason: reason.slice(0, 200) });
      show();
    },
    settled: () => {
      if (asked === null) return;
      asked = null;
      tag({ NeedsAttention: false, AttentionReason: null });
      show();
    },
    attend: async (step, work) => {
      for (;;) {
        try {
          const result = await work();
          desk.settled();
          return result;
        } catch (error) {
          if (!isFault(error)) throw error;
          desk.note(step, 'failed', reasonOf(error));
          desk.ask(`${step}: ${reasonOf(error)}`);
          const before = retries;
          const isAsked = (): boolean => retries > before;
          await condition(isAsked, RETRY_UNASKED, { summary: `${step} is tried again` });
        }
      }
    },
  };
  setHandler(
    defineUpdate<string>(retryStep),
    () => {
      retries += 1;
      return asked ?? 'nothing waits';
    },
    { description: 'Tries the failed step again.' },
  );
  return desk;
}

function isFault(error: unknown): error is ActivityFailure | ChildWorkflowFailure {
  if (isCancellation(error)) return false;
  return error instanceof ActivityFailure || error instanceof ChildWorkflowFailure;
}

/** The innermost message: what really happened. */
export function reasonOf(error: Error): string {
  let inner = error;
  while (inner.cause instanceof Error) inner = inner.cause;
  return inner.message;
}

/** `2026-11-21 04:06:23Z`: instants for people, without the zone data that replay must not depend on. */
export function instantText(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19).replace('T', ' ')}Z`;
}
