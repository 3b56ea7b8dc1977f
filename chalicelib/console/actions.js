// The actions of support staff. Each action first says what it will do (the API's own dry run), asks,
// shows the resulting line, and offers the opposite if there is one.
//
// The idempotency key is made with the form, before the first try, and kept until an answer has come:
// so sending the same again after a lost answer changes nothing twice.

import { badge, button, clock, credits, field, h, human, isoDay, lastDay, localDay, newId, number, said, say, select, signed, trouble, waiting } from "./dom.js";
import { Lost, SLOW, ask, get, userPath } from "./api.js";
import { planNames } from "./people.js";

const MOST_PAGES = 20;

let open = null; // {name, subject, values, key, isUnknown}

// An unsent form, to restore after the next sign-in.
export const draftOf = () => open && { name: open.name, subject: open.subject, values: valuesOf(open), key: open.key, isUnknown: open.isUnknown };

let changed = () => {};
// Called when an action has changed something.
export const onChanged = (handler) => { changed = handler; };

const text = (name, more) => h("input", { name, type: "text", autocomplete: "off", ...more });
const whole = (name, more) => h("input", { name, type: "number", inputmode: "numeric", step: 1, autocomplete: "off", ...more });
const amount = (most = null) => field("Credits", whole("amount", { min: 1, max: most, required: true }));
const why = (hint) => field("Reason", text("description", { required: true, maxlength: 200 }), hint);

// How long granted credits live; the days are only asked for if they matter.
function lifetime() {
  const days = whole("days", { min: 1, max: 3650, required: true });
  const asked = field("Days", days);
  const life = select("life", [["plan", "As those of the user's plan"], ["days", "After some days"], ["never", "Never"]], "plan", { onchange: () => follow() });
  const follow = () => { asked.hidden = days.disabled = life.value !== "days"; };
  life.addEventListener("filled", follow);
  follow();
  return [field("They expire", life), asked];
}

// Undoes a void: a new batch, as similar to the old one as a grant can make it. Whole local days from
// now on; the rest of today comes on top.
function grantLike(batch, amount, zone, reason) {
  const kept = { priority: batch.priority, ...(batch.source === "promotion" ? { source: batch.source } : {}) };
  const date = (instant) => new Date(`${isoDay(instant, zone)}T12:00:00Z`);
  const days = batch.expires_at && Math.round((date(batch.expires_at) - date(clock.now())) / 86_400_000) - 1;
  return [
    { kept, instead: "The batch itself does not come back. A new one of as many credits takes its place: with the same priority and, unless it ends today, the same end. It is younger, so among equals it is spent later." },
    { amount: String(amount), description: reason, ...(batch.expires_at ? { life: "days", days: String(Math.max(1, days)) } : { life: "never" }) },
  ];
}

const LIVES = { plan: () => "They expire as the credits of the user's plan do.", never: () => "They never expire.", days: (values) => `They expire after ${number(values.days)} days.` };

