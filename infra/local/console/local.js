// The local stack, from its own server: its users, the clock, and everything else that no API offers.

import { $, clock, h, trouble } from "./dom.js";
import { Lost, Problem } from "./api.js";
import { record } from "./sent.js";

const BUSY_MS = 1_000;
const QUIET_MS = 5_000;

export const unreachable = "The local stack has ended, or is stuck. Start it again with make up or make run, and open the address that it prints.";

// --- Its server ----------------------------------------------------------------------------------

// Asks the server of this page. Requests that change something are recorded as a line of curl.
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

// --- The users, and the one looked at last ---------------------------------------------------------

export let people = { users: [], zones: [], opens_on: null };
export const readPeople = async () => { people = await local("/local/stack"); };

// The user of the tabs: the one looked at last, here or in Support.
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
export let failure = null; // the error that stopped it the last time

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

// Calls `second` now and every second, and `news` now and after each poll of the stack, as long as the
// element is on the page.
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

// Asks the stack in the background. If it does not answer, the page says so at its top.
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
// Polls the stack's state.
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

// --- Actions --------------------------------------------------------------------------------------------

// A line beside the pressed button that shows and announces the outcome.
export const told = () => h("p", { class: "told", role: "status" });
export function tell(line, words, tone = "good") {
  line.className = `told ${tone}`;
  line.replaceChildren(...[words].flat());
}

// A form that does one thing: its outcome is shown beside its button.
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

// Runs the action of a pressed button, and shows the outcome beside it.
export async function attempt(line, act) {
  try {
    tell(line, await act());
  } catch (error) {
    if (!(error instanceof Problem || error instanceof Lost)) throw error;
    tell(line, `${error.title}. ${error.message}`, "bad");
  }
}

