// Short messages over the page, and what is spoken to those who do not see it.

export interface Toast {
  id: number;
  kind: "note" | "error";
  title: string;
  text: string | null;
  /** For a report. */
  details: string | null;
}

const SHOWN_MS = 6000;

class Toasts {
  shown = $state<Toast[]>([]);
  /** Spoken once, at the next quiet moment. */
  spoken = $state("");
  #next = 1;

  /** A note goes by itself; an error stays until it is dismissed. */
  show(toast: {
    kind?: Toast["kind"];
    title: string;
    text?: string | null;
    details?: string | null;
  }): void {
    const id = this.#next++;
    const kind = toast.kind ?? "note";
    const text = toast.text ?? null;
    const details = toast.details ?? null;
    const same = (other: Toast) => other.title === toast.title && other.text === text;
    this.shown = [
      ...this.shown.filter((other) => !same(other)),
      { ...toast, id, kind, text, details },
    ];
    if (kind === "note") setTimeout(() => this.dismiss(id), SHOWN_MS);
  }

  dismiss(id: number): void {
    this.shown = this.shown.filter((toast) => toast.id !== id);
  }

  speak(sentence: string): void {
    this.spoken = sentence;
  }
}

export const toasts = new Toasts();
