// The console: puts the parts together, keeps them up to date, and does what its buttons say.

import { OPS, Refusal, call, connect, local, localAction, signIn, userOf } from "./api.js";
import { countDown, isNewsDue, showCard, showNothing, showSessionExpired } from "./card.js";
import { showEvents } from "./events.js";
import { clearHistory, showHistory } from "./history.js";
import { clock, complain, count, credits, find, make, place, say } from "./page.js";
import { bindStrip, followClock, showTurn, shownTurn } from "./turn.js";

const PAGE = 8;
const MOST_CALLS = 12;
const BUSY_SECONDS = 1;
const QUIET_SECONDS = 5;

let user = null; // who is signed in
let zone = "UTC"; // where the user lives
let ahead = 0; // how many milliseconds the stack's clock is ahead of this machine's
let isMoving = false;
let cursor = null;
let period = null; // the month that was asked for, null for the one that turns
let isExpired = false;
let isLost = false; // whether the stack did not answer the last time

const now = () => Date.now() + ahead;

// --- Showing ---------------------------------------------------------------------------------------

/** Runs something that the user asked for, and shows why it failed. */
async function attempt(work) {
  complain("");
  return inform(work);
}

/** Runs something that the user did not ask for: an error stays on the page until their next action. */
async function inform(work) {
  try {
    const answer = await work();
    if (isLost) complain("");
    isLost = false;
    return answer;
  } catch (error) {
    if (error instanceof Refusal && error.status === 401) {
      isExpired = true;
      clearHistory();
      showSessionExpired(() => enter(user));
    } else if (error instanceof Refusal) {
      complain(error.message);
    } else if (error instanceof TypeError) {
      isLost = true;
      complain("The stack does not answer. Is it still running?");
    } else {
      throw error;
    }
    return undefined;
  }
}

async function showCredits(quiet = true) {
  if (!user || isExpired) return;
  const schedule = await call(userOf(user), "GET", "/api/credits/allocation-schedule", { quiet });
  const { holds } = await call(userOf(user), "GET", "/api/credits/balance", { quiet: true });
  zone = schedule.timezone;
  showCard(schedule, holds, now());
}

async function showLines(more = false, quiet = true) {
  if (!user || isExpired) return;
  const type = find("input[name=type]:checked").value;
  const query = new URLSearchParams({ limit: PAGE, ...(type && { type }), ...(more && { cursor }) });
  const page = await call(userOf(user), "GET", `/api/credits/history?${query}`, { quiet });
  cursor = page.next_cursor;
  showHistory(page, zone, giveBack, more);
}

async function showQueues() {
  const { queues } = await local("/local/queues");
  find("#queues").replaceChildren(
    ...queues.map(({ name, waiting, dead }) =>
      make(
        "tr", {},
        make("th", { scope: "row" }, name),
        make("td", { className: waiting ? "some" : "" }, waiting === null ? "–" : count(waiting)),
        make("td", { className: dead ? "dead" : "" }, dead === null ? "–" : count(dead)),
      ),
    ),
  );
}

async function showMails() {
  if (!user) return;
  const { mails } = await local(`/local/mails?user_id=${encodeURIComponent(user)}`);
  find("#mails-empty").hidden = mails.length > 0;
  const list = find("#mails");
  const ids = mails.map(({ id }) => id).join();
  if (list.dataset.ids === ids) return; // the focus may be on one of them
  list.dataset.ids = ids;
  list.replaceChildren(
    ...mails.slice(0, 6).map((mail) =>
      make("li", {}, make("button", { type: "button", onclick: () => preview(mail) }, mail.subject)),
    ),
  );
}

async function showNews() {
  if (!user) return;
  const { events } = await local(`/local/events?user_id=${encodeURIComponent(user)}`);
  showEvents(events, zone);
}

function preview({ id, subject }) {
  find("#mail-title").textContent = subject;
  find("#mail-frame").src = `/local/mail?id=${encodeURIComponent(id)}`;
  find("#mail").showModal();
}

async function readClock() {
  const { now: instant, moving, failure } = await local("/local/clock");
  ahead = Date.parse(instant) - Date.now();
  if (failure) complain(failure);
  return moving;
}

