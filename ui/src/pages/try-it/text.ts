// An answer's text in parts: what is code between fences, and the rest.

export interface Part {
  kind: "text" | "code";
  text: string;
}

const FENCE = /^[ \t]*```/;

/** A fence that is still open while the answer is written counts as code too. */
export function parts(answer: string): Part[] {
  const found: Part[] = [];
  let lines: string[] = [];
  let inCode = false;
  const close = () => {
    const text = lines.join("\n");
    const kept = inCode ? text : text.replace(/^\n+|\s+$/g, "");
    if (kept !== "") found.push({ kind: inCode ? "code" : "text", text: kept });
    lines = [];
  };
  for (const line of answer.split("\n")) {
    if (FENCE.test(line)) {
      close();
      inCode = !inCode;
    } else {
      lines.push(line);
    }
  }
  close();
  return found;
}

/** Of a line of text: what stands between single backticks is code. */
export function inline(text: string): Part[] {
  return text
    .split(/(`[^`\n]+`)/)
    .filter((piece) => piece !== "")
    .map((piece) =>
      piece.length > 2 && piece.startsWith("`") && piece.endsWith("`")
        ? { kind: "code", text: piece.slice(1, -1) }
        : { kind: "text", text: piece },
    );
}
