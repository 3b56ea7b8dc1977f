// The events of a user, as the bus delivered them: newest first, crossings marked.

import { count, find, make, moment } from "./page.js";

const MOST = 6;

/** Shows what `GET /local/events` answers. */
export function showEvents(events, zone) {
  find("#events-empty").hidden = events.length > 0;
  find("#events").replaceChildren(...events.slice(0, MOST).map((event) => drawn(event, zone)));
}

function drawn({ name, is_crossing, threshold, number, posted_at, hash, balance }, zone) {
  const crossed = threshold === undefined ? "crossing" : `crossing of ${count(threshold)}`;
  return make(
    "li",
    { className: is_crossing ? "crossing" : "" },
    make(
      "span", { className: "what" },
      make("code", {}, name), " ",
      is_crossing ? make("span", { className: "crossed" }, crossed) : null,
      make("small", {}, `entry ${count(number)} · ${moment(posted_at, zone)} · `, make("code", {}, hash)),
    ),
    make("span", { className: "much" }, count(balance), make("small", {}, "available")),
  );
}
