// What a user of the product would see, with a token of their own: their credits, when more come, what
// expires, and what has happened.

import { $, asking, button, card, clock, credits, empty, field, h, human, isoDay, localDay, moment, number, paged, place, select, signed, trouble, waiting } from "./dom.js";
import { TYPES } from "./actions.js";
import { customerHref, follow, form, here, people } from "./local.js";
import { asUser, signInAs } from "./session.js";

const LINES = 8;
const A_DAY = 86_400_000;

let type = ""; // the shown kind of lines

export const customer = {
  name: "Customer",
  start: () => customerHref(),
  pages: () => [],
  routes: [[/^#\/customer(?:\/([^/?]+))?$/, null, (_, id) => showCustomer(id ? decodeURIComponent(id) : null)]],
};

function showCustomer(userId) {
  if (!userId && here.user) {
    history.replaceState(null, "", customerHref());
    return showCustomer(here.user);
  }
  const area = h("div", {});
  const state = { userId, area, schedule: null, holds: [], about: h("p", { class: "muted" }, "What your frontend would show them.") };
  if (userId) {
    here.chosen = userId;
    area.append(h("div", { class: "card" }, waiting(6)));
    fill(state);
    follow(area, {
      second: () => countDown(state),
      news: ({ hasMoved }) => (hasMoved || isNewsDue(state) ? fill(state, true) : null),
    });
  } else {
    area.append(h("div", { class: "card" }, empty("There is nobody yet", "Subscribe somebody, and see what they see."), h("p", { class: "more" }, h("a", { href: "#/lab" }, "To the Lab"))));
  }
  return h("section", {}, h("div", { class: "heading" }, h("div", {}, h("h1", {}, "Your credits"), state.about), picker(userId)), area);
}

function picker(userId) {
  const who = h("input", { id: "user", name: "user", list: "people", value: userId ?? "", autocomplete: "off", spellcheck: "false", required: true });
  const go = () => { if (who.value.trim()) location.hash = customerHref(who.value.trim()); };
  const known = people.users.slice(0, 500).map((each) => h("option", { value: each.user_id }, [human(each.plan), place(each.timezone)].filter(Boolean).join(", ")));
  return h(
    "form",
    { class: "picker", role: "search", onsubmit: (event) => { event.preventDefault(); go(); }, onchange: go },
    h("label", { for: "user" }, "User"),
    who,
    h("datalist", { id: "people" }, known),
    h("button", {}, "Show"),
  );
}

async function fill(state, isQuiet = false) {
  const ask = (path) => asUser(state.userId, "GET", path, { quiet: isQuiet });
  try {
    [state.schedule, { holds: state.holds }] = await Promise.all([ask("api/credits/allocation-schedule"), ask("api/credits/balance")]);
  } catch (error) {
    refused(state, error);
    return;
  }
  const zone = state.schedule.timezone;
  state.about.textContent = `What your frontend would show to somebody in ${place(zone)}.`;
  const known = people.users.find((each) => each.user_id === state.userId);
  if (known) known.timezone = zone;
  else people.users.push({ user_id: state.userId, timezone: zone, plan: "" });
  if (!state.has) {
    state.has = h("section", { id: "card", class: "card", "aria-label": "Credits" });
    state.lines = h("div", {});
    state.area.replaceChildren(h("div", { class: "customer" }, h("div", {}, state.has, spending(state)), pastOf(state)));
  }
  showCard(state);
  showLines(state, isQuiet);
}

function refused(state, error) {
  state.schedule = state.has = null;
  if (error.status === 401) {
    const again = button("Sign in again", async () => { await signInAs(state.userId); await fill(state); }, { class: "main" });
    state.area.replaceChildren(h("section", { id: "card", class: "card" }, h("div", { class: "trouble soon", role: "alert" }, h("div", {}, h("strong", {}, "Your session has ended"), h("p", {}, "Sign in again to see your credits.")), again)));
  } else if (error.status === 404) {
    const words = Object.assign(new Error(`Nobody has the id ${state.userId}. Choose somebody else, or subscribe them in the Lab.`), { title: "Nobody found" });
    state.area.replaceChildren(trouble(words), h("p", {}, h("a", { href: "#/lab" }, "To the Lab")));
  } else {
    state.area.replaceChildren(trouble(error, () => fill(state)));
  }
}

// --- The card ------------------------------------------------------------------------------------

function showCard({ has, schedule, holds }) {
  has.replaceChildren(
    h("p", { class: "balance", id: "balance" }, number(schedule.current_balance), " ", h("small", {}, "available")),
    reserved(schedule, holds),
    share(schedule),
    coming(schedule),
    expiring(schedule),
  );
  countDown({ schedule });
}

// Credits set aside for running jobs.
function reserved({ timezone }, holds) {
  const open = holds.filter((hold) => hold.amount > 0);
  if (!open.length) return "";
  return h("ul", { class: "held", "aria-label": "Reserved" }, open.map(({ amount, expires_at }) => h("li", {}, `${number(amount)} reserved until ${moment(expires_at, timezone)}`)));
}

const soonOf = ({ expiring_credits }) => expiring_credits.reduce((sum, part) => sum + part.amount, 0);

function share(schedule) {
  if (!schedule.current_balance) return "";
  const parts = schedule.expiring_credits.map((part) => ["p1", part.amount]);
  const rest = schedule.current_balance - soonOf(schedule);
  if (rest > 0) parts.push(["p3", rest]);
  return h("div", { class: "stack", "aria-hidden": "true" }, parts.map(([tone, amount]) => h("i", { class: tone, style: { "flex-grow": amount } })));
}

const UNITS = [["days", 86_400], ["hours", 3_600], ["minutes", 60], ["seconds", 1]];

function coming({ next_allocation_date, next_allocation_at, allocation_amount, timezone, not_allocated_because, balance_cap }) {
  const part = h("div", { class: "part" }, h("h2", {}, "Next credits"));
  if (!next_allocation_date) {
    part.append(h("p", { class: "coming" }, `None. ${not_allocated_because?.words ?? ""}`));
    return part;
  }
  part.append(
    h("p", { class: "coming" }, h("strong", {}, `+${number(allocation_amount)}`), ` on ${longDay(next_allocation_date)}`),
    h("p", { class: "muted" }, `at midnight in ${place(timezone, next_allocation_at)}`),
    balance_cap ? h("p", { class: "muted" }, `They fill your credits up to ${number(balance_cap)}.`) : "",
    h("div", { id: "countdown", class: "countdown", role: "timer", "aria-label": "Time until the next credits" }, UNITS.map(([name]) => h("div", { "data-part": name }, h("strong", {}), h("small", {}, name)))),
  );
  return part;
}

const longDay = (date) => new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", weekday: "long", day: "numeric", month: "long", year: "numeric" }).format(new Date(`${date}T00:00:00Z`)).replace(",", "");

function countDown({ schedule }) {
  const timer = $("#countdown");
  if (!schedule?.next_allocation_at || !timer) return;
  let seconds = Math.max(0, Math.ceil((Date.parse(schedule.next_allocation_at) - clock.now()) / 1_000));
  for (const [name, size] of UNITS) {
    const part = Math.floor(seconds / size);
    seconds -= part * size;
    const [figure, label] = $(`[data-part=${name}]`, timer).children;
    figure.textContent = name === "days" ? part : String(part).padStart(2, "0");
    label.textContent = part === 1 ? name.slice(0, -1) : name;
  }
}

function expiring(schedule) {
  const { current_balance, expiring_credits, timezone } = schedule;
  const today = isoDay(clock.now(), timezone);
  const row = (tone, amount, words) => h("li", { class: tone }, h("span", {}, credits(amount)), h("span", {}, words));
  const rows = expiring_credits.map(({ amount, expires_at }) => {
    const last = new Date(Date.parse(expires_at) - A_DAY).toISOString().slice(0, 10);
    const left = Math.round((Date.parse(last) - Date.parse(today)) / A_DAY);
    return row("soon", amount, left <= 0 ? "today is the last day" : left === 1 ? "through tomorrow" : `through ${localDay(last)}`);
  });
  const rest = current_balance - soonOf(schedule);
  if (rest > 0) rows.push(row("", rest, "never expire"));
  return h("div", { class: "part" }, h("h2", {}, "What expires"), rows.length ? h("ul", { class: "expiring" }, rows) : h("p", { class: "muted" }, "Nothing: there are no credits."));
}

// Whether credits have come or gone at a midnight, or a hold has ended, since the card was drawn.
function isNewsDue({ schedule, holds }) {
  if (!schedule) return false;
  const now = clock.now();
  const { next_allocation_at, expiring_credits, timezone } = schedule;
  return (
    (next_allocation_at && Date.parse(next_allocation_at) <= now) ||
    holds.some(({ expires_at }) => Date.parse(expires_at) <= now) ||
    expiring_credits.some(({ expires_at }) => expires_at <= isoDay(now, timezone))
  );
}

// --- Spending ------------------------------------------------------------------------------------

function spending(state) {
  const amount = h("input", { name: "amount", type: "number", inputmode: "numeric", min: 1, step: 1, value: 10, required: true });
  const what = h("input", { name: "description", value: "Report", maxlength: 200, required: true, autocomplete: "off" });
  return card("Spend", form("Spend", [field("Credits", amount), field("For", what)], async (values) => {
    const body = { amount: Number(values.amount), description: values.description };
    const answer = await asUser(state.userId, "POST", "api/credits/use", { body, key: crypto.randomUUID() });
    await fill(state, true);
    return `Spent ${credits(body.amount)}. ${number(answer.new_balance)} left.`;
  }, { id: "spend" }));
}

// --- History -------------------------------------------------------------------------------------

function pastOf(state) {
  const kind = select("type", [["", "Everything"], ...Object.entries(TYPES)], type, { "aria-label": "Type", onchange: () => { type = kind.value; showLines(state); } });
  return h("section", { class: "card", "aria-label": "History" }, h("div", { class: "top" }, h("h2", {}, "History"), kind), state.lines);
}

function showLines(state, isQuiet = false) {
  const list = h("ol", { id: "history", class: "lines", "aria-label": "History" });
  const zone = state.schedule.timezone;
  const isNewest = asking(state.lines);
  const load = async (cursor) => {
    const query = new URLSearchParams({ limit: LINES, ...(type && { type }), ...(cursor && { cursor }) });
    const answer = await asUser(state.userId, "GET", `api/credits/history?${query}`, { quiet: isQuiet });
    // The old content stays until the new content has come.
    if (!list.isConnected && isNewest()) state.lines.replaceChildren(list, more);
    return { rows: answer.items.map((line) => lineOf(line, zone)), next: answer.next_cursor };
  };
  const more = paged(list, load, { none: empty("Nothing of this kind has happened yet"), label: "lines" });
  if (!state.lines.children.length) state.lines.append(list, more);
}

const MARKS = { expiration: "×", reversal: "←", hold: "•", release: "°" };

function lineOf(line, zone) {
  const kind = TYPES[line.type] ?? human(line.type);
  const title = line.type === "allocation" || line.type === "expiration" ? kind : (line.description ?? kind);
  const about = [title === kind ? null : kind, moment(line.effective_at, zone), line.left_out_amount ? `${number(line.left_out_amount)} left out: filled up to ${number(line.balance_cap)}` : null];
  return h(
    "li",
    { class: line.type },
    h("span", { class: `mark ${line.amount > 0 ? "up" : ""}`, "aria-hidden": "true" }, MARKS[line.type] ?? (line.amount > 0 ? "+" : "−")),
    h("span", { class: "what" }, title, h("small", {}, about.filter(Boolean).join(" · "))),
    h("span", { class: "much" }, h("strong", { class: line.amount > 0 ? "up" : "" }, change(line)), h("small", {}, `balance ${number(line.balance_after)}`)),
  );
}

// What a line did. A hold moves no credits, and its end moves only what is used.
function change({ type: kind, amount, held_amount, released_amount }) {
  if (kind === "hold") return `${number(held_amount)} reserved`;
  if (kind === "release") return `${number(released_amount)} free again`;
  return signed(amount);
}
