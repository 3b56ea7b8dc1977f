// The month: due against allocated per moment and zone, and who is missing; and the state of the
// machinery: ringing alarms, and messages that failed for good.

import { asking, badge, button, card, clock, empty, h, human, moment, number, trouble, waiting, when } from "./dom.js";
import { get } from "./api.js";
import { onChanged, openAction } from "./actions.js";
import { personHref } from "./people.js";

const nameOf = (period) => new Intl.DateTimeFormat("en-GB", { month: "long", year: "numeric", timeZone: "UTC" }).format(new Date(`${period}-01T12:00:00Z`));

/** The longest time that an allocation took: "40 s", "12 min", "3 h", "2 days". */
function lasting(seconds) {
  for (const [length, unit] of [[86400, "days"], [3600, "h"], [60, "min"]]) if (seconds >= 2 * length) return `${Math.floor(seconds / length)} ${unit}`;
  return `${seconds} s`;
}

function moved(period, months) {
  const [year, month] = period.split("-").map(Number);
  return new Date(Date.UTC(year, month - 1 + months, 15)).toISOString().slice(0, 7);
}

export function showMonth(asked) {
  const period = asked ?? new Date(clock.now()).toISOString().slice(0, 7);
  const month = h("div", {}, waiting(5));
  const machinery = h("div", {}, waiting(3));
  onChanged(() => fillMonth(month, period));
  fillMonth(month, period);
  fillMachinery(machinery);
  const go = (months, words, label) => h("a", { class: "step-link", href: `#/months/${moved(period, months)}`, "aria-label": label }, words);
  return h(
    "section",
    {},
    h(
      "div",
      { class: "heading" },
      h("h1", {}, nameOf(period)),
      h("div", { class: "buttons" }, go(-1, "←", "The month before"), go(1, "→", "The month after"), button("Run allocation", () => openAction({ name: "run", subject: { period } }), { class: "main" })),
    ),
    month,
    h("h2", { class: "apart" }, "Right now"),
    machinery,
  );
}

async function fillMonth(area, period) {
  const isNewest = asking(area);
  let found;
  try {
    found = await get(`api/months/${period}`);
    if (!isNewest()) return;
  } catch (error) {
    if (error.status === 401 || !isNewest()) return;
    area.replaceChildren(
      error.status === 404
        ? h("div", { class: "card" }, empty("This month has not been counted", "It is counted on the 2nd and the 9th at 13:30 UTC. To count now: make completeness."))
        : trouble(error, () => fillMonth(area, period)),
    );
    return;
  }
  const stat = (label, value, note, tone) => h("div", { class: `stat ${tone}` }, h("dt", {}, label), h("dd", {}, h("strong", {}, number(value)), h("small", {}, note)));
  const share = found.due ? `${(Math.floor((found.allocated / found.due) * 1000) / 10).toString()} %` : "nobody was due";
  area.replaceChildren(
    h(
      "dl",
      { class: "stats card" },
      stat("Due", found.due, `counted ${moment(found.counted_at)} UTC`, ""),
      stat("Allocated", found.allocated, found.allocated ? `${share}, within ${lasting(found.lateness_seconds)}` : share, ""),
      stat("Missing", found.missing, found.missing ? "run the allocation" : "nobody", found.missing ? "soon" : ""),
      stat("Twice, or not judged", found.duplicate + found.unchecked, found.duplicate + found.unchecked ? "see below" : "nobody", found.duplicate + found.unchecked ? "soon" : ""),
    ),
    ...who(found),
    instants(found),
  );
}

function who(found) {
  const lists = [["Missing", found.missing_users, found.missing], ["Allocated twice", found.duplicate_users, found.duplicate], ["Could not be judged", found.unchecked_users, found.unchecked]];
  return lists.filter(([, users]) => users.length).map(([words, users, all]) =>
    card(`${words}: ${number(all)}`, h("ul", { class: "who-list" }, users.map((user) => h("li", {}, h("a", { href: personHref(user) }, user)))), all > users.length ? h("p", { class: "muted" }, `The first ${users.length} are named.`) : null),
  );
}

