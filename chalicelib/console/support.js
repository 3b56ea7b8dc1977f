// What support staff find: users, and the state of the month and the machinery.

import { showMonth } from "./month.js";
import { showPeople } from "./people.js";
import { showPerson } from "./person.js";

const SCOPES = { admin: "credits:admin", backend: "credits:backend", billing: "credits:billing" };

// What a person with these scopes may do. The API decides; the page only hides what it would refuse.
function rights(scopes) {
  const has = (scope) => scopes.includes(SCOPES[scope]);
  const works = has("admin") || has("backend");
  return {
    others: works || has("billing"),
    lists: has("admin"),
    edits: has("admin"),
    support: has("admin"),
    grants: has("admin"),
    reverses: works,
    refunds: has("admin") || has("billing"),
    releases: works,
    subscribes: works || has("billing"),
    months: has("admin"),
  };
}

export const support = {
  name: "Support",
  start: (me) => (rights(me.scopes).others ? "#/users" : `#/users/${encodeURIComponent(me.user_id ?? "")}`),
  pages: (me) => {
    const may = rights(me.scopes);
    return [may.others ? ["#/users", "Users"] : null, may.months ? ["#/months", "Operations"] : null].filter(Boolean);
  },
  routes: [
    [/^#\/users$/, "Users", (me) => showPeople(rights(me.scopes))],
    [/^#\/users\/([^/?]+)(?:\/(history|emails|edits))?$/, "Users", (me, id, tab) => showPerson(decodeURIComponent(id), tab ?? "overview", rights(me.scopes))],
    [/^#\/months(?:\/(\d{4}-\d{2}))?$/, "Operations", (_, period) => showMonth(period)],
  ],
};
