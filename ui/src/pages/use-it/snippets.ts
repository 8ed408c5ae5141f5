// What a person pastes into a program to ask the network.

export const EXAMPLES = ["curl", "python", "javascript", "editor"] as const;
export type Example = (typeof EXAMPLES)[number];

/** Stands where no key is known: it is shown once, when it is made. */
export const NO_KEY = "YOUR_KEY";
/** What the certificate is saved as. */
export const CERTIFICATE = "infera.pem";

export interface Asking {
  /** With `/v1`. */
  address: string;
  model: string;
  /** Null where none was made on this page. */
  key: string | null;
  /** The network has a certificate that programs do not know. */
  pinned: boolean;
}

export function snippet(example: Example, { address, model, key, pinned }: Asking): string {
  const secret = key ?? NO_KEY;
  const question = "Why is the sky blue?";
  switch (example) {
    case "curl":
      return [
        `curl ${address}/chat/completions \\`,
        ...(pinned ? [`  --cacert ${CERTIFICATE} \\`] : []),
        `  --header "Authorization: Bearer ${secret}" \\`,
        `  --json '${JSON.stringify({ model, messages: [{ role: "user", content: question }] })}'`,
      ].join("\n");
    case "python":
      return [
        ...(pinned ? ["import ssl"] : []),
        `from openai import ${pinned ? "DefaultHttpxClient, " : ""}OpenAI`,
        "",
        "client = OpenAI(",
        `    base_url="${address}",`,
        `    api_key="${secret}",`,
        ...(pinned
          ? [
              "    http_client=DefaultHttpxClient(",
              `        verify=ssl.create_default_context(cafile="${CERTIFICATE}"),`,
              "    ),",
            ]
          : []),
        ")",
        "answer = client.chat.completions.create(",
        `    model="${model}",`,
        `    messages=[{"role": "user", "content": "${question}"}],`,
        ")",
        "print(answer.choices[0].message.content)",
      ].join("\n");
    case "javascript":
      return [
        ...(pinned ? [`// NODE_EXTRA_CA_CERTS=${CERTIFICATE} node ask.mjs`] : ["// node ask.mjs"]),
        'import OpenAI from "openai";',
        "",
        "const client = new OpenAI({",
        `  baseURL: "${address}",`,
        `  apiKey: "${secret}",`,
        "});",
        "const answer = await client.chat.completions.create({",
        `  model: "${model}",`,
        `  messages: [{ role: "user", content: "${question}" }],`,
        "});",
        "console.log(answer.choices[0].message.content);",
      ].join("\n");
    case "editor":
      return [
        "name: Infera",
        "version: 1.0.0",
        "schema: v1",
        "models:",
        `  - name: ${model}`,
        "    provider: openai",
        `    model: ${model}`,
        `    apiBase: ${address}`,
        `    apiKey: ${secret}`,
        ...(pinned ? ["    requestOptions:", `      caBundlePath: ${CERTIFICATE}`] : []),
      ].join("\n");
  }
}

/** What a balancer takes as a key's name. */
export function isKeyName(text: string): boolean {
  return /^[A-Za-z0-9_.@-]{1,64}$/.test(text);
}

/** Points as they are typed, as micro-points: null for none, undefined for what is no number. */
export function microPoints(text: string): number | null | undefined {
  const typed = text.trim().replace(",", ".");
  if (typed === "") return null;
  if (!/^\d{1,9}(\.\d{1,6})?$/.test(typed)) return undefined;
  return Math.round(Number(typed) * 1e6);
}