function instants(found) {
  if (!found.instants.length) return h("div", { class: "card" }, empty("Nobody lives anywhere yet", "Zones with users are listed here."));
  const sum = (zones, name) => zones.reduce((all, zone) => all + zone[name], 0);
  const row = ({ starts_at, zones }) => {
    const due = sum(zones, "due");
    const done = sum(zones, "allocated");
    const bad = sum(zones, "missing") + sum(zones, "duplicate") + sum(zones, "unchecked");
    const names = zones.map((zone) => zone.timezone);
    const slowest = Math.max(...zones.map((zone) => zone.lateness_seconds));
    return h(
      "tr",
      {},
      h("td", { class: "when" }, starts_at ? when(starts_at, "UTC") : "Never"),
      h("td", { class: "what" }, h("span", { title: names.join(", ") }, names.slice(0, 2).join(", "), names.length > 2 ? h("span", { class: "muted" }, ` and ${names.length - 2} more`) : null)),
      h("td", { class: "share" }, h("div", { class: "track", "aria-hidden": "true" }, h("span", { class: `bar${bad ? " soon" : ""}`, style: { left: 0, right: `${due ? 100 - (done / due) * 100 : 0}%` } }))),
      h("td", { class: "end" }, `${number(done)} of ${number(due)}`),
      h("td", { class: "end", "data-label": "Within" }, done ? lasting(slowest) : "–"),
      h("td", { class: "end" }, bad ? badge(`${number(bad)} open`, "bad") : badge("All", "good")),
    );
  };
  return h(
    "div",
    { class: "card flush" },
    h("table", { class: "list months" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Began (UTC)"), h("th", { scope: "col" }, "Where"), h("th", { scope: "col" }, h("span", { class: "unseen" }, "Share")), h("th", { scope: "col", class: "end" }, "Allocated"), h("th", { scope: "col", class: "end" }, "Within"), h("th", { scope: "col", class: "end" }, "State"))), h("tbody", {}, found.instants.map(row))),
  );
}

async function fillMachinery(area) {
  let found;
  try {
    found = await get("api/operations");
  } catch (error) {
    if (error.status !== 401) area.replaceChildren(trouble(error, () => fillMachinery(area)));
    return;
  }
  const silent = found.shadow ? h("p", { class: "trouble" }, h("span", {}, h("strong", {}, "This stage is a shadow. "), "It runs beside an old system and sends nothing, neither emails nor events.")) : null;
  area.replaceChildren(...[silent].filter(Boolean), h("div", { class: "columns even" }, alarms(found.alarms), queues(found.queues, found.alarms ?? [])));
}

function alarms(ringing) {
  if (ringing === null) return card("Alarms", empty("CloudWatch did not answer at once", "Reload to ask again."));
  if (!ringing.length) return card("Alarms", empty("No alarm rings"));
  return card(
    `Alarms: ${ringing.length}`,
    h("ul", { class: "trail" }, ringing.map((alarm) =>
      h("li", {}, h("p", {}, badge(alarm.name, "bad"), h("small", {}, " since ", when(alarm.since, "UTC"), " UTC")), h("p", {}, alarm.meaning), h("p", {}, h("small", {}, "What to do: "), runbook(alarm.runbook))),
    )),
  );
}

// A section of the runbook: a link if the stack knows its address. Tokens are only in memory, so it
// opens in another tab.
const runbook = (place) => (/^https:/.test(place) ? h("a", { href: place, target: "_blank", rel: "noreferrer" }, human(place.split("#").pop().replaceAll("-", " "))) : h("code", {}, place));

const DEAD_LETTERS = "#dead-letters";

function queues(all, ringing) {
  const count = (value) => (value === null ? "?" : number(value));
  const row = (queue) =>
    h(
      "tr",
      {},
      h("td", { class: "first" }, queue.name),
      h("td", { class: "end", "data-label": "Waiting" }, queue.holds_dead_letters && queue.waiting ? badge(`${count(queue.waiting)} failed`, "bad") : count(queue.waiting)),
      h("td", { class: "end", "data-label": "At work" }, count(queue.in_flight)),
    );
  const isWorth = (queue) => !queue.holds_dead_letters || queue.waiting !== 0;
  const dead = all.filter((queue) => queue.holds_dead_letters && queue.waiting);
  return card(
    "Queues",
    dead.length
      ? h("p", { class: "trouble" }, h("span", {}, h("strong", {}, `${number(dead.reduce((sum, queue) => sum + queue.waiting, 0))} messages failed for good. `), "What to do: ", runbook(ringing.find((alarm) => alarm.runbook.endsWith(DEAD_LETTERS))?.runbook ?? `docs/operating.md${DEAD_LETTERS}`)))
      : h("p", { class: "muted" }, "No message has failed for good."),
    h("table", { class: "list" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Queue"), h("th", { scope: "col", class: "end" }, "Waiting"), h("th", { scope: "col", class: "end" }, "At work"))), h("tbody", {}, all.filter(isWorth).map(row))),
  );
}
