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

class Route {
  page = $state<Page>("home");
  /** What follows the page in the address: `#/jobs/abc` has `["abc"]`. */
  rest = $state.raw<string[]>([]);

  /** Returns what stops it. */
  run(): () => void {
    const read = () => {
      const [page = "", ...rest] = location.hash.replace(/^#\/?/, "").split("/");
      this.page = (PAGES as readonly string[]).includes(page) ? (page as Page) : "home";
      this.rest = rest.filter(Boolean).map(decodeURIComponent);
    };
    read();
    addEventListener("hashchange", read);
    return () => removeEventListener("hashchange", read);
  }
}

export const route = new Route();

/** For links: `href={address("jobs", id)}`. */
export function address(page: Page, ...rest: string[]): string {
  return ["#", page, ...rest.map(encodeURIComponent)].join("/");
}

export function go(page: Page, ...rest: string[]): void {
  location.hash = address(page, ...rest);
}
