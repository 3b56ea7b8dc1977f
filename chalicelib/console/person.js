// One user: what they can spend, what expires when, when the next credits come or why not, what
// happened, which emails they got, and who edited their subscription.

import { $, asking, badge, button, card, credits, day, empty, endOfDay, facts, fromNow, h, human, lastDay, localDay, money, newId, number, paged, place, said, say, select, signed, trouble, waiting, when } from "./dom.js";
import { ask, get, userPath } from "./api.js";
import { TYPES, lineCard, onChanged, openAction } from "./actions.js";
import { forecast, refusal } from "./outlook.js";
import { statusBadge } from "./people.js";
import { settings } from "./session.js";

const ROWS = 8;
const MORE_ROWS = 50;
const DAY = 86_400_000;

export function showPerson(userId, tab, may) {
  const page = h("section", { class: "person" }, waiting(6));
  const state = { userId, tab, may, page };
  onChanged(() => load(state));
  load(state);
  return page;
}

async function load(state) {
  const { userId, page } = state;
  const query = { user_id: userId };
  const isNewest = asking(page);
  try {
    const [balance, schedule, subscription] = await Promise.all([
      get("api/credits/balance", query),
      // A user without a subscription has a history and a balance, but no next credits.
      get("api/credits/allocation-schedule", query).catch(unlessMissing),
      state.may.others ? ask("GET", userPath(userId)).catch(unlessMissing) : null,
    ]);
    if (!isNewest()) return;
    state.balance = balance;
    state.schedule = schedule;
    state.subscription = subscription?.body ?? null;
    state.etag = subscription?.headers.get("ETag") ?? null;
    state.zone = state.subscription?.timezone ?? schedule?.timezone ?? "UTC";
  } catch (error) {
    if (error.status === 401 || !isNewest()) return;
    const title = error.status === 404 ? "There is no such user" : error.title;
    page.replaceChildren(crumbs(userId), h("div", { class: "heading" }, h("h1", {}, userId)), trouble(Object.assign(error, { title }), error.status === 404 ? null : () => load(state)));
    return;
  }
  const subject = (state.subject = { user_id: userId, subscription: state.subscription, etag: state.etag, timezone: state.zone });
  page.replaceChildren(
    crumbs(userId),
    heading(state, subject),
    numbers(state),
    tabs(state),
    h("p", { class: "zone-note" }, `Times are those of ${place(state.zone)}.`),
    { overview, history, emails, edits }[state.tab](state, subject),
  );
  $("#main").dataset.loaded = userId;
  if (page.isConnected && !state.isShown) {
    state.isShown = true;
    const title = state.subscription?.email ?? userId;
    document.title = `${title} · ${settings.product}`;
    say(title);
  }
}

function unlessMissing(error) {
  if (error.status === 404) return null;
  throw error;
}

const href = (userId, tab) => `#/users/${encodeURIComponent(userId)}${tab === "overview" ? "" : `/${tab}`}`;

const crumbs = (userId) => h("nav", { class: "crumbs", "aria-label": "Breadcrumbs" }, h("a", { href: "#/users" }, "Users"), h("span", { "aria-hidden": "true" }, "/"), h("span", { "aria-current": "page" }, userId));

function heading(state, subject) {
  const { subscription, may } = state;
  const title = subscription?.email ?? state.userId;
  const act = (name, words, more) => button(words, () => openAction({ name, subject }), more);
  return h(
    "div",
    { class: "heading" },
    h(
      "div",
      {},
      h("h1", {}, title, " ", subscription ? statusBadge(subscription.status) : null),
      h("p", { class: "muted" }, subscription ? `${human(subscription.plan)}, billed ${subscription.billing_interval} · ${subscription.timezone} · ` : may.others ? "No subscription · " : null, h("code", {}, state.userId)),
    ),
    h(
      "div",
      { class: "buttons" },
      may.grants && subscription ? act("allocate_due", "Allocate due") : null,
      may.grants ? act("claw_back", "Claw back") : null,
      may.subscribes && may.grants && subscription ? act("edit", "Edit") : null,
      may.grants ? act("grant", "Grant credits", { class: "main" }) : null,
    ),
  );
}

