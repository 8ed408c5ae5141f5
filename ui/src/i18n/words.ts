// The shape of the texts.

/** A text for one and one for many; some languages need more. */
export type Plural = Partial<Record<Intl.LDMLPluralRule, string>> & { other: string };

/** What another language must have: exactly the same keys, plural where plural is needed. */
export type Same<English> = {
  readonly [Key in keyof English]: English[Key] extends string ? string : Plural;
};

/** The names in braces of a text. */
export type Names<Text> = Text extends `${string}{${infer Name}}${infer Rest}`
  ? Name | Names<Rest>
  : never;

type Value = string | number;

/** A plural is chosen by `count`; the others are what is in the text's braces. */
export type Parameters<Text> = Text extends string
  ? Record<Names<Text>, Value>
  : Text extends Plural
    ? Record<Names<Text[keyof Text]> | "count", Value> & { count: number }
    : never;
