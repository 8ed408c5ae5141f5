// A button that copies a text, and says for a moment that it has.

const SHOWN_MS = 2000;

export class Copying {
  done = $state(false);

  async copy(text: string): Promise<void> {
    await navigator.clipboard.writeText(text);
    this.done = true;
    setTimeout(() => (this.done = false), SHOWN_MS);
  }
}
