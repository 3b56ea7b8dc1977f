// Behind the scenes: the clock, the turn of the month, queues, emails, events, requests.

import { $, card, clock, empty, field, h, moment, number, place, select, waiting } from "./dom.js";
import { ask } from "./api.js";
import { planNames, personHref } from "./people.js";
import { showEvents } from "./events.js";
import { attempt, customerHref, failure, follow, form, here, local, moveClock, moving, people, readPeople, tell } from "./local.js";
import { showOutbox } from "./outbox.js";
import { showRequests } from "./requests.js";
import { turnCard } from "./turn.js";

const MOVES = [["Next midnight", "next midnight"], ["Next 1st", "next 1st"], ["+30 days", "+30 days"]];

// The address of a page of the Lab. It keeps the user of the tabs.
function href(page = "", more = {}) {
  const query = new URLSearchParams({ ...(here.chosen ? { user: here.chosen } : {}), ...more });
  return `#/lab${page && `/${page}`}${query.size ? `?${query}` : ""}`;
}

const route = (page, name, show) => [new RegExp(`^#/lab${page && `/${page}`}(?:\\?(.*))?$`), name, (_, query) => show(new URLSearchParams(query ?? ""))];

export const lab = {
  name: "Lab",
  start: () => href(),
  pages: () => [[href(), "Clock"], [href("outbox"), "Outbox"], [href("events"), "Events"], [href("requests"), "Requests"]],
  routes: [route("", "Clock", showClock), route("outbox", "Outbox", showOutbox), route("events", "Events", showEvents), route("requests", "Requests", showRequests)],
};

function showClock(query) {
  const keep = (month) => history.replaceState(null, "", href("", month ? { month } : {}));
  const turn = turnCard(query.get("month")?.match(/^\d{4}-(0[1-9]|1[0-2])$/)?.[0] ?? null, keep);
  return h(
    "section",
    {},
    h("div", { class: "heading" }, h("div", {}, h("h1", {}, "The clock"), h("p", { class: "muted" }, "It can run ahead of this machine's, moves forward only, and everything in the stack follows it."))),
    clockCard(turn),
    turn.element,
    h("div", { class: "columns even" }, queues(), subscribing()),
    h("datalist", { id: "zones" }, people.zones.map((zone) => h("option", { value: zone }))),
  );
}

// --- The clock -----------------------------------------------------------------------------------

function clockCard(turn) {
  const time = h("strong", { id: "time" });
  const where = h("p", { class: "muted" });
  const zone = h("input", { name: "timezone", list: "zones", value: here.zone, autocomplete: "off", spellcheck: "false", required: true });
  const to = h("input", { name: "to", placeholder: "+3 days, or 2027-03-14T07:00:00Z", autocomplete: "off", spellcheck: "false", required: true });
  const go = async (target) => {
    turn.follow();
    await moveClock(target, zone.value);
    disable();
    return "The clock is moving …";
  };
  const free = form("Move", field("Or to", to), ({ to: target }) => go(target), { class: "free" });
  const line = $(".told", free);
  const buttons = MOVES.map(([words, target]) => h("button", { type: "button", "data-move": target, onclick: () => attempt(line, () => go(target)) }, words));
  const disable = () => { for (const each of [...buttons, $("button", free)]) each.disabled = Boolean(moving); };
  const made = card("Now", h("div", { class: "columns even" },
    h("div", {}, h("p", {}, time), where, field("As seen in", zone)),
    h("div", {}, h("div", { class: "field" }, h("span", { id: "moves" }, "Move it to"), h("div", { class: "buttons start", role: "group", "aria-labelledby": "moves" }, buttons)), free)));
  const second = () => {
    const now = clock.now();
    const seen = people.zones.includes(zone.value) ? zone.value : "UTC";
    time.textContent = moment(new Date(now).toISOString(), seen);
    where.textContent = `${seen === "UTC" ? "" : `in ${place(seen, now)} · `}${new Date(now).toISOString().slice(11, 19)} UTC`;
    disable();
  };
  follow(made, {
    second,
    news: ({ hasArrived }) => {
      second();
      if (failure) tell(line, `${failure}. Move it again: it goes on from here.`, "bad");
      else if (hasArrived) tell(line, `The clock stands at ${time.textContent} in ${place(zone.value)}.`);
    },
  });
  return made;
}

// --- Queues --------------------------------------------------------------------------------------

function queues() {
  const body = h("tbody", { id: "queues" });
  const count = (value) => (value === null ? "–" : number(value));
  const pending = waiting(5);
  const fill = async () => {
    const { queues: found } = await local("/local/queues");
    pending.remove();
    body.replaceChildren(...found.map(({ name, waiting, dead }) =>
      h("tr", {}, h("td", { class: "first" }, name), h("td", { class: `end ${waiting ? "up" : ""}`, "data-label": "Waiting" }, count(waiting)), h("td", { class: `end ${dead ? "bad" : ""}`, "data-label": "Dead letters" }, count(dead)))));
  };
  const made = card("Queues", h("table", { class: "list" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Queue"), h("th", { scope: "col", class: "end" }, "Waiting"), h("th", { scope: "col", class: "end" }, "Dead letters"))), body), pending);
  follow(made, { news: fill });
  return made;
}

// --- A new user ----------------------------------------------------------------------------------

function subscribing() {
  const plan = select("plan", [], "", { required: true });
  planNames().then((found) => plan.append(...found.map((each) => h("option", { value: each.id }, each.name))), () => {});
  const fields = [
    h("div", { class: "two" }, field("User id", h("input", { name: "user_id", required: true, autocomplete: "off", spellcheck: "false" })), field("Plan", plan)),
    field("Email", h("input", { name: "email", type: "email", value: "ada@example.com", required: true, autocomplete: "off" })),
    field("Timezone", h("input", { name: "timezone", list: "zones", value: "Europe/Paris", required: true, autocomplete: "off", spellcheck: "false" })),
  ];
  return card("Subscribe somebody new", form("Subscribe", fields, async ({ user_id, ...values }) => {
    const body = { ...values, billing_interval: "yearly", status: "active", started_at: new Date(clock.now()).toISOString() };
    try {
      await ask("PUT", `api/subscriptions/${encodeURIComponent(user_id)}`, { body, isNew: true });
    } catch (error) {
      if (error.status !== 412) throw error;
      throw Object.assign(error, { title: "Nothing was changed", message: `There is a user ${user_id} already: edit them in Support.` });
    }
    await readPeople();
    return [`${user_id} has subscribed. See them as `, h("a", { href: customerHref(user_id) }, "Customer"), " or in ", h("a", { href: personHref(user_id) }, "Support"), "."];
  }, { id: "subscribe" }));
}
