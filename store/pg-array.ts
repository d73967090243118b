/**
 * Array literals for `?::text[]` and its kin. What a drain's batch adds up to goes over in arrays of thousands of elements;
 * written here they are one string each, and the driver's own element by element escaping is left out.
 */
export function textArray(values: readonly (string | null)[]): string {
  return `{${values.map((value) => textElement(value)).join(',')}}`;
}

function textElement(value: string | null): string {
  if (value === null) return 'NULL';
  // Ids, flags and keys, which is nearly everything, need no escapes.
  return /["\\]/.test(value) ? `"${value.replaceAll(/["\\]/g, String.raw`\$&`)}"` : `"${value}"`;
}

/** For bigint[], smallint[] and the like. */
export function numberArray(values: readonly (bigint | number | null)[]): string {
  return `{${values.map((value) => value ?? 'NULL').join(',')}}`;
}
