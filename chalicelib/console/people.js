// Finding a user: by id, by address, or from a list.

import { $, address, badge, button, day, empty, h, human, paged, select, trouble, waiting } from "./dom.js";
import { ask, get, userPath } from "./api.js";

const STATUSES = [["", "Any status"], ["active", "Active"], ["paused", "Paused"], ["cancelled", "Cancelled"]];
const TONES = { active: "good", paused: "soon", cancelled: "bad" };

export const statusBadge = (status) => badge(human(status), TONES[status]);
export const personHref = (userId) => `#/users/${encodeURIComponent(userId)}`;

let plans = null;
export async function planNames() {
  plans ??= get("api/plans").then((answer) => answer.plans, (error) => { plans = null; throw error; });
  return plans;
}

let filters = { plan: "", status: "", timezone: "" };

export function showPeople(may) {
  const search = h("input", { type: "search", name: "who", placeholder: may.lists ? "User id or email address" : "User id", autocomplete: "off", spellcheck: "false", "aria-label": "Find a user" });
  const said = h("div", {});
  const find = h("form", { class: "find", role: "search", onsubmit: (event) => { event.preventDefault(); look(search.value.trim(), said, may); } }, search, h("button", { class: "main" }, "Find"));
  const list = h("div", {});
  const page = h("section", {}, h("div", { class: "heading" }, h("h1", {}, "Users")), find, said, may.lists ? filterRow(list) : null, list);
  if (may.lists) fill(list);
  else list.append(empty("Type a user id", "Your scopes show one user at a time."));
  return page;
}

async function look(who, said, may) {
  said.replaceChildren(...(who ? [waiting(1)] : []));
  if (!who) return;
  try {
    if (may.lists && who.includes("@")) {
      const { subscriptions } = await get("api/subscriptions", { email: who });
      if (!said.isConnected) return; // the person has gone on to another page
      if (subscriptions.length === 1) { location.hash = personHref(subscriptions[0].user_id); return; }
      if (subscriptions.length) { said.replaceChildren(h("p", {}, `${subscriptions.length} users have this address:`), table(subscriptions.map(row))); return; }
      // A user id may look like an address.
    }
    await ask("GET", userPath(who));
    if (said.isConnected) location.hash = personHref(who);
  } catch (error) {
    const words = error.status === 404 ? Object.assign(new Error(`Nobody has the ${who.includes("@") ? "address" : "id"} ${who}. Ids tell capitals from small letters.`), { title: "Nobody found" }) : error;
    said.replaceChildren(trouble(words));
  }
}

function filterRow(list) {
  const plan = select("plan", [["", "Any plan"]], filters.plan, { "aria-label": "Plan" });
  planNames().then((found) => { plan.append(...found.map((each) => h("option", { value: each.id }, each.name))); plan.value = filters.plan; }, () => {});
  const status = select("status", STATUSES, filters.status, { "aria-label": "Status" });
  const zones = h("datalist", { id: "zones" }, (Intl.supportedValuesOf?.("timeZone") ?? []).map((zone) => h("option", { value: zone })));
  const timezone = h("input", { name: "timezone", list: "zones", placeholder: "Any timezone", "aria-label": "Timezone", value: filters.timezone, autocomplete: "off" });
  const change = () => {
    filters = { plan: plan.value, status: status.value, timezone: timezone.value.trim() };
    clear.hidden = !Object.values(filters).some(Boolean);
    fill(list);
  };
  const clear = button("Clear", () => { plan.value = status.value = timezone.value = ""; change(); plan.focus(); }, { class: "quiet" });
  clear.hidden = !Object.values(filters).some(Boolean);
  return h("div", { class: "filters", onchange: change }, plan, status, timezone, zones, clear);
}

function row(person) {
  return h(
    "tr",
    {},
    h("td", { class: "first" }, h("a", { href: personHref(person.user_id) }, person.email ? address(person.email) : person.user_id), person.email ? h("small", {}, person.user_id) : null),
    h("td", { class: "plan" }, human(person.plan), h("small", {}, person.billing_interval)),
    h("td", { class: "status" }, statusBadge(person.status)),
    h("td", { class: "zone" }, person.timezone),
    h("td", { class: "end since" }, h("span", { class: "muted" }, day(person.started_at, person.timezone))),
  );
}

function table(rows) {
  return h(
    "div",
    { class: "card flush" },
    h("table", { class: "list people" }, h("thead", {}, h("tr", {}, ["User", "Plan", "Status", "Timezone"].map((name) => h("th", { scope: "col" }, name)), h("th", { scope: "col", class: "end" }, "Since"))), h("tbody", {}, rows)),
  );
}

function fill(list) {
  const found = table([]);
  const load = async (cursor) => {
    const answer = await get("api/subscriptions", { ...filters, limit: 25, cursor });
    return { rows: answer.subscriptions.map(row), next: answer.next_cursor };
  };
  const more = paged($("tbody", found), load, { none: empty("Nobody is like this", "Change or clear the filters."), label: "users" });
  list.replaceChildren(found, more);
}
