// Where the marks of an upright axis stand.

/** Both ends and the middle; without the middle where two of them would read the same. */
export function marks(low: number, high: number, format: (value: number) => string): number[] {
  const all = [low, (low + high) / 2, high];
  const distinct = (values: number[]) => new Set(values.map(format)).size === values.length;
  return [all, [low, high]].find(distinct) ?? [low];
}