// subject: the user and the object of the action. Every action has a path and a body; `keyed` ones take a key.
const ACTIONS = {
  grant: {
    title: "Grant credits",
    verb: "Grant",
    keyed: true,
    fields: (subject) => [
      subject.instead ? h("p", {}, subject.instead) : null,
      amount(),
      why("The user sees it in their history and in the email."),
      ...lifetime(),
      h("label", { class: "check" }, h("input", { type: "checkbox", name: "notify", checked: true }), "Tell the user by email"),
    ],
    path: () => "api/credits/allocate",
    body: (subject, values) => ({
      user_id: subject.user_id,
      amount: Number(values.amount),
      description: values.description,
      ...(values.life === "never" ? { expires_in_days: null } : values.life === "days" ? { expires_in_days: Number(values.days) } : {}),
      notify: values.notify === "on",
      ...subject.kept,
    }),
    notes: (answer, values) => [LIVES[values.life](values)],
    // Not a claw-back: that takes credits in the order of spending, from any batch.
    opposite: (subject, values, answer) => ["void", { ...bare(subject), batch: { batch_id: answer.transaction_id } }, { description: `Undo ${answer.transaction_id}` }],
  },
  claw_back: {
    title: "Claw back credits",
    verb: "Claw back",
    danger: true,
    keyed: true,
    fields: () => [
      amount(),
      why("The user sees it in their history and in the email."),
      h("label", { class: "check" }, h("input", { type: "checkbox", name: "up_to_available" }), "Take what is left, if that is less"),
      h("label", { class: "check" }, h("input", { type: "checkbox", name: "notify" }), "Tell the user by email"),
    ],
    path: () => "api/credits/allocate",
    body: (subject, values) => ({
      user_id: subject.user_id,
      amount: -Number(values.amount),
      description: values.description,
      notify: values.notify === "on",
      ...(values.up_to_available === "on" ? { up_to_available: true } : {}),
    }),
    opposite: (subject, values, answer) => [
      "grant",
      { ...bare(subject), instead: "What was clawed back does not return to its batches. A new one of as many credits takes its place." },
      { amount: String(Math.abs(answer.amount ?? values.amount)), description: `Undo ${answer.transaction_id}` },
    ],
  },
  void: {
    title: "Void a batch",
    verb: "Void",
    danger: true,
    keyed: true,
    fields: ({ batch }) => [
      h("p", {}, `Takes back all that is left of batch ${batch.batch_id}, and nothing of another. What was used of it stays used.`),
      batch.source === "purchase" ? h("p", { class: "soon" }, "It was bought. If the money is paid back, refund the purchase instead: then the payment and the credits agree.") : null,
      why("The user sees it in their history and in the email."),
      batch.held_amount === 0 ? null : h("label", { class: "check" }, h("input", { type: "checkbox", name: "including_held" }), batch.held_amount ? `Take the ${number(batch.held_amount)} that are held, too: their jobs may fail` : "Take what is held of it, too"),
      h("label", { class: "check" }, h("input", { type: "checkbox", name: "notify" }), "Tell the user by email"),
    ],
    path: ({ batch }) => `api/credits/batches/${encodeURIComponent(batch.batch_id)}/void`,
    body: (subject, values) => ({
      description: values.description,
      notify: values.notify === "on",
      ...(values.including_held === "on" ? { including_held: true } : {}),
    }),
    notes: (answer, values, { batch }) => (batch.held_amount && values.including_held !== "on" ? [`${credits(batch.held_amount)} of it are held, and stay.`] : []),
    opposite: (subject, values, answer) => {
      if (subject.batch.granted_at === undefined) return null; // itself an undo, of a grant
      const [more, again] = grantLike(subject.batch, answer.taken, subject.timezone, `Undo ${answer.transaction_id}`);
      return ["grant", { ...bare(subject), ...more }, again];
    },
  },
  refund: {
    title: "Refund a purchase",
    verb: "Refund",
    danger: true,
    // The earlier refunds: the newest report of this payment.
    prepare: async (subject) => ({ ...subject, before: await refundedBefore(subject) }),
    fields: (subject) => [
      h("p", {}, `${credits(subject.bought)} were bought with payment ${subject.payment_id}. The money is paid back where it was taken; here you say how many of the credits that comes to.`),
      field(
        "Credits refunded in all",
        whole("amount", { min: 0, max: subject.bought, required: true, value: subject.bought }),
        subject.before === null ? "Those of earlier refunds included." : subject.before ? `${number(subject.before)} so far. Less than that gives credits back.` : "None so far.",
      ),
      why("It is shown in their history."),
    ],
    path: () => "api/credits/refunds",
    body: (subject, values) => ({ payment_id: subject.payment_id, amount: Number(values.amount), description: values.description }),
    notes: (answer) => [
      answer.unrecovered ? `${credits(answer.unrecovered)} had been used or are held: they stay unrecovered.` : null,
      answer.expired_amount ? `${credits(answer.expired_amount)} of it have expired meanwhile and stay expired.` : null,
    ].filter(Boolean),
    opposite: (subject, values, answer) => (subject.before === null ? null : ["refund", { ...subject, before: Number(values.amount) }, { amount: String(subject.before), description: `Undo ${answer.transaction_id}` }]),
  },
  give_back: {
    title: "Give a usage back",
    verb: "Give back",
    keyed: true,
    fields: (subject) => [
      field("Credits", whole("amount", { min: 1, max: subject.most, required: true, value: subject.most }), `At most ${number(subject.most)}, less what was given back before.`),
      why("The user sees it in their history."),
    ],
    path: () => "api/credits/reverse",
    body: (subject, values) => ({ user_id: subject.user_id, transaction_id: subject.transaction_id, amount: Number(values.amount), description: values.description }),
    notes: (answer) => (answer.expired_amount ? [`${credits(answer.expired_amount)} of it have expired meanwhile and stay expired.`] : []),
  },
  release: {
    title: "Release a hold",
    verb: "Release",
    danger: true,
    fields: (subject) => [h("p", {}, `${credits(subject.amount)} are free again at once. The holder can no longer capture them: the job may fail, or be done for nothing.`)],
    path: (subject) => `api/credits/holds/${encodeURIComponent(subject.hold_id)}/release`,
    body: () => ({}),
  },
  allocate_due: {
    title: "Allocate what is due",
    verb: "Allocate",
    fields: () => [field("Month", h("input", { type: "month", name: "period", required: true, value: new Date(clock.now()).toISOString().slice(0, 7) }), "Credits that came already do not come again.")],
    path: () => "api/credits/allocation-runs",
    body: (subject, values) => ({ period: values.period, user_id: subject.user_id }),
    said: (answer) => dueLines(answer.items, answer.not_judged),
    isNothing: (answer) => !answer.items.length,
  },
  run: {
    title: "Run the allocation of a month",
    verb: "Start",
    fields: (subject) => [
      field("Month", h("input", { type: "month", name: "period", required: true, value: subject.period })),
      field("Timezones", text("zones", { placeholder: "All" }), "Separated by commas. Who has their credits already gets nothing."),
    ],
    path: () => "api/credits/allocation-runs",
    body: (subject, values) => {
      const zones = (values.zones ?? "").split(",").map((zone) => zone.trim()).filter(Boolean);
      return { period: values.period, ...(zones.length ? { zones } : {}) };
    },
    tryAll: previewOfRun,
    said: (answer) =>
      answer.items
        ? [...dueLines(answer.items, answer.not_judged), answer.next_cursor ? h("p", {}, "There may be more: not everybody was looked at.") : null]
        : [h("p", {}, `${answer.sweeps === 1 ? "One sweep has" : `${number(answer.sweeps)} sweeps have`} started. The credits come within minutes.`)],
  },
  edit: {
    title: "Edit the subscription",
    verb: "Save",
    method: "PATCH",
    fields: (subject) => editFields(subject.subscription),
    path: (subject) => userPath(subject.user_id),
    body: (subject, values) => changesOf(subject.subscription, values),
    match: (subject) => subject.etag,
    said: (answer, subject, values) => editLines(answer, subject, values),
    opposite: (subject, values, answer, headers) => [
      "edit",
      { ...subject, subscription: answer, etag: headers.get("ETag") },
      Object.fromEntries(EDITED.map((name) => [name, asText(subject.subscription[name])])),
    ],
  },
};

