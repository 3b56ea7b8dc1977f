// The turn of a month round the world: a bar for each moment at which the 1st begins somewhere.

import { count, credits, find, make, moment, month, place } from "./page.js";

let turn = null;
let chosen = null; // the index of the bar that is described; null for the one that the clock has passed last

/** Shows `GET /local/turn`. */
export function showTurn(answer) {
  const isSame = turn?.period === answer.period;
  turn = answer;
  find("#turn-title").textContent = `The month turns to ${month(answer.period)}`;
  if (!isSame) {
    chosen = null;
    build();
  }
  paint();
}

/** Describes what the clock passes, and no longer what was chosen. */
export function followClock() {
  chosen = null;
}

export const shownTurn = () => turn;

/** Binds the arrow keys: the strip is one stop of the Tab key, whatever its length. */
export function bindStrip() {
  find("#strip").addEventListener("keydown", (event) => {
    const bars = [...find("#strip").children];
    const index = bars.indexOf(document.activeElement);
    const moves = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: bars.length - 1 };
    if (index < 0 || !(event.key in moves)) return;
    event.preventDefault();
    bars[Math.min(Math.max(moves[event.key], 0), bars.length - 1)].focus();
  });
}

function build() {
  const strip = find("#strip");
  strip.replaceChildren(
    ...turn.instants.map((_, index) =>
      make(
        "button",
        { type: "button", onfocus: () => choose(index), onclick: () => choose(index) },
        make("span", { className: "due" }, make("span", { className: "landed" })),
        make("span", { className: "dot" }),
      ),
    ),
  );
  const zero = turn.instants.findIndex(({ at }) => at.includes("T00:00"));
  const last = turn.instants.length - 1;
  find("#strip-scale").replaceChildren(
    ...[0, zero, last].map((index) => {
      const text = index === zero ? "00:00 UTC" : moment(turn.instants[index].at, "UTC");
      const label = make("span", {}, text);
      label.style.left = `${((index + 0.5) / turn.instants.length) * 100}%`;
      return label;
    }),
  );
}

function choose(index) {
  chosen = index;
  paint();
}

function paint() {
  const { instants } = turn;
  const highest = Math.max(1, ...instants.map(({ credits_due }) => credits_due));
  const passed = instants.filter(({ has_passed }) => has_passed).length;
  const first = instants.findIndex(({ users_due }) => users_due > 0);
  const described = chosen ?? (passed ? passed - 1 : Math.max(0, first));
  [...find("#strip").children].forEach((bar, index) => {
    const { credits_due, users_due, users_landed, has_passed } = instants[index];
    // By the square root: one user must stay visible beside a hundred.
    const height = credits_due ? Math.max(3, 90 * Math.sqrt(credits_due / highest)) : 0;
    bar.style.setProperty("--due-height", `${height}%`);
    bar.style.setProperty("--landed", `${users_due ? (100 * users_landed) / users_due : 0}%`);
    bar.classList.toggle("passed", has_passed);
    bar.tabIndex = index === described ? 0 : -1;
    bar.setAttribute("aria-current", String(index === described));
    bar.setAttribute("aria-label", sentence(instants[index]));
  });
  const sum = (name) => instants.reduce((total, instant) => total + instant[name], 0);
  const sums = [
    ["moments passed", passed, instants.length],
    ["users", sum("users_landed"), sum("users_due")],
    ["credits landed", sum("credits_landed"), sum("credits_due")],
  ];
  find("#turn-sums").replaceChildren(
    ...sums.map(([name, done, all]) =>
      make("div", {}, make("dt", {}, name), make("dd", {}, count(done), make("small", {}, ` of ${count(all)}`))),
    ),
  );
  const instant = instants[described];
  find("#instant").replaceChildren(make("b", {}, headline(instant)), detail(instant));
}

const headline = ({ at, zones, places }) => {
  const more = zones - Math.min(zones, 4);
  const names = places.slice(0, 4).map(place).join(", ") + (more ? ` and ${count(more)} more` : "");
  return `${moment(at, "UTC")} UTC · midnight in ${names}`;
};

function detail({ has_passed, users_due, credits_due, users_landed, credits_landed }) {
  if (!users_due) return "Nobody lives there who is due.";
  if (!has_passed) return `${people(users_due)} will be given ${credits(credits_due)}.`;
  return `${people(users_landed)} of ${count(users_due)} given ${credits(credits_landed)}.`;
}

const people = (number) => `${count(number)} ${number === 1 ? "user" : "users"}`;
const sentence = (instant) => `${headline(instant)}. ${detail(instant)}`;
