// Which rows of a long list stand in the document.

/** From `first` to before `last`. */
export interface Range {
  first: number;
  last: number;
}

/** A row of the list, or the room that so many rows take. */
export type Piece = { row: number } | { gap: number };

/** What is in sight, and `spare` rows before and after. Lengths in pixels. */
export function windowed(
  scrolled: number,
  height: number,
  rowHeight: number,
  count: number,
  spare: number,
): Range {
  const first = Math.min(count, Math.max(0, Math.floor(scrolled / rowHeight) - spare));
  const last = Math.min(count, Math.ceil((scrolled + height) / rowHeight) + spare);
  return { first, last: Math.max(first, last) };
}

/**
 * The rows of the window with the room around them. The one row `kept` stays in the document
 * outside of the window too, so that it keeps the focus.
 */
export function pieces(range: Range, kept: number, count: number): Piece[] {
  const rows = Array.from({ length: range.last - range.first }, (_, index) => range.first + index);
  if (kept >= 0 && kept < Math.min(range.first, count)) rows.unshift(kept);
  if (kept >= range.last && kept < count) rows.push(kept);
  const found: Piece[] = [];
  let next = 0;
  for (const row of rows) {
    if (row > next) found.push({ gap: row - next });
    found.push({ row });
    next = row + 1;
  }
  if (count > next) found.push({ gap: count - next });
  return found;
}

/** How far to scroll so that a row is in sight: as little as possible. */
export function scrollTo(row: number, scrolled: number, height: number, rowHeight: number): number {
  const top = row * rowHeight;
  return Math.max(0, Math.min(top, Math.max(scrolled, top + rowHeight - height)));
}

/** The part to ask for so that a range has no hole; null if it has none. */
export function missing(
  range: Range,
  has: (index: number) => boolean,
  size: number,
): { offset: number; limit: number } | null {
  for (let index = range.first; index < range.last; index += 1) {
    if (!has(index)) return { offset: Math.floor(index / size) * size, limit: size };
  }
  return null;
}