// The subject, without what an earlier action added.
const bare = ({ user_id, subscription, etag, timezone }) => ({ user_id, subscription, etag, timezone });

// Null if it is further back than we look.
async function refundedBefore({ user_id, payment_id, bought_at }) {
  for (let page = 0, cursor = null; page < MOST_PAGES; page += 1) {
    const found = await get("api/credits/history", { user_id, type: "refund", from: bought_at, limit: 100, cursor });
    const newest = found.items.find((line) => line.payment_id === payment_id);
    if (newest) return newest.refunded_amount;
    cursor = found.next_cursor;
    if (!cursor) return 0;
  }
  return null;
}

// --- Editing a subscription ----------------------------------------------------------------------

const EDITED = ["email", "plan", "billing_interval", "status", "timezone", "allocation_amount", "ends_at"];
const asText = (value) => (value === null || value === undefined ? "" : String(value));

function editFields(now) {
  const plan = select("plan", [[now.plan, human(now.plan)]], now.plan);
  planNames().then((found) => {
    const chosen = plan.value;
    plan.replaceChildren(...found.map((each) => h("option", { value: each.id }, each.name)));
    if (!found.some((each) => each.id === chosen)) plan.append(h("option", { value: chosen }, chosen));
    plan.value = chosen;
  }, () => {});
  const both = (name, options) => select(name, options.map((each) => [each, human(each)]), now[name]);
  return [
    field("Email", text("email", { value: asText(now.email), type: "email" })),
    h("div", { class: "two" }, field("Plan", plan), field("Billed", both("billing_interval", ["yearly", "monthly"]))),
    h("div", { class: "two" }, field("Status", both("status", ["active", "paused", "cancelled"])), field("Timezone", text("timezone", { value: now.timezone, list: "all-zones", required: true }))),
    h("datalist", { id: "all-zones" }, (Intl.supportedValuesOf?.("timeZone") ?? []).map((zone) => h("option", { value: zone }))),
    h(
      "div",
      { class: "two" },
      field("Own amount a month", whole("allocation_amount", { min: 1, value: asText(now.allocation_amount) }), "Empty: that of the plan."),
      field("Ends at", text("ends_at", { value: asText(now.ends_at), placeholder: "2027-01-31T00:00:00Z" }), "Empty: it goes on."),
    ),
  ];
}

