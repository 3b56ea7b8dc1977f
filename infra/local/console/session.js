// The session of the local console: its server makes a token for anybody, so nobody signs in. It
// replaces the module of a deployed stack, and exports the same names.

import { $, clock, h, moment } from "./dom.js";
import { ask } from "./api.js";
import { follow, here, keepUpToDate, local, moving, readClock, readPeople, unreachable } from "./local.js";

export { unreachable };
export const settings = JSON.parse($("meta[name=console]").content);
export const home = `${settings.api}/console`;

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

// What happens to every page some day: the API no longer accepts its tokens.
export async function expire() {
  held = await issue(ADMIN, EXPIRED_SECONDS);
  if (here.user) await signInAs(here.user, EXPIRED_SECONDS);
}

// The clock is where a deployed stack shows who has signed in.
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