function numbers({ balance, schedule, zone }) {
  const next = schedule?.next_allocation_at;
  const expiring = schedule?.expiring_credits?.find((each) => each.expires_at);
  const stat = (label, value, note, more = {}) => h("div", { class: "stat", ...more }, h("dt", {}, label), h("dd", {}, h("strong", {}, value), h("small", {}, note)));
  const held = balance.held_balance;
  return h(
    "dl",
    { class: "stats card" },
    stat("Can be spent", number(balance.available_balance), held ? `${number(balance.ledger_balance)} in all` : "now", { id: "available" }),
    stat("Held", number(held), held ? `in ${balance.holds.length} ${balance.holds.length === 1 ? "hold" : "holds"}` : "for no job"),
    next
      ? stat("Next credits", signed(schedule.allocation_amount), `${localDay(schedule.next_allocation_date)}, ${fromNow(next, new Date(balance.as_of))}`)
      : stat("Next credits", "None", schedule?.not_allocated_because?.words.replace(/^./, (letter) => letter.toUpperCase()) ?? "There is no subscription", { class: "stat soon" }),
    expiring
      ? stat("Expire next", number(expiring.amount), `after ${lastDay(expiring.expires_at, zone)}`)
      : stat("Expire next", "None", "no credits have an end"),
  );
}

function tabs({ userId, tab, may }) {
  const all = [["overview", "Credits"], ["history", "History"], may.support ? ["emails", "Emails"] : null, may.support ? ["edits", "Edits"] : null].filter(Boolean);
  return h("nav", { class: "tabs", "aria-label": "About this user" }, all.map(([name, words]) => h("a", { href: href(userId, name), "aria-current": tab === name ? "page" : null }, words)));
}

// --- Credits: batches and holds on a time line ---------------------------------------------------

function overview(state, subject) {
  return h("div", { class: "columns" }, h("div", {}, timeline(state, subject), holds(state, subject), recent(state, subject)), h("div", {}, state.may.others ? aboutThem(state) : null, forecast(state), refusal(state)));
}

function recent(state, subject) {
  const body = h("tbody", {});
  const more = paged(body, async () => {
    const answer = await get("api/credits/history", { user_id: state.userId, limit: 6 });
    return { rows: answer.items.map((line) => historyRow(line, state, subject)), next: null };
  }, { none: empty("Nothing has happened yet"), label: "lines" });
  const section = card("Latest", historyTable(body), more);
  section.append(h("p", { class: "more" }, h("a", { href: href(state.userId, "history") }, "Whole history")));
  return section;
}