function changesOf(now, values) {
  const changes = {};
  for (const name of EDITED) {
    if (values[name] === undefined || values[name] === asText(now[name])) continue;
    changes[name] = values[name] === "" ? null : name === "allocation_amount" ? Number(values[name]) : values[name];
  }
  return changes;
}

function editLines(answer, subject, values) {
  const changes = Object.keys(changesOf(subject.subscription, values));
  const next = answer.next_credit_allocation;
  return [
    h(
      "ul",
      { class: "changes" },
      changes.map((name) => h("li", {}, h("strong", {}, human(name)), " ", h("del", {}, asText(subject.subscription[name]) || "nothing"), " → ", h("ins", {}, asText(answer[name]) || "nothing"))),
    ),
    h("p", {}, next ? `Next credits: ${number(answer.credit_allocation_amount)} on ${localDay(next)}.` : `No more credits come: ${answer.not_allocated_because?.words ?? "the plan grants none"}.`),
    ...(answer.due?.length ? [h("p", {}, "It makes due at once:"), ...dueLines(answer.due, [])] : []),
  ];
}

// A page of a preview can be empty without being the last.
async function previewOfRun(path, body) {
  const found = { items: [], not_judged: [], next_cursor: null };
  for (let page = 0; page < MOST_PAGES; page += 1) {
    const { body: answer } = await ask("POST", path, { body: { ...body, dry_run: true, limit: 100, cursor: found.next_cursor } });
    found.items.push(...answer.items);
    found.not_judged.push(...answer.not_judged);
    found.next_cursor = answer.next_cursor;
    if (!answer.next_cursor) break;
  }
  return found;
}

function dueLines(items, notJudged = []) {
  if (!items.length && !notJudged.length) return [h("p", {}, "Nothing was found that is due: the credits of that month have come, or none are to come.")];
  const sum = items.reduce((all, each) => all + each.amount, 0);
  return [
    items.length ? h("p", {}, h("strong", {}, `${credits(sum)} for ${items.length === 1 ? "one user" : `${number(items.length)} users`}`)) : null,
    h("ul", { class: "changes" }, items.slice(0, 8).map((each) => h("li", {}, `${each.user_id}: ${credits(each.amount)} for ${each.allocation_period}`, each.expires_at ? `, through ${lastDay(each.expires_at, each.timezone)}` : ""))),
    items.length > 8 ? h("p", {}, `… and ${number(items.length - 8)} more.`) : null,
    notJudged.length ? h("p", { class: "bad" }, `${notJudged.length} could not be judged: ${notJudged[0].user_id}, ${notJudged[0].words}.`) : null,
  ].filter(Boolean);
}

// --- The dialog ----------------------------------------------------------------------------------

const valuesOf = (state) => (state.form ? Object.fromEntries(new FormData(state.form)) : state.values);

function fillIn(form, values) {
  for (const element of form.elements) {
    if (!element.name || !(element.name in values || element.type === "checkbox")) continue;
    if (element.type === "checkbox") element.checked = values[element.name] === "on";
    else {
      if (element.tagName === "SELECT" && ![...element.options].some((option) => option.value === values[element.name])) element.append(h("option", { value: values[element.name] }, values[element.name]));
      element.value = values[element.name];
      element.dispatchEvent(new Event("filled"));
    }
  }
}

