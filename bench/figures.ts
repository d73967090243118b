/** The value below which the share `part` (0 to 1) of the numbers lies. Throws RangeError when there are none. */
export function quantile(numbers: readonly number[], part: number): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  const found = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))];
  if (found === undefined) throw new RangeError('no figures');
  return found;
}

export function median(numbers: readonly number[]): number {
  return quantile(numbers, 0.5);
}