function showMoving(moving) {
  isMoving = moving !== null;
  for (const button of document.querySelectorAll("[data-move]")) button.disabled = isMoving;
  const bar = find("#moving");
  bar.hidden = !isMoving;
  bar.value = moving?.done ?? 0;
}

async function showWorld() {
  showTurn(await local(`/local/turn${period ? `?period=${period}` : ""}`));
}

function tick() {
  const instant = now();
  find("#now").textContent = `${clock(instant, zone)}`;
  find("#now").dateTime = new Date(instant).toISOString();
  find("#now-utc").textContent = `in ${place(zone)} · ${clock(instant, "UTC").slice(-8)} UTC`;
  countDown(instant);
}

/** Keeps the page up to date: often while the clock moves, now and then otherwise. */
async function keepUpToDate() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 1000 * (isMoving ? BUSY_SECONDS : QUIET_SECONDS)));
    if (document.hidden) continue;
    await inform(refresh);
  }
}

async function refresh() {
  const was_moving = isMoving;
  const moving = await readClock();
  if (moving) showMoving(moving);
  await Promise.all([showWorld(), showQueues(), showMails(), showNews()]);
  if (!was_moving && !moving && !isNewsDue(now())) return;
  await showCredits();
  await showLines();
  // The clock has arrived only when everything on the page is of that time.
  if (was_moving && !moving) {
    showMoving(null);
    say(`The clock stands at ${clock(now(), zone)} in ${place(zone)}.`);
  }
}

function showCall({ method, path, status, milliseconds, curl }) {
  const isBad = status !== "done";
  const list = find("#calls");
  list.prepend(
    make(
      "li", {},
      make(
        "details", {},
        make(
          "summary", {},
          make("code", {}, `${method} ${path}`),
          make("span", { className: `status ${isBad ? "bad" : ""}` }, status),
          make("span", { className: "muted" }, `${Math.round(milliseconds)} ms`),
        ),
        make("pre", { tabIndex: 0 }, make("code", {}, curl)),
      ),
    ),
  );
  while (list.children.length > MOST_CALLS) list.lastChild.remove();
  // Shows the last action as it was sent.
  [...list.querySelectorAll("details")].forEach((details, index) => { details.open = index === 0; });
}

// --- Doing -----------------------------------------------------------------------------------------

async function enter(user_id) {
  user = user_id.trim();
  isExpired = false;
  find("#user").value = user;
  history.replaceState(null, "", `#${encodeURIComponent(user)}`);
  clearHistory();
  const entered = await attempt(async () => {
    await signIn(userOf(user));
    await showCredits(false);
    await showLines(false, false);
    return true;
  });
  if (entered) {
    find("form[data-action=move]").elements.timezone.value = zone;
    say(`Signed in as user ${user}.`);
  } else if (!isExpired) {
    clearHistory();
    showNothing(`There is nothing to show for user ${user}.`);
  }
  tick();
  await inform(() => Promise.all([showMails(), showNews()]));
}

const ACTIONS = {
  async spend({ amount, description }) {
    const body = { amount: Number(amount), description };
    const answer = await call(userOf(user), "POST", "/api/credits/use", { body, key: crypto.randomUUID() });
    return `Spent ${credits(body.amount)}. ${count(answer.new_balance)} left.`;
  },
  async grant({ amount, description, expires_in_days, never }) {
    const body = { user_id: user, amount: Number(amount), description };
    if (never) body.expires_in_days = null;
    else if (expires_in_days) body.expires_in_days = Number(expires_in_days);
    const answer = await call(OPS, "POST", "/api/credits/allocate", { body, key: crypto.randomUUID() });
    return `${body.amount > 0 ? "Granted" : "Took back"} ${credits(Math.abs(body.amount))}. ${count(answer.new_balance)} available.`;
  },
  async move({ timezone }) {
    await call(OPS, "PATCH", `/api/subscriptions/${encodeURIComponent(user)}`, { body: { timezone } });
    return `User ${user} lives in ${place(timezone)} now.`;
  },
  async subscribe({ user_id, email, plan, timezone }) {
    const body = {
      email, timezone, plan, billing_interval: "yearly", status: "active", started_at: new Date(now()).toISOString(),
    };
    try {
      await call(OPS, "PUT", `/api/subscriptions/${encodeURIComponent(user_id)}`, { body, isNew: true });
    } catch (error) {
      if (error.status !== 412) throw error;
      const detail = `User ${user_id} is there already, and nothing was changed. Edit the user with PATCH instead.`;
      throw new Refusal({ ...error, detail });
    }
    await enter(user_id);
    return `User ${user_id} has subscribed.`;
  },
};