// Opens an action: {name, subject, values?, key?}. A draft has all four.
export function openAction({ name, subject, values = null, key = null, isUnknown = false }) {
  const action = ACTIONS[name];
  const titleId = newId();
  const title = h("h2", { id: titleId, tabindex: "-1" }, action.title);
  const about = subject.user_id ? h("p", { class: "about" }, `User ${subject.user_id}`) : null;
  const body = h("div", { class: "step" });
  const leave = button("×", () => close(), { class: "close", "aria-label": "Close" });
  const dialog = h("dialog", { class: "action", "aria-labelledby": titleId }, h("div", { class: "top" }, h("div", {}, title, about), leave), body, said());
  const state = { name, subject, action, key: key ?? crypto.randomUUID(), isUnknown, values, form: null };
  open = state;
  const from = document.activeElement;
  const close = () => { dialog.close(); };
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (open === state) open = null;
    if (from?.isConnected) from.focus();
    if (state.isDone || state.isUnknown) changed();
  });
  // After sending, the outcome must be shown.
  dialog.addEventListener("cancel", (event) => { if (leave.disabled) event.preventDefault(); });
  document.body.append(dialog);
  const step = (...parts) => {
    leave.disabled = false;
    body.replaceChildren(...parts.flat().filter(Boolean));
    // Screen readers announce the new step.
    title.focus();
  };

  const request = async (isDry) => {
    const sent = state.values;
    if (isDry && action.tryAll) return { body: await action.tryAll(action.path(subject), action.body(subject, sent)) };
    return ask(action.method ?? "POST", action.path(subject), {
      body: { ...action.body(subject, sent), ...(isDry ? { dry_run: true } : {}) },
      key: action.keyed ? state.key : null,
      match: action.match?.(subject),
    });
  };

  const showForm = (error = null) => {
    const id = newId();
    const next = h("button", { class: "main" }, "Review");
    const form = h(
      "form",
      { id, onsubmit: (event) => { event.preventDefault(); state.values = valuesOf(state); review(next); } },
      error ? trouble(error) : null,
      action.fields(subject),
      h("div", { class: "buttons" }, button("Cancel", close), next),
    );
    if (state.values) fillIn(form, state.values);
    state.form = form;
    step(form);
    if (!error) (form.querySelector("input:not([type=checkbox]), select") ?? next).focus();
    markFields(form, error);
  };

  const review = async (pressed) => {
    if (action.method === "PATCH" && !Object.keys(action.body(subject, state.values)).length) {
      return showForm(Object.assign(new Error("Change a field first."), { title: "Nothing has changed" }));
    }
    const stop = busy(pressed, "Checking …");
    try {
      const { body: answer, headers } = await request(true);
      if (dialog.open) ready(answer, headers?.get("Idempotency-Replayed") === "true");
    } catch (error) {
      if (error.status === 401 || !dialog.open) return;
      if (error.status === 412) return conflict();
      showForm(error);
    } finally {
      stop();
    }
  };

  const ready = (answer, isDone) => {
    const act = button(action.verb, () => send(act), { class: action.danger ? "danger" : "main" });
    const isNothing = isDone || action.isNothing?.(answer);
    state.form = null;
    step(
      h("h3", {}, isDone ? "It was done already" : "This will happen"),
      ...outcome(answer),
      h("div", { class: "buttons" }, button("Back", () => showForm()), isNothing ? null : act),
    );
    say("Nothing has been done yet. Check what will happen.");
  };

  const notesOf = (answer) => (action.notes?.(answer, state.values, subject) ?? []).map((words) => h("p", {}, words));

  const outcome = (answer) => {
    const notes = notesOf(answer);
    if (action.said) return [...action.said(answer, subject, state.values), ...notes];
    return [answer.transaction ? lineCard(answer.transaction, subject.timezone) : null, h("p", {}, `Then ${credits(answer.new_balance)} can be used.`), ...notes];
  };

  const send = async (pressed) => {
    for (const other of body.querySelectorAll("button")) other.disabled = true;
    leave.disabled = true;
    const stop = busy(pressed, "Sending …");
    try {
      const { body: answer, headers } = await request(false);
      await done(answer, headers);
    } catch (error) {
      if (error instanceof Lost) return lost(error);
      if (error.status === 401) return;
      if (error.status === 412) return conflict();
      // The API has answered: nothing is unknown any more.
      state.isUnknown = false;
      showForm(error);
    } finally {
      stop();
    }
  };

  // Nobody knows whether it was done. The same key makes the second try harmless.
  const lost = (error) => {
    state.isUnknown = true;
    const again = button("Send it again", () => send(again), { class: "main" });
    step(
      trouble(error),
      h("p", {}, action.keyed || !action.method ? "It may have been done, or not. Send it again: it is the same request, so it is done once, however often you send it." : "It may have been done, or not. Send it again: if it was done, you are told that the subscription has changed."),
      h("div", { class: "buttons" }, button("Close", close), again),
    );
    again.focus();
  };

  const conflict = async () => {
    let now;
    try {
      now = await ask("GET", userPath(subject.user_id));
    } catch (error) {
      return showForm(error);
    }
    const mine = { ...action.body(subject, state.values) };
    const theirs = EDITED.filter((each) => asText(now.body[each]) !== asText(subject.subscription[each]));
    const mineIsThere = Object.keys(mine).every((each) => asText(now.body[each]) === asText(mine[each]));
    subject = { ...subject, subscription: now.body, etag: now.headers.get("ETag") };
    state.subject = subject;
    state.isUnknown = false;
    state.isDone = true;
    // Their changes are taken over; what was typed here stays.
    state.values = Object.fromEntries(EDITED.map((each) => [each, each in mine ? asText(mine[each]) : asText(now.body[each])]));
    step(
      h("div", { class: "trouble", role: "alert" }, h("div", {}, h("strong", {}, mineIsThere ? "It is as you wanted it" : "Somebody else has changed it meanwhile"), h("p", {}, mineIsThere ? "Your edit was made, or somebody made the same." : "Nothing of yours was saved. This is what they changed:"))),
      h("ul", { class: "changes" }, theirs.map((each) => h("li", {}, h("strong", {}, human(each)), " is now ", h("ins", {}, asText(now.body[each]) || "nothing")))),
      h("div", { class: "buttons" }, button("Close", close), mineIsThere ? null : button("Go on with my edit", () => showForm(), { class: "main" })),
    );
  };

  const done = async (answer, headers) => {
    state.isDone = true;
    state.isUnknown = false;
    open = null;
    const isReplay = headers.get("Idempotency-Replayed") === "true";
    let line = null;
    if (answer.transaction_id) {
      line = await get(`api/credits/transactions/${encodeURIComponent(answer.transaction_id)}`).catch(() => null);
    }
    const opposite = action.opposite?.(subject, state.values, answer, headers);
    const finish = button("Done", close, { class: "main" });
    step(
      h("div", { class: "success" }, h("strong", {}, isReplay ? "It was done already, once" : "Done")),
      line ? lineCard(line, subject.timezone) : null,
      action.said ? action.said(answer, subject, state.values) : h("p", {}, `${credits(answer.new_balance)} can be used now.`),
      action.said ? null : notesOf(answer),
      h("div", { class: "buttons" }, opposite ? button("Undo …", () => { close(); openAction({ name: opposite[0], subject: opposite[1], values: opposite[2] }); }) : null, finish),
    );
    say("Done.");
    finish.focus();
  };

  const begin = async () => {
    if (isUnknown) return lost(new Lost("Your session ended before the answer came."));
    if (!action.prepare) return showForm();
    step(waiting(4));
    try {
      subject = state.subject = await action.prepare(subject);
      if (dialog.open) showForm();
    } catch (error) {
      if (error.status !== 401) step(trouble(error, begin));
    }
  };
  dialog.showModal();
  begin();
}