function timeline(state, subject) {
  const { balance, zone } = state;
  const batches = balance.batches;
  if (!batches.length) return card("Credits", empty("No credits are left", "What was granted has been used, or has expired."));
  const now = new Date(balance.as_of).getTime();
  const ends = batches.map((batch) => batch.expires_at && new Date(batch.expires_at).getTime()).filter(Boolean);
  const from = Math.min(now - 7 * DAY, Math.max(now - 120 * DAY, ...[Math.min(...batches.map((batch) => new Date(batch.granted_at).getTime()))]));
  const to = Math.max(now + 45 * DAY, ...ends.map((end) => Math.min(end, now + 400 * DAY))) + 5 * DAY;
  const at = (time) => Math.max(0, Math.min(100, ((time - from) / (to - from)) * 100));
  const body = h("tbody", {});
  let shown = 0;
  const more = h("div", { class: "more" });
  const add = (count) => {
    const rows = batches.slice(shown, shown + count).map((batch) => batchRow(batch, at, now, state, subject));
    body.append(...rows);
    shown += rows.length;
    const left = batches.length - shown;
    more.replaceChildren(...(left > 0 ? [button(`Show ${Math.min(left, MORE_ROWS)} more of ${number(batches.length)}`, () => { add(MORE_ROWS); say(`${number(shown)} of ${number(batches.length)} batches are shown.`); })] : []));
  };
  add(ROWS);
  return card(
    "Credits, in the order they are spent",
    expiry(batches, now, zone),
    h(
      "table",
      { class: "list timeline" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Batch"), h("th", { scope: "col", class: "bars" }, axis(from, to, at, now, zone)), h("th", { scope: "col", class: "end" }, "Left"))),
      body,
    ),
    more,
  );
}

const SOURCES = { plan: "Plan", purchase: "Bought", promotion: "Promotion", adjustment: "By hand", carried_over: "Carried over" };

function batchRow(batch, at, now, state, subject) {
  const { zone } = state;
  const granted = new Date(batch.granted_at).getTime();
  const end = batch.expires_at ? new Date(batch.expires_at).getTime() : null;
  const left = at(granted);
  const isSoon = end && end - now < 7 * DAY;
  const bar = h("span", { class: `bar${isSoon ? " soon" : ""}${end ? "" : " forever"}`, style: { left: `${left}%`, right: `${end ? 100 - at(end) : 0}%` } });
  return h(
    "tr",
    {},
    h("td", {}, h("button", { type: "button", class: "link", "aria-label": `${SOURCES[batch.source] ?? "Granted"}, batch ${batch.batch_id}`, onclick: (event) => openBatch(batch, event.target, state, subject) }, SOURCES[batch.source] ?? "Granted"), h("small", {}, day(batch.granted_at, zone))),
    h("td", { class: "bars" }, h("div", { class: "track", "aria-hidden": "true" }, h("i", { class: "now", style: { left: `${at(now)}%` } }), bar), h("small", { class: isSoon ? "soon" : "" }, end ? `through ${lastDay(batch.expires_at, zone)}` : "never expires")),
    h("td", { class: "end" }, h("strong", {}, number(batch.remaining_amount)), h("small", {}, batch.held_amount ? `${number(batch.held_amount)} held` : `of ${number(batch.granted_amount)}`)),
  );
}

function axis(from, to, at, now, zone) {
  const marks = [];
  const span = (to - from) / DAY;
  const step = span > 240 ? 3 : 1;
  const first = new Date(from);
  for (let month = 1; month < 30; month += step) {
    const time = Date.UTC(first.getUTCFullYear(), first.getUTCMonth() + month, 1);
    if (time > to) break;
    if (Math.abs(at(time) - at(now)) < 9 || at(time) > 93) continue;
    marks.push(h("span", { style: { left: `${at(time)}%` } }, new Intl.DateTimeFormat("en-GB", { month: "short", timeZone: "UTC" }).format(time)));
  }
  return h("div", { class: "axis" }, h("span", { class: "unseen" }, "Until when"), h("div", { "aria-hidden": "true" }, h("span", { class: "now", style: { left: `${at(now)}%` } }, "Now"), marks));
}

// What expires when, as one bar: one glance shows any number of batches.
function expiry(batches, now, zone) {
  const within = (low, high) => batches.filter((batch) => batch.expires_at && new Date(batch.expires_at) - now >= low * DAY && new Date(batch.expires_at) - now < high * DAY);
  const sum = (some) => some.reduce((all, batch) => all + batch.remaining_amount, 0);
  const parts = [
    ["within a week", sum(within(0, 7)), "p1"],
    ["within a month", sum(within(7, 31)), "p2"],
    ["later", sum(within(31, Infinity)), "p3"],
    ["never", sum(batches.filter((batch) => !batch.expires_at)), "p4"],
  ].filter(([, amount]) => amount > 0);
  if (!parts.length) return null;
  return h(
    "div",
    { class: "expiry" },
    h("div", { class: "stack", "aria-hidden": "true" }, parts.map(([, amount, tone]) => h("i", { class: tone, style: { "flex-grow": amount } }))),
    h("ul", {}, parts.map(([words, amount, tone]) => h("li", {}, h("i", { class: tone, "aria-hidden": "true" }), `${number(amount)} expire${amount === 1 ? "s" : ""} ${words}`))),
  );
}

function holds({ balance, zone, may, userId }, subject) {
  if (!balance.holds.length) return null;
  const section = card("Holds");
  const body = h("tbody", {});
  const fill = (details) => body.replaceChildren(
    ...balance.holds.map((hold) => {
      const known = details.find((each) => each.hold_id === hold.hold_id);
      return h(
        "tr",
        {},
        h("td", { class: "first" }, known?.description ?? hold.hold_id, h("small", {}, hold.hold_id)),
        h("td", { "data-label": "Free again" }, when(hold.expires_at, zone), h("small", {}, fromNow(hold.expires_at, new Date(balance.as_of)))),
        h("td", { class: "end", "data-label": "Held" }, h("strong", {}, number(hold.amount))),
        h("td", { class: "end" }, may.releases ? button("Release", () => openAction({ name: "release", subject: { ...subject, hold_id: hold.hold_id, amount: hold.amount } }), { class: "small", "aria-label": `Release the hold ${known?.description ?? hold.hold_id}` }) : null),
      );
    }),
  );
  fill([]);
  get("api/credits/holds", { user_id: userId }).then((answer) => fill(answer.holds), () => {});
  section.append(h("table", { class: "list holds" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Job"), h("th", { scope: "col" }, "Free again"), h("th", { scope: "col", class: "end" }, "Held"), h("th", {}, h("span", { class: "unseen" }, "What to do")))), body));
  return section;
}

function aboutThem({ subscription, zone, schedule }) {
  if (!subscription) return card("Subscription", empty("None", "This user has credits and no subscription, or your scopes do not show it."));
  const now = subscription;
  const mails = now.mail_suppressed_because ? h("span", { class: "bad" }, `none: ${human(now.mail_suppressed_because)}`) : now.email ? `${now.notifications.length} kinds` : "none: no address";
  return card(
    "Subscription",
    facts([
      ["Email", now.email],
      ["Emails", mails],
      ["Plan", `${human(now.plan)}, ${now.billing_interval}`],
      ["Status", human(now.status)],
      ["A month", now.credit_allocation_amount === null ? "–" : `${credits(now.credit_allocation_amount)}${now.allocation_amount === null ? "" : " (own amount)"}`],
      now.next_credit_allocation ? ["Next credits", localDay(now.next_credit_allocation)] : ["No credits because", h("span", { class: "soon" }, now.not_allocated_because?.words)],
      schedule?.balance_cap ? ["Filled up to", number(schedule.balance_cap)] : null,
      ["Timezone", now.timezone],
      ["Started", when(now.started_at, zone)],
      ["Paid since", when(now.eligible_from, zone)],
      now.resumed_at ? ["Resumed", when(now.resumed_at, zone)] : null,
      ["Ends", now.ends_at ? when(now.ends_at, zone) : "–"],
    ]),
  );
}

// --- History -------------------------------------------------------------------------------------

function historyTable(body) {
  return h(
    "table",
    { class: "list history" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "When"), h("th", { scope: "col" }, "What"), h("th", { scope: "col", class: "end" }, "Credits"), h("th", { scope: "col", class: "end" }, "Balance"))),
    body,
  );
}

const ago = (instant, { zone, balance }) => [when(instant, zone), h("small", {}, fromNow(instant, new Date(balance.as_of)))];

function historyRow(line, state, subject) {
  const what = line.description || TYPES[line.type] || human(line.type);
  return h(
    "tr",
    {},
    h("td", { class: "when" }, ago(line.effective_at, state)),
    h("td", { class: "what" }, h("button", { type: "button", class: "link", onclick: () => openLine(line, state, subject) }, what), h("small", {}, badge(TYPES[line.type] ?? human(line.type)), line.actor && line.actor !== "system" ? ` by ${line.actor}` : "")),
    h("td", { class: "end" }, h("strong", { class: line.amount > 0 ? "up" : "" }, line.amount ? signed(line.amount) : h("span", { class: "muted" }, `${number(line.held_amount ?? line.released_amount ?? 0)} ${line.type === "hold" ? "held" : "free"}`))),
    h("td", { class: "end muted" }, number(line.balance_after)),
  );
}

let filter = { type: "", search: "", metadata: "", until: "" };
const MOST_SEARCHES = 20;

function history(state, subject) {
  const area = h("div", {});
  const type = select("type", [["", "All types"], ...Object.entries(TYPES)], filter.type, { "aria-label": "Type" });
  const search = h("input", { type: "search", name: "search", placeholder: "Text in description or metadata", "aria-label": "Search", value: filter.search, autocomplete: "off" });
  const metadata = h("input", { name: "metadata", placeholder: "Metadata, such as job=42", "aria-label": "Metadata", value: filter.metadata, autocomplete: "off", pattern: "[a-z0-9_]+=.+" });
  const until = h("input", { type: "date", name: "until", value: filter.until });
  const fill = () => {
    filter = { type: type.value, search: search.value.trim(), metadata: metadata.value.trim(), until: until.value };
    const [key, ...value] = filter.metadata.split("=");
    const body = h("tbody", {});
    const asked = {
      user_id: state.userId,
      limit: 25,
      type: filter.type,
      search: filter.search,
      to: filter.until && endOfDay(filter.until, state.zone),
      ...(key && value.length ? { [`metadata.${key}`]: value.join("=") } : {}),
    };
    const more = paged(body, async (cursor) => {
      // An answer covers a part of a long history: it can be empty without being the last.
      for (let left = MOST_SEARCHES; ; left -= 1) {
        const answer = await get("api/credits/history", { ...asked, cursor });
        cursor = answer.next_cursor;
        if (answer.items.length || !cursor || left <= 1 || !body.isConnected) return { rows: answer.items.map((line) => historyRow(line, state, subject)), next: cursor };
      }
    }, { none: empty("No line is like this", "Change or clear the filters."), label: "lines" });
    area.replaceChildren(h("div", { class: "card flush" }, historyTable(body)), more);
  };
  const form = h("form", { class: "filters", role: "search", onsubmit: (event) => { event.preventDefault(); fill(); }, onchange: (event) => { if (event.target.matches("select, [type=date]")) fill(); } }, search, type, metadata, h("label", {}, "Through", until), h("button", {}, "Search"));
  fill();
  return h("div", {}, form, area);
}

// The line that granted a batch.
async function openBatch(batch, pressed, state, subject) {
  pressed.disabled = true;
  try {
    openLine(await get(`api/credits/transactions/${encodeURIComponent(batch.batch_id)}`), state, subject);
  } catch (error) {
    if (error.status !== 401) pressed.after(trouble(error));
  } finally {
    pressed.disabled = false;
  }
}

// One line of the ledger: what it moved, its email and events, and what can be done about it.
function openLine(line, state, subject) {
  const titleId = newId();
  const { may, zone } = state;
  const close = () => dialog.close();
  const mail = h("div", {});
  const events = h("div", {});
  const act = (name, more, values) => { close(); openAction({ name, subject: { ...subject, ...more }, values }); };
  // The rest of the batch that it granted.
  const batch = state.balance.batches.find((each) => each.batch_id === line.transaction_id);
  const buttons = [
    may.reverses && line.type === "usage" ? button("Give back …", () => act("give_back", { transaction_id: line.transaction_id, most: -line.amount })) : null,
    may.refunds && line.type === "purchase" ? button("Refund …", () => act("refund", { payment_id: line.payment_id, bought: line.amount, bought_at: line.effective_at })) : null,
    may.grants && batch ? button("Void …", () => act("void", { batch }, { description: `Undo ${line.transaction_id}` })) : null,
    may.grants && line.type === "manual" && line.amount < 0 ? button("Grant again …", () => act("grant", {}, { amount: String(-line.amount), description: `Undo ${line.transaction_id}`, notify: "on" })) : null,
    may.support ? button("Email", () => showEmail(line.transaction_id, mail)) : null,
    may.support ? button("Events", () => showEvents(line.transaction_id, events)) : null,
  ].filter(Boolean);
  const metadata = Object.entries(line.metadata ?? {});
  const dialog = h(
    "dialog",
    { class: "action", "aria-labelledby": titleId },
    h("div", { class: "top" }, h("div", {}, h("h2", { id: titleId, tabindex: "-1" }, `Line ${line.transaction_id}`)), button("×", close, { class: "close", "aria-label": "Close" })),
    lineCard(line, zone),
    facts([
      ["Took effect", when(line.effective_at, zone)],
      line.posted_at !== line.effective_at ? ["Written", when(line.posted_at, zone)] : null,
      ["By", line.actor],
      batch ? ["Left of its batch", `${number(batch.remaining_amount)}, ${batch.expires_at ? `through ${lastDay(batch.expires_at, zone)}` : "never expires"}`] : null,
      line.allocation_period ? ["For the month", line.allocation_period] : null,
      line.payment_id ? ["Payment", line.payment_id] : null,
      line.price ? ["Price", money(line.price)] : null,
      line.hold_id ? ["Hold", line.hold_id] : null,
      line.unrecovered_amount ? ["Not recovered", number(line.unrecovered_amount)] : null,
      line.left_out_amount ? ["Did not fit", number(line.left_out_amount)] : null,
      ...line.batches.slice(0, 12).map((move) => [`Batch ${move.batch_id}`, signed(move.amount)]),
      ...metadata.map(([key, value]) => [key, value]),
    ]),
    buttons.length ? h("div", { class: "buttons start" }, buttons) : null,
    mail,
    events,
    said(),
  );
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

async function showEvents(transactionId, area) {
  area.replaceChildren(waiting(2));
  try {
    const answer = await get(`api/credits/transactions/${encodeURIComponent(transactionId)}/events`);
    area.replaceChildren(h("h3", {}, "Events, as they were published"), h("pre", { tabindex: 0 }, JSON.stringify(answer.events, null, 2)));
    say("The events are shown.");
  } catch (error) {
    area.replaceChildren(trouble(error, error.status === 404 ? null : () => showEvents(transactionId, area)));
  }
}

// --- Emails --------------------------------------------------------------------------------------

const STATES = {
  sent: ["Sent", "good", "Amazon SES has taken it"],
  in_doubt: ["In doubt", "soon", "It may have been sent: nobody sends it twice"],
  unrecorded: ["Not sent", "", "The user has no address, wants none of these, or it waits in the queue"],
  unreadable: ["Unreadable", "bad", "The record of it cannot be read"],
};

function emails(state) {
  const body = h("tbody", {});
  const preview = h("div", { class: "preview" });
  const row = (mail) => {
    const [words, tone, meaning] = STATES[mail.state] ?? [human(mail.state), "", ""];
    return h(
      "tr",
      {},
      h("td", { class: "when" }, ago(mail.sent_at ?? mail.posted_at, state)),
      h("td", { class: "what" }, h("button", { type: "button", class: "link", onclick: () => showEmail(mail.transaction_id, preview, "h2") }, mail.subject ?? human(mail.type)), h("small", {}, human(mail.type), ` · line ${mail.transaction_id}`)),
      h("td", { class: "end" }, h("span", { title: meaning }, badge(words, tone))),
    );
  };
  const more = paged(body, async (cursor) => {
    const answer = await get(`${userPath(state.userId)}/emails`, { cursor });
    return { rows: answer.items.map(row), next: answer.next_cursor };
  }, { none: empty("No emails yet", "Users are told of what happens to their credits, unless they asked not to be."), label: "emails" });
  return h("div", { class: "columns even" }, h("div", {}, h("div", { class: "card flush" }, h("table", { class: "list" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "When"), h("th", { scope: "col" }, "Email"), h("th", { scope: "col", class: "end" }, "State"))), body)), more), preview);
}

// heading: one level below that of the part in which the email is shown.
async function showEmail(transactionId, area, heading = "h3") {
  area.replaceChildren(waiting(3));
  const isNewest = asking(area);
  try {
    const mail = await get(`api/credits/transactions/${encodeURIComponent(transactionId)}/email`);
    if (!isNewest()) return;
    const frame = frameOf(mail);
    const subject = h(heading, { tabindex: "-1", class: "subject" }, mail.subject);
    area.replaceChildren(subject, frame);
    subject.focus();
    area.scrollIntoView({ block: "nearest" });
  } catch (error) {
    if (!isNewest()) return;
    const words = error.status === 404 ? Object.assign(new Error("Users get no email about this line, or they had no address."), { title: "There is no email" }) : error;
    area.replaceChildren(trouble(words, error.status === 404 ? null : () => showEmail(transactionId, area, heading)));
  }
}

// The email as the user sees it, in a frame that runs nothing and loads nothing. The policy of this
// page, which the frame inherits, allows no style in markup: so the styles are set one by one.
function frameOf(mail) {
  // Before it is parsed: otherwise the policy would report each style.
  const plain = mail.html.replace(/<[a-z][^>]*>/gi, (tag) => tag.replace(/\sstyle=/gi, " data-style="));
  const { content: parsed } = Object.assign(document.createElement("template"), { innerHTML: plain });
  const sheets = [...parsed.querySelectorAll("style")].map((style) => { style.remove(); return style.textContent; });
  for (const unwanted of parsed.querySelectorAll("title, script, link, meta, base, iframe, object, embed, form")) unwanted.remove();
  for (const element of parsed.querySelectorAll("[href], [src]")) {
    element.removeAttribute("href");
    element.removeAttribute("src");
  }
  const frame = h("iframe", { title: `Email: ${mail.subject}`, sandbox: "allow-same-origin", class: "mail" });
  frame.addEventListener("load", () => {
    const inside = frame.contentDocument;
    for (const text of sheets) {
      const sheet = new frame.contentWindow.CSSStyleSheet();
      sheet.replaceSync(text);
      inside.adoptedStyleSheets.push(sheet);
    }
    for (const element of inside.querySelectorAll("[data-style]")) element.style.cssText = element.dataset.style;
    frame.style.height = `${Math.min(900, inside.documentElement.scrollHeight + 4)}px`;
  });
  frame.srcdoc = h("div", {}, parsed).innerHTML;
  return frame;
}

// --- Edits ---------------------------------------------------------------------------------------

const isInstant = (value) => typeof value === "string" && /^\d{4}-\d\d-\d\dT/.test(value);
const shownValue = (value, zone) => (isInstant(value) ? when(value, zone) : value === null ? "nothing" : Array.isArray(value) ? value.join(", ") || "none" : String(value));

function edits(state) {
  const list = h("ol", { class: "trail" });
  const row = (edit) => h(
    "li",
    {},
    h("p", {}, h("strong", {}, edit.edited_by.subject ?? human(edit.edited_by.kind)), edit.edited_by.subject ? h("span", { class: "muted" }, ` ${human(edit.edited_by.kind)}`) : null, " · ", when(edit.edited_at, state.zone), h("small", {}, ` version ${edit.version}`)),
    edit.changes.every((change) => change.before === null)
      ? facts(edit.changes.map((change) => [human(change.field), shownValue(change.after, state.zone)]))
      : h("ul", { class: "changes" }, edit.changes.map((change) => h("li", {}, h("strong", {}, human(change.field)), " ", h("del", {}, shownValue(change.before, state.zone)), " → ", h("ins", {}, shownValue(change.after, state.zone))))),
  );
  const more = paged(list, async (cursor) => {
    const answer = await get(`${userPath(state.userId)}/edits`, { limit: 25, cursor });
    return { rows: answer.items.map(row), next: answer.next_cursor };
  }, { none: empty("Nobody has edited it", "Edits are kept since the release that records them."), label: "edits" });
  return card("Who edited the subscription", list, more);
}
