// The local stack, as its own server tells it: tokens for anybody, who is there, and the clock. It
// stands in the place of the session of a deployed stack, whose names it has.

import { $, clock, h, moment, trouble } from "./dom.js";
import { Lost, Problem, ask } from "./api.js";
import { record } from "./sent.js";

const BUSY_MS = 1_000;
const QUIET_MS = 5_000;

export const settings = JSON.parse($("meta[name=console]").content);
export const home = `${settings.api}/console`;
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

// --- Tokens --------------------------------------------------------------------------------------

export const ADMIN = { user_id: "ops", scope: "credits:admin" };
const USER = "credits:read credits:use";
const EXPIRED_SECONDS = -3600;

let held = null;
const held_by_users = new Map();

const issue = async (who, seconds) => (await local("/local/token", { ...who, ...(seconds ? { seconds } : {}) })).access_token;

export const token = () => held;
export const name = () => ADMIN.user_id;
export const forget = () => { held = null; };
export const takeDraft = () => null;
export const welcome = { title: "Local console", words: "It takes its tokens from the local stack.", small: "Nobody signs in here." };

export async function signIn() {
  held = await issue(ADMIN);
  return true;
}

export async function completeSignIn() {
  await Promise.all([signIn(), readClock(), readPeople()]);
  setInterval(everySecond, 1_000);
  keepUpToDate();
  return true;
}

// Asks the API as a user of the product would.
export async function asUser(userId, method, path, more = {}) {
  if (!held_by_users.has(userId)) await signInAs(userId);
  const by = { user_id: userId, isUser: true, token: () => held_by_users.get(userId) };
  return (await ask(method, path, { ...more, by })).body;
}

export async function signInAs(userId, seconds) {
  held_by_users.set(userId, await issue({ user_id: userId, scope: USER }, seconds));
}

// What happens to every page some day: the API takes its tokens no longer.
export async function expire() {
  held = await issue(ADMIN, EXPIRED_SECONDS);
  if (here.user) await signInAs(here.user, EXPIRED_SECONDS);
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


async function readClock() {
  const found = await local("/local/clock");
  const ahead = Date.parse(found.now) - Date.now();
  clock.now = () => Date.now() + ahead;
  ({ moving, failure } = found);
}

export async function moveClock(to, timezone) {
  ({ moving } = await local("/local/clock", { to, timezone }));
}

export function corner() {
  const way = h("progress", { id: "moving", max: 1, "aria-label": "The clock is moving", hidden: true });
  const link = h("a", { class: "clock", href: "#/lab", title: "The clock of this stack, in UTC: move it in the Lab" }, h("time", { id: "now" }));
  follow(link, { second: () => {
    const now = new Date(clock.now()).toISOString();
    const time = $("time", link);
    time.textContent = `${moment(now)} UTC`;
    time.dateTime = now;
    way.hidden = !moving;
    way.value = moving?.done ?? 0;
  } });
  return [link, way];
}

// --- News ----------------------------------------------------------------------------------------

const followers = new Map();

// Calls `second` now and every second, and `news` whenever the stack was asked how it is, for as long as
// the element is on the page.
export function follow(element, { second, news }) {
  second?.();
  followers.set(element, { second, news });
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

async function keepUpToDate() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, moving ? BUSY_MS : QUIET_MS));
    if (document.hidden) continue;
    try {
      const wasMoving = Boolean(moving);
      await readClock();
      everySecond();
      await Promise.all(among("news").map((each) => each({ hasMoved: wasMoving, hasArrived: wasMoving && !moving })));
      $("#gone")?.remove();
    } catch (error) {
      if (!(error instanceof Lost)) throw error;
      if (!$("#gone")) $("#main").before(h("div", { id: "gone" }, trouble(error)));
    }
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
    tell(line, "…", "muted");
    await attempt(line, () => act(Object.fromEntries(new FormData(made))));
    send.disabled = false;
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