// Shows beside the pressed button that an answer is awaited; returns the function that ends this.
function busy(pressed, words) {
  pressed.disabled = true;
  pressed.classList.add("busy");
  pressed.textContent = words;
  const slow = setTimeout(() => pressed.before(h("small", { class: "slow" }, "The API is slow. Still waiting.")), SLOW);
  return () => clearTimeout(slow);
}

// Shows a refusal at the field that it is about.
function markFields(form, error) {
  for (const { field: name, message } of error?.errors ?? []) {
    const input = form.elements[{ expires_in_days: "days" }[name] ?? name];
    if (!input?.setAttribute) continue;
    const id = newId();
    input.setAttribute("aria-invalid", "true");
    input.setAttribute("aria-describedby", id);
    input.after(h("small", { id, class: "bad" }, message));
  }
}

export const TYPES = {
  allocation: "Monthly credits",
  expiration: "Expired",
  usage: "Used",
  manual: "By hand",
  reversal: "Given back",
  hold: "Held",
  release: "Released",
  purchase: "Bought",
  refund: "Refunded",
};

// A line of the ledger, as shown after an action.
export function lineCard(line, zone) {
  return h(
    "div",
    { class: "line" },
    h("div", {}, badge(TYPES[line.type] ?? human(line.type)), h("p", {}, line.description ?? "", " ", h("small", {}, line.actor ? `by ${line.actor}` : ""))),
    h("div", { class: "end" }, h("strong", { class: line.amount > 0 ? "up" : "" }, line.amount ? signed(line.amount) : number(line.held_amount ?? line.released_amount ?? 0)), h("small", {}, `Balance ${number(line.balance_after)}`)),
  );
}
