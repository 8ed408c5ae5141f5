// How much of the screen there is.

/** A great screen that the system does not scale: more rows, and taller charts. */
export function roomy(): boolean {
  return matchMedia("(min-width: 1600px) and (min-height: 1300px)").matches;
}
