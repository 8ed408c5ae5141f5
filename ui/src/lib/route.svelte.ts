// Which page is shown: the address after `#/`.

export const PAGES = [
  "home",
  "gpu",
  "requirements",
  "earnings",
  "jobs",
  "models",
  "try-it",
  "use-it",
  "fleet",
  "settings",
] as const;
export type Page = (typeof PAGES)[number];

export class Route<Name extends string> {
  page = $state() as Name;
  /** What follows the page in the address: `#/jobs/abc` has `["abc"]`. */
  rest = $state.raw<string[]>([]);

  /** The first page is shown where the address names none. */
  constructor(readonly pages: readonly [Name, ...Name[]]) {
    this.page = pages[0];
  }

  /** Returns what stops it. */
  run(): () => void {
    const read = () => {
      const [page = "", ...rest] = location.hash.replace(/^#\/?/, "").split("/");
      this.page = this.pages.find((known) => known === page) ?? this.pages[0];
      this.rest = rest.filter(Boolean).map(decodeURIComponent);
    };
    read();
    addEventListener("hashchange", read);
    return () => removeEventListener("hashchange", read);
  }
}

export const route = new Route<Page>(PAGES);

/** For links: `href={address("jobs", id)}`. */
export function address(page: Page, ...rest: string[]): string {
  return hashOf(page, rest);
}

export function hashOf(page: string, rest: string[]): string {
  return ["#", page, ...rest.map(encodeURIComponent)].join("/");
}

export function go(page: Page, ...rest: string[]): void {
  location.hash = address(page, ...rest);
}
