// The events published since the console started: newest first, crossings marked.

import { badge, empty, h, moment, number, waiting } from "./dom.js";
import { follow, local } from "./local.js";
import { about } from "./outbox.js";
import { personHref } from "./people.js";

export function showEvents(query) {
  const who = query.get("of") ?? "";
  const area = h("div", { id: "events", class: "card" }, waiting(4));
  let shown = null;
  const fill = async () => {
    const { events } = await local(`/local/events${who ? `?user_id=${encodeURIComponent(who)}` : ""}`);
    const ids = JSON.stringify(events.map(({ id }) => id));
    if (ids === shown) return;
    shown = ids;
    area.replaceChildren(
      events.length
        ? h("ol", { class: "lines" }, events.map(lineOf))
        : h("div", {}, empty("No events since the console came up", null), h("p", { class: "more muted" }, "To send earlier ones again: ", h("code", {}, `make events USER_ID=${who || "…"} FROM=1`))),
    );
  };
  follow(area, { news: fill });
  return h(
    "section",
    {},
    h("div", { class: "heading" }, h("div", {}, h("h1", {}, "Events"), h("p", { class: "muted" }, "What was published on EventBridge, as your backend would get it."))),
    about(who, (of) => { location.hash = `#/lab/events${of ? `?${new URLSearchParams({ user: of, of })}` : ""}`; }),
    area,
  );
}

function lineOf({ name, is_crossing, threshold, user_id, number: entry, posted_at, hash, balance }) {
  const crossed = threshold === undefined ? "crossing" : `crossing of ${number(threshold)}`;
  return h(
    "li",
    {},
    h("span", { class: "what" }, h("code", {}, name), " ", is_crossing ? badge(crossed, "soon") : null, h("small", {}, h("a", { href: personHref(user_id) }, user_id), ` entry ${number(entry)} · ${moment(posted_at)} UTC · `, h("code", {}, hash))),
    h("span", { class: "much" }, h("strong", {}, number(balance)), h("small", {}, "available")),
  );
}
