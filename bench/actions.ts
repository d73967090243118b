/**
 * Billable actions, counted from histories as Temporal Cloud counts them: each start (a continue-as-new too; a child is
 * two: its parent asks, it starts), attempt of an activity, timer, signal sent, update, upsert of search attributes and recorded marker. Completions are free.
 */
import type { Client } from '@temporalio/client';

export type Actions = {
  readonly starts: number;
  readonly children: number;
  readonly activities: number;
  readonly timers: number;
  readonly signals: number;
  readonly updates: number;
  readonly attribute_upserts: number;
  readonly markers: number;
};

const none: Actions = {
  starts: 0,
  children: 0,
  activities: 0,
  timers: 0,
  signals: 0,
  updates: 0,
  attribute_upserts: 0,
  markers: 0,
};

/** Of all runs of the workflow, from the instant (epoch ms) on. */
export async function countActions(
  client: Client,
  workflowId: string,
  fromMs: number,
): Promise<Actions> {
  const runs: Actions[] = [];
  for await (const { runId } of client.workflow.list({ query: `WorkflowId = '${workflowId}'` })) {
    runs.push(await ofRun(client, { workflowId, runId, fromMs }));
  }
  return sumActions(runs, 1);
}

async function ofRun(
  client: Client,
  of: { readonly workflowId: string; readonly runId: string; readonly fromMs: number },
): Promise<Actions> {
  const history = await client.workflow.getHandle(of.workflowId, of.runId).fetchHistory();
  const counted: { -readonly [name in keyof Actions]: number } = { ...none };
  for (const event of history.events ?? []) {
    const atMs = Number(event.eventTime?.seconds ?? 0) * 1000 + (event.eventTime?.nanos ?? 0) / 1e6;
    if (atMs < of.fromMs) continue;
    if (event.workflowExecutionStartedEventAttributes) counted.starts += 1;
    // An activity is in the history once, however often it was tried.
    if (event.activityTaskStartedEventAttributes) {
      counted.activities += event.activityTaskStartedEventAttributes.attempt ?? 1;
    }
    if (event.startChildWorkflowExecutionInitiatedEventAttributes) counted.children += 1;
    if (event.timerStartedEventAttributes) counted.timers += 1;
    if (event.signalExternalWorkflowExecutionInitiatedEventAttributes) counted.signals += 1;
    if (event.workflowExecutionUpdateAcceptedEventAttributes) counted.updates += 1;
    if (event.upsertWorkflowSearchAttributesEventAttributes) counted.attribute_upserts += 1;
    if (event.markerRecordedEventAttributes) counted.markers += 1;
  }
  return counted;
}

/** The sum, times `factor`. */
export function sumActions(all: readonly Actions[], factor: number): Actions {
  const sum = (name: keyof Actions): number =>
    all.reduce((total, one) => total + one[name], 0) * factor;
  return {
    starts: sum('starts'),
    children: sum('children'),
    activities: sum('activities'),
    timers: sum('timers'),
    signals: sum('signals'),
    updates: sum('updates'),
    attribute_upserts: sum('attribute_upserts'),
    markers: sum('markers'),
  };
}

export function totalOf(actions: Actions): number {
  return Object.values(actions).reduce((sum, number) => sum + number, 0);
}
