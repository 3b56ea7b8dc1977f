// The credits card: what a user has, when more comes, what expires.

import { count, credits, day, daysBetween, find, localDate, longDay, make, moment, place, plusDays } from "./page.js";

let schedule = null;
let holds = [];

/** Draws the card of a user from `GET /api/credits/allocation-schedule`, and the holds of their balance. */
export function showCard(answer, held, now) {
  schedule = answer;
  holds = held;
  find("#card-body").replaceChildren(
    make("p", { className: "balance", id: "balance" }, count(answer.current_balance), make("small", {}, "available")),
    ...reserved(answer),
    ...share(answer),
    coming(answer),
    expiring(answer, now),
  );
  find("#card").setAttribute("aria-busy", "false");
  countDown(now);
}

/** The card when the API no longer takes the token. */
export function showSessionExpired(signInAgain) {
  schedule = null;
  const again = make("button", { type: "button", className: "primary", onclick: signInAgain }, "Sign in again");
  const text = make("p", {}, make("b", {}, "Your session has expired."), "Sign in again to see your credits.");
  find("#card-body").replaceChildren(make("div", { className: "expired-session", role: "alert" }, text, again));
  find("#card").setAttribute("aria-busy", "false");
}

/** The card when no user has that id, or there is no answer. */
export function showNothing(why) {
  schedule = null;
  find("#card-body").replaceChildren(make("p", { className: "muted" }, why));
  find("#card").setAttribute("aria-busy", "false");
}

/** Writes the time that is left until the next credits. */
export function countDown(now) {
  const timer = find("#countdown");
  if (!schedule?.next_allocation_at || !timer) return;
  let seconds = Math.max(0, Math.ceil((Date.parse(schedule.next_allocation_at) - now) / 1000));
  for (const [name, size] of [["days", 86400], ["hours", 3600], ["minutes", 60], ["seconds", 1]]) {
    const part = Math.floor(seconds / size);
    seconds -= part * size;
    const [number, label] = timer.querySelector(`[data-part=${name}]`).children;
    number.textContent = String(part).padStart(name === "days" ? 1 : 2, "0");
    label.textContent = part === 1 ? name.slice(0, -1) : name;
  }
}

/** Whether credits have come or gone at a midnight, or a hold has ended, since the card was drawn. */
export function isNewsDue(now) {
  if (!schedule) return false;
  const { next_allocation_at, expiring_credits, timezone } = schedule;
  const has_come = next_allocation_at !== null && Date.parse(next_allocation_at) <= now;
  const is_free = holds.some(({ expires_at }) => Date.parse(expires_at) <= now);
  return has_come || is_free || expiring_credits.some(({ expires_at }) => expires_at <= localDate(now, timezone));
}

/** What is set aside for jobs that are under way. */
function reserved({ timezone }) {
  const list = make("ul", { className: "held", ariaLabel: "Reserved" });
  for (const { amount, expires_at } of holds.filter((hold) => hold.amount > 0)) {
    list.append(make("li", {}, `${count(amount)} reserved until ${moment(expires_at, timezone)}`));
  }
  return list.children.length ? [list] : [];
}

function share({ current_balance, expiring_credits }) {
  if (current_balance === 0) return [];
  const soon = expiring_credits.reduce((sum, part) => sum + part.amount, 0);
  const parts = expiring_credits.map((part) => ["soon", part.amount]);
  if (current_balance > soon) parts.push(["", current_balance - soon]);
  const bar = make("div", { className: "share", ariaHidden: "true" });
  for (const [className, amount] of parts) {
    const element = make("span", { className });
    element.style.setProperty("--part", amount);
    bar.append(element);
  }
  return [bar];
}

function coming({ next_allocation_date, allocation_amount, timezone, not_allocated_because, balance_cap }) {
  const part = make("div", { className: "part" }, make("h3", {}, "Next credits"));
  if (!next_allocation_date) {
    part.append(make("p", { className: "coming" }, `None. ${not_allocated_because?.words ?? ""}`));
    return part;
  }
  const timer = make("div", { id: "countdown", className: "countdown", role: "timer", ariaLabel: "Time until the next credits" });
  for (const name of ["days", "hours", "minutes", "seconds"]) {
    timer.append(make("div", { "data-part": name }, make("b"), make("span", {}, name)));
  }
  part.append(
    make("p", { className: "coming" }, make("b", {}, `+${count(allocation_amount)}`), ` on ${longDay(next_allocation_date)}`),
    make("p", { className: "muted" }, `at midnight in ${place(timezone)}`),
    ...(balance_cap ? [make("p", { className: "muted" }, `They fill your credits up to ${count(balance_cap)}.`)] : []),
    timer,
  );
  return part;
}

function expiring({ current_balance, expiring_credits, timezone }, now) {
  const part = make("div", { className: "part" }, make("h3", {}, "What expires"));
  const list = make("ol", { className: "expiring" });
  const today = localDate(now, timezone);
  for (const { amount, expires_at } of expiring_credits) {
    const last = plusDays(expires_at, -1);
    const left = daysBetween(today, last);
    const when = left <= 0 ? "today is the last day" : left === 1 ? "through tomorrow" : `through ${day(last)}`;
    list.append(
      make("li", { className: "soon" }, make("span", {}, credits(amount)), make("span", { className: "when" }, when)),
    );
  }
  const rest = current_balance - expiring_credits.reduce((sum, each) => sum + each.amount, 0);
  if (rest > 0) {
    list.append(make("li", {}, make("span", {}, credits(rest)), make("span", { className: "when" }, "never expire")));
  }
  part.append(list.children.length ? list : make("p", { className: "muted" }, "Nothing: there are no credits."));
  return part;
}
