// The month: due against allocated, lateness, what is missing; and whether the machinery is well.

import { button, card, empty, h, number, trouble, waiting } from "./dom.js";

export function showMonth(period, may) {
  return h("section", {}, h("h1", {}, "Operations"), waiting());
}
