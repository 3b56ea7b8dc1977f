// The turn of a month round the world: a bar for each moment at which the 1st begins somewhere.

import { $, card, city, credits, h, moment, number, offset, waiting } from "./dom.js";
import { askStack, follow, local } from "./local.js";

// The card of a month; `asked` is null for the latest month that the clock has reached. `keep` gets the
// month that the person has chosen.
export function turnCard(asked, keep) {
  const state = { asked, keep, turn: null, chosen: null };
  state.sums = h("dl", { id: "turn-sums", class: "sums" });
  state.strip = h("div", { id: "strip", class: "strip", role: "group", "aria-label": "Moments at which the month begins, earliest first. Arrow keys move along.", onkeydown: (event) => walk(event, state) });
  state.scale = h("div", { class: "scale", "aria-hidden": "true" });
  state.instant = h("div", { id: "instant", class: "instant" }, waiting(2));
  const step = (where, words, label) => h("button", { type: "button", id: `turn-${where}`, "aria-label": label, onclick: () => choose(state, state.turn[where]) }, words);
  const element = card(
    "The month turns",
    h("div", { class: "buttons steps", role: "group", "aria-label": "Month" }, step("previous", "←", "The month before"), step("next", "→", "The month after")),
    h("p", { class: "muted" }, "The 1st begins at a different moment round the world. Each bar is one of them: its height is the credits due there, and it fills as they land."),
    state.sums, state.strip, state.scale, state.instant,
  );
  element.id = "turn";
  state.title = $("h2", element);
  follow(element, { news: () => fill(state) });
  return {
    element,
    // Follows the clock again, and no longer the choice.
    follow: () => { state.chosen = null; if (state.asked) choose(state, null); },
  };
}

async function choose(state, period) {
  state.asked = period;
  state.keep(period);
  await askStack(() => fill(state));
}

async function fill(state) {
  const asked = state.asked;
  const found = await local(`/local/turn${asked ? `?period=${asked}` : ""}`);
  if (asked !== state.asked) return;
  const isSame = state.turn?.period === found.period;
  state.turn = found;
  if (!isSame) {
    state.chosen = null;
    state.title.textContent = `The month turns to ${nameOf(found.period)}`;
    build(state);
  }
  paint(state);
}

const nameOf = (period) => new Intl.DateTimeFormat("en-GB", { month: "long", year: "numeric", timeZone: "UTC" }).format(new Date(`${period}-01T00:00:00Z`));

// The strip is one Tab stop, whatever its length.
function walk(event, { strip }) {
  const bars = [...strip.children];
  const index = bars.indexOf(document.activeElement);
  const to = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: bars.length - 1 }[event.key];
  if (index < 0 || to === undefined) return;
  event.preventDefault();
  bars[Math.min(Math.max(to, 0), bars.length - 1)].focus();
}

function build(state) {
  const { instants } = state.turn;
  const show = (index) => { state.chosen = index; paint(state); };
  state.strip.replaceChildren(
    ...instants.map((_, index) =>
      h("button", { type: "button", onfocus: () => show(index), onclick: () => show(index) }, h("span", { class: "due" }, h("span", { class: "landed" })), h("span", { class: "dot" }))),
  );
  const zero = instants.findIndex(({ at }) => at.includes("T00:00"));
  const last = instants.length - 1;
  state.scale.replaceChildren(
    ...[0, zero, last].map((index) => h("span", { style: { left: `${((index + 0.5) / instants.length) * 100}%` } }, index === zero ? "00:00 UTC" : moment(instants[index].at))),
  );
}

function paint({ turn: { instants }, chosen, strip, sums, instant }) {
  const highest = Math.max(1, ...instants.map(({ credits_due }) => credits_due));
  const passed = instants.filter(({ has_passed }) => has_passed).length;
  const inhabited = instants.map((_, index) => index).filter((index) => instants[index].users_due);
  // The latest moment passed by the clock in a zone with users.
  const described = chosen ?? inhabited.findLast((index) => index < passed) ?? inhabited[0] ?? 0;
  [...strip.children].forEach((bar, index) => {
    const { credits_due, users_due, users_landed, has_passed } = instants[index];
    // By the square root: one user must stay visible beside a hundred.
    const height = credits_due ? Math.max(3, 90 * Math.sqrt(credits_due / highest)) : 0;
    bar.style.setProperty("--due-height", `${height}%`);
    bar.style.setProperty("--landed", `${users_due ? (100 * users_landed) / users_due : 0}%`);
    bar.classList.toggle("passed", has_passed);
    bar.tabIndex = index === described ? 0 : -1;
    bar.setAttribute("aria-current", String(index === described));
    bar.setAttribute("aria-label", `${headline(instants[index])}. ${detail(instants[index])}`);
  });
  const sum = (name) => instants.reduce((total, each) => total + each[name], 0);
  const figures = [
    ["moments passed", passed, instants.length],
    ["users", sum("users_landed"), sum("users_due")],
    ["credits landed", sum("credits_landed"), sum("credits_due")],
  ];
  sums.replaceChildren(...figures.map(([name, done, all]) => h("div", {}, h("dt", {}, name), h("dd", {}, h("strong", {}, number(done)), ` of ${number(all)}`))));
  instant.replaceChildren(h("strong", {}, headline(instants[described])), h("p", {}, detail(instants[described])));
}

const headline = ({ at, places, more_places }) => {
  const ahead = offset(places[0], at);
  const cities = places.map(city).filter(Boolean).join(", ");
  const where = cities ? `${cities}${more_places ? ` and ${number(more_places)} more` : ""} (${ahead})` : `${ahead}, where no city is`;
  return `${moment(at)} UTC · midnight in ${where}`;
};

function detail({ has_passed, users_due, credits_due, users_landed, credits_landed }) {
  if (!users_due) return "Nobody lives there who is due.";
  if (!has_passed) return `${users(users_due)} will be given ${credits(credits_due)}.`;
  return `${users(users_landed)} of ${number(users_due)} given ${credits(credits_landed)}.`;
}

const users = (count) => `${number(count)} ${count === 1 ? "user" : "users"}`;
