import type { SearchAttributePair } from '@temporalio/common';
import { upsertSearchAttributes, workflowInfo } from '@temporalio/workflow';

import { attributePairs, type Attributes } from './search-attributes.ts';

/**
 * Sends only what changes, also against what the workflow was started with: each upsert is an event and costs an action.
 * Call it before anything is written.
 */
export function attributeWriter(): (attributes: Attributes) => void {
  const written = new Map(
    workflowInfo()
      .typedSearchAttributes.getAll()
      .map((pair) => [pair.key.name, textOf(pair.value)]),
  );
  return (attributes) => {
    const changed = attributePairs(attributes).filter(
      ({ key, value }) => (written.get(key.name) ?? NOTHING) !== textOf(value),
    );
    for (const { key, value } of changed) written.set(key.name, textOf(value));
    if (changed.length > 0) upsertSearchAttributes(changed);
  };
}

/** An attribute that is not there is one that was taken away. */
const NOTHING = 'null';

function textOf(value: SearchAttributePair['value'] | null): string {
  return JSON.stringify(value);
}
