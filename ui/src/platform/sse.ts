// Server-sent events, as the WHATWG's HTML standard describes the stream.

/** Takes the stream's text in any pieces, gives the data of each whole event. */
export class EventStreamParser {
  #rest = "";
  #data: string[] = [];

  push(piece: string): string[] {
    const events: string[] = [];
    this.#rest += piece;
    // A lone CR at the end may be half of a CRLF.
    const lines = this.#rest.split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line === "") {
        if (this.#data.length > 0) events.push(this.#data.join("\n"));
        this.#data = [];
      } else if (line.startsWith("data:")) {
        this.#data.push(line.slice(line.startsWith("data: ") ? 6 : 5));
      }
    }
    return events;
  }
}