async function act(form) {
  const button = form.querySelector("button");
  button.disabled = true;
  await attempt(async () => {
    const said = await ACTIONS[form.dataset.action](Object.fromEntries(new FormData(form)));
    await showCredits();
    await showLines();
    say(said);
  });
  button.disabled = false;
  await inform(refresh);
}

async function giveBack({ transaction_id }) {
  await attempt(async () => {
    const body = { user_id: user, transaction_id, description: "Not delivered" };
    const answer = await call(OPS, "POST", "/api/credits/reverse", { body, key: crypto.randomUUID() });
    const expired = answer.expired_amount ? ` ${credits(answer.expired_amount)} had expired meanwhile.` : "";
    await showCredits();
    await showLines();
    say(`Gave back ${credits(answer.returned_amount)}.${expired}`);
  });
}

async function move(to) {
  period = null;
  followClock();
  await attempt(async () => {
    const { moving } = await localAction("/local/clock", { to, timezone: zone });
    showMoving(moving ?? { done: 1 }); // a quick arrival is shown, too
    say("The clock is moving.");
  });
}

// --- Wiring ----------------------------------------------------------------------------------------

function bind() {
  find("#sign-in").addEventListener("submit", (event) => {
    event.preventDefault();
    if (find("#user").value.trim()) enter(find("#user").value);
  });
  for (const form of document.querySelectorAll("form[data-action]")) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      act(form);
    });
  }
  const { never, expires_in_days } = find("form[data-action=grant]").elements;
  never.addEventListener("change", () => { expires_in_days.disabled = never.checked; });
  for (const button of document.querySelectorAll("[data-move]")) {
    button.addEventListener("click", () => move(button.dataset.move));
  }
  for (const choice of document.querySelectorAll("input[name=type]")) {
    choice.addEventListener("change", () => attempt(() => showLines(false, false)));
  }
  find("#older").addEventListener("click", async () => {
    const before = find("#history").children.length;
    await attempt(() => showLines(true, false));
    // The focused button moves away or is gone: the focus goes to the first new line.
    const line = find("#history").children[before];
    if (line) {
      line.tabIndex = -1;
      line.focus({ preventScroll: true });
    }
    say(`${count(find("#history").children.length)} lines are shown.`);
  });
  find("#turn-previous").addEventListener("click", () => turnTo("previous"));
  find("#turn-next").addEventListener("click", () => turnTo("next"));
  find("#expire-token").addEventListener("click", async () => {
    await attempt(async () => {
      await signIn(userOf(user), -3600);
      await showCredits(false);
    });
  });
  bindStrip();
}

async function turnTo(where) {
  period = shownTurn()[where];
  await attempt(showWorld);
}

async function start() {
  const { api_url, users, zones } = await local("/local/stack");
  connect(api_url, showCall);
  find("#users").append(...users.slice(0, 500).map(({ user_id, timezone, plan }) =>
    make("option", { value: user_id }, `${plan}, ${place(timezone)}`)));
  find("#zones").append(...zones.map((name) => make("option", { value: name })));
  bind();
  await readClock();
  setInterval(tick, 1000);
  const wanted = decodeURIComponent(location.hash.slice(1)) || users[0]?.user_id;
  if (wanted) await enter(wanted);
  else showNothing("There is nobody yet. Subscribe somebody new.");
  const { plans } = await call(OPS, "GET", "/api/plans", { quiet: true });
  find("select[name=plan]").append(...plans.map(({ id, name }) => make("option", { value: id }, name)));
  await refresh();
  document.documentElement.dataset.ready = "true";
  keepUpToDate();
}

attempt(start);
