import { Fragment, type ReactNode } from "react";
import type { Text, Texts } from "../texts/texts.js";

/** A text with its gaps filled. `count` chooses the form of its plural. A gap that nothing fills shows its name. */
export function fill(texts: Texts, text: Text, gaps: Record<string, ReactNode>, count = 0): ReactNode[] {
  const form = typeof text === "string" ? text : (text[new Intl.PluralRules(texts.language).select(count)] ?? text.other);
  // Every second part is the name of a gap.
  return form.split(/\{(\w+)\}/).map((part, place) =>
    place % 2 === 0 ? part : <Fragment key={place}>{part in gaps ? gaps[part] : `{${part}}`}</Fragment>,
  );
}
