// The local stack, as its own server tells it: who is there, the clock, and what else no API tells.

import { $, clock, h, trouble } from "./dom.js";
import { Lost, Problem } from "./api.js";
import { record } from "./sent.js";

const BUSY_MS = 1_000;
const QUIET_MS = 5_000;

export const unreachable = "The local stack has ended, or is stuck. Start it again with make up or make run, and open the address that it prints.";

// --- Its server ----------------------------------------------------------------------------------

// Asks the server of this page. What changes something is recorded as a line of curl.
export async function local(path, body) {
  const asked = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const began = performance.now();
  let answer, found;
  try {
    answer = await fetch(path, { ...asked, cache: "no-store" });
    found = await answer.json();
  } catch {
    throw new Lost(unreachable);
  }
  if (path === "/local/clock" && body) record({ ...asked, url: new URL(path, location.href), body, status: answer.status, ms: performance.now() - began });
  if (!answer.ok) throw Object.assign(new Problem(answer.status, found, null), { title: "The local stack refused" });
  return found;
}

// --- Who is there, and who was looked at last ------------------------------------------------------

export let people = { users: [], zones: [], opens_on: null };
export const readPeople = async () => { people = await local("/local/stack"); };

// Whom the tabs are about: who was looked at last, here or in Support.
export const here = {
  get user() { return this.chosen ?? people.opens_on; },
  get zone() { return people.users.find((each) => each.user_id === this.user)?.timezone ?? "UTC"; },
  chosen: null,
};
export const customerHref = (userId = here.user) => `#/customer${userId ? `/${encodeURIComponent(userId)}` : ""}`;
export const supportHref = () => (here.chosen ? `#/users/${encodeURIComponent(here.chosen)}` : "#/users");

function look() {
  const found = location.hash.match(/^#\/(?:users|customer)\/([^/?]+)/) ?? location.hash.match(/[?&]user=([^&]+)/);
  if (found) here.chosen = decodeURIComponent(found[1]);
}
look();
addEventListener("hashchange", look);

// --- The clock -----------------------------------------------------------------------------------

export let moving = null; // {to, done} while the clock is on its way
export let failure = null; // what stopped it the last time

export async function readClock() {
  const found = await local("/local/clock");
  const ahead = Date.parse(found.now) - Date.now();
  clock.now = () => Date.now() + ahead;
  ({ moving, failure } = found);
}

export async function moveClock(to, timezone) {
  ({ moving } = await local("/local/clock", { to, timezone }));
}

// --- News ----------------------------------------------------------------------------------------

const followers = new Map();

// Calls `second` now and every second, and `news` now and whenever the stack was asked how it is, for as
// long as the element is on the page.
export function follow(element, { second, news }) {
  second?.();
  followers.set(element, { second, news });
  if (news) askStack(() => news({}));
}

function among(kind) {
  const found = [];
  for (const [element, each] of followers) {
    if (!element.isConnected) followers.delete(element);
    else if (each[kind]) found.push(each[kind]);
  }
  return found;
}

const everySecond = () => among("second").forEach((each) => each());

// Asks the stack for something that nobody has pressed. That it does not answer is said above the page.
export async function askStack(work) {
  try {
    await work();
    $("#gone")?.remove();
  } catch (error) {
    if (!(error instanceof Lost || error instanceof Problem)) throw error;
    if (!$("#gone")) $("#main").before(h("div", { id: "gone" }, trouble(error)));
  }
}

let isKeeping = false;
// Asks the stack again and again how it is.
export async function keepUpToDate() {
  if (isKeeping) return;
  isKeeping = true;
  setInterval(everySecond, 1_000);
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, moving ? BUSY_MS : QUIET_MS));
    if (document.hidden) continue;
    await askStack(async () => {
      const wasMoving = Boolean(moving);
      await readClock();
      everySecond();
      await Promise.all(among("news").map((each) => each({ hasMoved: wasMoving, hasArrived: wasMoving && !moving })));
    });
  }
}

// --- What is done ---------------------------------------------------------------------------------------

// A line beside what was pressed, that says to eyes and ears what came of it.
export const told = () => h("p", { class: "told", role: "status" });
export function tell(line, words, tone = "good") {
  line.className = `told ${tone}`;
  line.replaceChildren(...[words].flat());
}

// A form that does one thing: what came of it stands beside its button.
export function form(verb, fields, act, more = {}) {
  const line = told();
  const send = h("button", { class: "main" }, verb);
  const made = h("form", { ...more, class: `act ${more.class ?? ""}` }, fields, send, line);
  made.addEventListener("submit", async (event) => {
    event.preventDefault();
    send.disabled = true;
    send.classList.add("busy");
    tell(line, "");
    await attempt(line, () => act(Object.fromEntries(new FormData(made))));
    send.disabled = false;
    send.classList.remove("busy");
  });
  return made;
}

// Does something that was pressed, and says beside it what came of it.
export async function attempt(line, act) {
  try {
    tell(line, await act());
  } catch (error) {
    if (!(error instanceof Problem || error instanceof Lost)) throw error;
    tell(line, `${error.title}. ${error.message}`, "bad");
  }
}

