import { decimalOf, grouped, plainText } from './decimal.ts';

/** The greatest quantity of one event and the greatest limit, in a meter's smallest unit; exact in a double. */
export const quantityMax = 999_999_999_999_999;

/** The only spelling of a quantity at every wall: no sign, no point, no exponent, no leading zero, at most 15 digits. */
export const quantityGrammar = /^(0|[1-9][0-9]{0,14})$/;

/** Null when the text is not a quantity. */
export function parseQuantity(text: string): number | null {
  return quantityGrammar.test(text) ? Number(text) : null;
}

/** Whether a value is an integer in 0 … `quantityMax`. */
export function isQuantity(value: unknown): value is number {
  return (
    typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 && value <= quantityMax
  );
}

/** A quantity of smallest units in whole units, grouped for people: (82450n, 0) → `82,450`, (4200n, 6) → `0.0042`. */
export function formatQuantity(quantity: bigint, scale: number): string {
  return grouped(plainText(decimalOf(quantity, scale)));
}

/** Quantity and unit: `82,450 calls`, `1 call`, `1.5 dollars`. */
export function formatUnits(
  quantity: bigint,
  unit: { readonly unit_one: string; readonly unit_other: string; readonly scale: number },
): string {
  const isOne = decimalOf(quantity, unit.scale).eq(1);
  return `${formatQuantity(quantity, unit.scale)} ${isOne ? unit.unit_one : unit.unit_other}`;
}
