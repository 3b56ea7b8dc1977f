import assert from "node:assert/strict";
import { test } from "node:test";
import { problem, type Answer } from "../api.test-double.js";
import type { CreditsClient, ForecastRate, HistoryPage, Transaction } from "../client.js";
import { CreditsCard, CreditsHistory } from "./index.js";
import { storeOf } from "./store.js";
import { choose, clientOf, descriptions, FORECAST, later, line, NOON, press, rate, render, rerender, SCHEDULE, settle, unmount, words } from "./page.test-double.js";

test("the card shows the balance, what comes and what expires", async () => {
  const { client } = clientOf(() => ({ body: SCHEDULE }));
  const card = await render(<CreditsCard client={client} locale="en" now={() => NOON} />);
  assert.equal(words(card.querySelector(".credits-balance")), "1,290 available");
  assert.equal(words(card.querySelector(".credits-next")), "+500 on June 1, 2026, in 1 day and 16:00:00");
  assert.deepEqual([...card.querySelectorAll(".credits-expiring li")].map(words), [
    "40 can be used through May 30, 2026",
    "1,250 never expire",
  ]);
  assert.equal(card.querySelector("section")?.getAttribute("aria-busy"), "false");
  assert.equal(words(card.querySelector("h2")), "Your credits");
});

test("a day is the same day in every zone, also where clocks change on it", async () => {
  const here = process.env["TZ"];
  try {
    for (const [zone, expires_at, last] of [
      ["America/New_York", "2026-11-02", "November 1, 2026"],
      ["America/New_York", "2026-03-09", "March 8, 2026"],
      ["Pacific/Kiritimati", "2027-01-01", "December 31, 2026"],
      ["Europe/Berlin", "2026-03-30", "March 29, 2026"],
    ] as const) {
      process.env["TZ"] = zone;
      const schedule = { ...SCHEDULE, current_balance: 40, expiring_credits: [{ amount: 40, expires_at }] };
      const { client } = clientOf(() => ({ body: schedule }));
      const card = await render(<CreditsCard client={client} locale="en" now={() => NOON} />);
      assert.equal(words(card.querySelector(".credits-expiring li")), `40 can be used through ${last}`);
      unmount();
    }
  } finally {
    process.env["TZ"] = here;
  }
});

const HOLDS = [
  { hold_id: "42-9", amount: 50, expires_at: "2026-05-30T13:05:00Z" },
  { hold_id: "42-10", amount: 1200, expires_at: "2026-06-01T02:00:00Z" },
  { hold_id: "42-11", amount: 0, expires_at: "2026-06-01T02:00:00Z" },
  { hold_id: "42-12", amount: 1, expires_at: "2026-06-01T02:00:00Z" },
];
const reserved = (card: Element) => [...card.querySelectorAll(".credits-reserved li")].map(words);

test("the card shows what is reserved, and until when where the user lives", async (t) => {
  const warnings = t.mock.method(console, "error", () => {});
  const { api, client } = clientOf(() => ({ body: SCHEDULE }), () => ({ body: { holds: HOLDS } }));
  const card = await render(<CreditsCard client={client} locale="en-GB" now={() => NOON} />);
  assert.deepEqual(reserved(card), ["50 reserved until 30 May 2026 at 09:05", "1,200 reserved until 31 May 2026 at 22:00", "1 reserved until 31 May 2026 at 22:00"]);
  assert.equal(card.querySelector(".credits-reserved time")?.getAttribute("datetime"), "2026-05-30T13:05:00Z");
  assert.deepEqual(api.requests.map(({ path }) => path.replace(/.*[/]/, "")), ["allocation-schedule", "balance", "forecast"]);
  assert.equal(warnings.mock.callCount(), 0);
  unmount();
  const german = await render(<CreditsCard client={client} locale="de" now={() => NOON} />);
  assert.equal(reserved(german)[1], "1.200 reserved until 31. Mai 2026 um 22:00");
});

test("a card that is taken away waits for no holds", async () => {
  const signals: AbortSignal[] = [];
  const balance = (_: object, signal: AbortSignal) => (signals.push(signal), new Promise(() => {}));
  const client = { schedule: () => Promise.resolve(SCHEDULE), balance } as unknown as CreditsClient;
  await render(<CreditsCard client={client} locale="en" now={() => NOON} />);
  unmount();
    assert.deepEqual(signals.map(({ aborted }) => aborted), [true]);
});

test("a card whose holds cannot be had, or come late, shows the rest", async () => {
  const slow = later<Answer>();
  const forbidden = () => ({ status: 403, body: problem(403, "forbidden") });
  for (const balance of [forbidden, () => new Error("no net"), () => slow.promise]) {
    const { client } = clientOf(() => ({ body: SCHEDULE }), balance);
    const card = await render(<CreditsCard client={client} locale="en" now={() => NOON} />);
    assert.equal(words(card.querySelector(".credits-balance")), "1,290 available");
    assert.ok(!card.querySelector(".credits-reserved"));
    assert.ok(!card.querySelector("[role=alert]"));
    unmount();
  }
  });

test("a card asks for the holds again when it asks for the credits again", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const holds = [[HOLDS[0]], []];
  const due = () => Date.parse(SCHEDULE.next_allocation_at!);
  const { client } = clientOf(() => ({ body: { ...SCHEDULE } }), () => ({ body: { holds: holds.shift() } }));
  const card = await render(<CreditsCard client={client} locale="en-GB" now={due} />);
  assert.equal(reserved(card).length, 1);
  await settle(() => t.mock.timers.tick(10_000));
  assert.equal(reserved(card).length, 0);
});

/** A card's client whose forecast has these rates. */
const foreseeing = (rates: ForecastRate[], balance = 1290) =>
  clientOf(() => ({ body: { ...SCHEDULE, current_balance: balance } }), undefined, () => ({ body: { ...FORECAST, rates } }));
const lasting = (card: Element) => [...card.querySelectorAll(".credits-pace, .credits-unused")].map(words);

test("the card says when the credits run out at the pace of a month, and what expires unused first", async () => {
  const lost = [{ amount: 20, expires_at: "2026-12-31" }, { amount: 9, expires_at: "2027-02-01" }];
  const week = rate(7, { runs_out_on: "2026-06-11" });
  const month = rate(30, { runs_out_on: "2027-01-14", expiring_credits: lost });
  const { client } = foreseeing([week, month, rate(90, { runs_out_on: "2026-09-01" })]);
  const card = await render(<CreditsCard client={client} locale="en" now={() => NOON} />);
  assert.deepEqual(page(card).slice(-3), [
    "<h3>How long they last</h3>",
    '<p class="credits-pace">At the pace of the last 30 days your credits run out on <time datetime="2027-01-14">January 14, 2027</time>.</p>',
    '<p class="credits-unused">20 expire unused after <time datetime="2026-12-30">December 30, 2026</time>.</p></section>',
  ]);
});

test("a ledger that is too young for a month has the pace of a week, and one of a quarter's alone none", async () => {
  const quarter = rate(90, { runs_out_on: "2026-09-01" });
  for (const [rates, said] of [
    [[rate(7, { runs_out_on: "2026-06-11" }), rate(30), quarter], ["At the pace of the last 7 days your credits run out on June 11, 2026."]],
    [[rate(7), rate(30), quarter], []],
    [[rate(7), rate(30), rate(90)], []],
  ] as const) {
    const { client } = foreseeing([...rates]);
    const card = await render(<CreditsCard client={client} locale="en" now={() => NOON} />);
    assert.deepEqual(lasting(card), said);
    assert.equal(words(card).includes("How long they last"), said.length > 0);
    unmount();
  }
});

test("credits that do not run out last as far as can be foreseen; a single one expires", async () => {
  const client = (days: number) => foreseeing([rate(30, { days, expiring_credits: [{ amount: 1, expires_at: "2026-12-31" }] })]).client;
  const card = await render(<CreditsCard client={client(1_000)} locale="de" now={() => NOON} />);
  assert.deepEqual(lasting(card), ["At the pace of the last 1.000 days your credits last until 30. Mai 2027 at least.", "1 expires unused after 30. Dezember 2026."]);
  await rerender(<CreditsCard client={client(1)} locale="en" now={() => NOON} />);
  assert.equal(lasting(card)[0], "At the pace of the last 24 hours your credits last until May 30, 2027 at least.");
});

test("of credits that are gone the card does not say that they run out", async () => {
  const rates = [rate(30, { runs_out_on: "2026-05-30" })];
  const card = await render(<CreditsCard client={foreseeing(rates, 0).client} locale="en" now={() => NOON} />);
  assert.deepEqual(lasting(card), []);
  await rerender(<CreditsCard client={foreseeing(rates, 1).client} locale="en" now={() => NOON} />);
  assert.equal(lasting(card).length, 1);
});

test("a card whose forecast cannot be had, or comes late, shows the rest, and says nothing of it", async () => {
  const slow = later<Answer>();
  const down = () => ({ status: 500, body: problem(500, "internal_error") });
  for (const forecast of [down, () => new Error("no net"), () => slow.promise]) {
    const { client } = clientOf(() => ({ body: SCHEDULE }), undefined, forecast);
    const card = await render(<CreditsCard client={client} locale="en" now={() => NOON} />);
    assert.equal(words(card.querySelector(".credits-balance")), "1,290 available");
    assert.match(words(card), /1,250 never expire$/);
    assert.equal(card.querySelector("section")?.getAttribute("aria-busy"), "false");
    assert.ok(!card.querySelector("[role=alert]"));
    unmount();
  }
});

test("a forecast is asked for when the balance is known, and again when that or the day is another", async () => {
  let [balance, now] = [1290, NOON];
  const { api, client } = clientOf(() => ({ body: { ...SCHEDULE, current_balance: balance } }));
  const card = await render(<CreditsCard client={client} locale="en" now={() => now} />);
  const asked = () => api.requests.filter(({ path }) => path.endsWith("/forecast")).length;
  const again = () => settle(() => storeOf(client).refresh());
  assert.equal(asked(), 1);
  await again();
  now = Date.parse("2026-05-30T23:59:59Z");
  await again();
  assert.equal(asked(), 1);
  now += 1000;
  await again();
  assert.equal(asked(), 2);
  balance -= 10;
  await again();
  assert.equal(asked(), 3);
  assert.equal(words(card.querySelector(".credits-balance")), "1,280 available");
});

test("a card without credits to show asks for no forecast, and one that is taken away waits for none", async () => {
  const { api, client } = clientOf(() => ({ status: 500, body: problem(500, "internal_error") }));
  await render(<CreditsCard client={client} locale="en" />);
  assert.deepEqual([...new Set(api.requests.map(({ path }) => path.replace(/.*[/]/, "")))], ["allocation-schedule"]);
  unmount();
  const signals: AbortSignal[] = [];
  const forecast = (_: object, signal: AbortSignal) => (signals.push(signal), new Promise(() => {}));
  const slow = { schedule: () => Promise.resolve(SCHEDULE), balance: () => Promise.resolve({ holds: [] }), forecast } as unknown as CreditsClient;
  await render(<CreditsCard client={slow} locale="en" now={() => NOON} />);
  unmount();
  assert.deepEqual(signals.map(({ aborted }) => aborted), [true]);
});

test("a timezone that the browser does not know is no reason to show nothing", async () => {
  const schedule = { ...SCHEDULE, timezone: "Atlantis/Capital" };
  const { client } = clientOf(() => ({ body: schedule }), () => ({ body: { holds: HOLDS } }));
  const card = await render(<CreditsCard client={client} locale="en-GB" now={() => NOON} />);
  assert.equal(reserved(card)[0], "50 reserved until 30 May 2026 at 03:05");
});

test("the card says why nothing comes", async () => {
  const none = {
    ...SCHEDULE, current_balance: 0, expiring_credits: [], next_allocation_date: null, next_allocation_at: null, allocation_amount: 0,
    not_allocated_because: { code: "subscription_paused", words: "The subscription is paused." },
  };
  const { client } = clientOf(() => ({ body: none }));
  const card = await render(<CreditsCard client={client} locale="en" />);
  assert.equal(words(card.querySelector(".credits-next")), "None. The subscription is paused.");
  assert.equal(words(card.querySelector(".credits-expiring")), "Nothing: there are no credits.");
  assert.ok(!card.querySelector(".credits-bar"));
});

test("an expired session is told, and the card comes back", async () => {
  let isSignedIn = false;
  const { client } = clientOf(() => (isSignedIn ? { body: SCHEDULE } : { status: 401, body: problem(401, "unauthenticated") }));
  const card = await render(<CreditsCard client={client} locale="en" now={() => NOON} />);
  const alert = card.querySelector("[role=alert]");
  assert.match(words(alert), /^Your session has expired\./);
  isSignedIn = true;
  await settle(() => alert?.querySelector("button")?.click());
  assert.equal(words(card.querySelector(".credits-balance")), "1,290 available");
  assert.ok(!card.querySelector("[role=alert]"));
});

test("the history is shown page by page, until there is no more", async () => {
  const { api, client } = clientOf(({ query }) =>
    query["cursor"]
      ? { body: { items: [line(1, "allocation", 100)], next_cursor: null } }
      : { body: { items: [line(3, "usage", -30), line(2, "manual", 50)], next_cursor: "next" } },
  );
  const history = await render(<CreditsHistory client={client} locale="en" timeZone="America/New_York" pageSize={2} />);
  const lines = () => [...history.querySelectorAll("ol li")].map(words);
  assert.deepEqual(lines(), [
    "Line 3 Used May 1, 2026, 12:00 AM -30 balance 103",
    "Line 2 Changed by hand May 1, 2026, 12:00 AM +50 balance 102",
  ]);
  const older = [...history.querySelectorAll("button")].find((button) => words(button) === "Show older");
  await settle(() => older?.click());
  assert.equal(lines().length, 3);
  assert.equal(words(history.querySelector("[role=status]")), "3 lines are shown.");
  assert.ok(!history.querySelector("button"));
  assert.deepEqual(api.requests.map(({ query }) => query), [{ limit: "2" }, { limit: "2", cursor: "next" }]);
});

test("the history can be of one type", async () => {
  const { api, client } = clientOf(({ query }) => ({
    body: { items: query["type"] ? [] : [line(1, "allocation", 100)], next_cursor: null },
  }));
  const history = await render(<CreditsHistory client={client} locale="en" />);
  assert.equal(history.querySelectorAll("ol li").length, 1);
  const choice = [...history.querySelectorAll("label")].find((label) => words(label) === "Expired");
  await settle(() => choice?.querySelector("input")?.click());
  assert.equal(api.requests.at(-1)?.query["type"], "expiration");
  assert.equal(history.querySelectorAll("ol li").length, 0);
  assert.match(words(history), /Nothing of this kind has happened yet\./);
});


test("a card of several batches adds them up, and a far month is counted in days", async () => {
  const schedule = { ...SCHEDULE, expiring_credits: [{ amount: 40, expires_at: "2026-06-01" }, { amount: 50, expires_at: "2026-07-15" }] };
  const { client } = clientOf(() => ({ body: schedule }));
  const card = await render(<CreditsCard client={client} locale="en" now={() => Date.parse("2026-05-29T01:56:55Z")} />);
  assert.equal(words(card.querySelector(".credits-next")), "+500 on June 1, 2026, in 3 days and 02:03:05");
  assert.deepEqual([...card.querySelectorAll(".credits-expiring li")].map(words), [
    "40 can be used through May 31, 2026",
    "50 can be used through July 14, 2026",
    "1,200 never expire",
  ]);
});

test("when the credits are due the card asks for them until they are there", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  let now = Date.parse("2026-06-01T03:59:58Z");
  const nextMonth = { ...SCHEDULE, current_balance: 1790, next_allocation_date: "2026-07-01", next_allocation_at: "2026-07-01T04:00:00Z" };
  const { api, client } = clientOf((_, number) => ({ body: number < 2 ? SCHEDULE : nextMonth }));
  const card = await render(<CreditsCard client={client} locale="en" now={() => now} />);
  const asked = () => api.requests.filter(({ path }) => path.endsWith("/allocation-schedule")).length;
  const pass = (seconds: number) =>
    settle(() => {
      now += seconds * 1000;
      t.mock.timers.tick(seconds * 1000);
    });
  await pass(0.999);
  assert.equal(words(card.querySelector("[role=timer]")), "in 00:00:02");
  await pass(0.001);
  assert.equal(words(card.querySelector("[role=timer]")), "in 00:00:01");
  await pass(1);
  assert.equal(words(card.querySelector("[role=timer]")), "any moment now");
  await pass(9.999);
  assert.equal(asked(), 1);
  await pass(0.001);
  assert.deepEqual([asked(), words(card.querySelector(".credits-balance"))], [2, "1,290 available"]);
  await pass(10);
  assert.deepEqual([asked(), words(card.querySelector(".credits-balance"))], [3, "1,790 available"]);
  await pass(1);
  await pass(60);
  assert.equal(asked(), 3, "it goes on asking");
});

test("what the API cannot answer is no lost session", async () => {
  const { client } = clientOf(() => ({ status: 500, body: problem(500, "internal_error") }));
  const card = await render(<CreditsCard client={client} locale="en" />);
  assert.match(words(card.querySelector("[role=alert]")), /^Your credits cannot be shown right now\./);
});

test("a card that is taken away asks for nothing more", async () => {
  const signals: AbortSignal[] = [];
  const client = { schedule: (_: object, signal: AbortSignal) => (signals.push(signal), new Promise(() => {})) } as unknown as CreditsClient;
  await render(<CreditsCard client={client} locale="en" />);
  unmount();
  assert.deepEqual(signals.map(({ aborted }) => aborted), [true]);
});

test("each type of line has its name, in the history and among the choices", async () => {
  const types = ["allocation", "usage", "expiration", "manual", "reversal", "hold", "release", "purchase", "refund"] as const;
  const items = types.map((type, place) => line(place + 1, type, place));
  const { client } = clientOf(() => ({ body: { items, next_cursor: null } }));
  const history = await render(<CreditsHistory client={client} locale="en" />);
  const names = CHOICES;
  assert.deepEqual([...history.querySelectorAll(".credits-type")].map(words), names);
  assert.deepEqual([...history.querySelectorAll("label")].map(words), ["Everything", ...names]);
  assert.deepEqual([...history.querySelectorAll(".credits-amount")].map(words), ["0", "+1", "+2", "+3", "+4", "0 reserved", "0 free again", "+7", "+8"]);
  assert.deepEqual([...history.querySelectorAll("li")].map((each) => each.className), types.map((type) => `credits-line credits-${type}`));
});

test("a month that did not fit under the cap says what was left out", async () => {
  const items = [
    { ...line(3, "allocation", 0), left_out_amount: 1500, balance_cap: 2000 },
    { ...line(2, "allocation", 1499), left_out_amount: 1, balance_cap: 2000 },
    line(1, "allocation", 1500),
  ];
  const { client } = clientOf(() => ({ body: { items, next_cursor: null } }));
  const history = await render(<CreditsHistory client={client} locale="en" />);
  const leftOut = () => [...history.querySelectorAll(".credits-left-out")].map(words);
  assert.deepEqual(leftOut(), ["1,500 left out: filled up to 2,000", "1 left out: filled up to 2,000"]);
  await rerender(<CreditsHistory client={client} locale="de" />);
  assert.deepEqual(leftOut()[0], "1.500 left out: filled up to 2.000");
});

test("the card says up to what the next credits fill", async () => {
  // In Tokyo it is the 1st already.
  const { client } = clientOf(() => ({ body: { ...SCHEDULE, balance_cap: 1500, next_allocation_at: "2026-05-31T15:00:00Z" } }));
  const card = await render(<CreditsCard client={client} locale="en" now={() => NOON} />);
  assert.match(words(card.querySelector(".credits-next")!), /^\+500, filling up to 1,500, on June 1, 2026/);
});

test("a hold and its ends say what they did", async () => {
  const items = [
    { ...line(7, "hold", 0), hold_id: "42-7", held_amount: 1050 },
    { ...line(8, "usage", -31), hold_id: "42-7", released_amount: 1019 },
    { ...line(9, "release", 0), hold_id: "42-6", released_amount: 1019 },
    line(10, "hold", 0),
    line(11, "release", 0),
  ];
  const { api, client } = clientOf(() => ({ body: { items, next_cursor: null } }));
  const history = await render(<CreditsHistory client={client} locale="en" />);
  const amounts = [...history.querySelectorAll(".credits-amount")].map(words);
  assert.deepEqual(amounts, ["1,050 reserved", "-31", "1,019 free again", "0 reserved", "0 free again"]);
  await rerender(<CreditsHistory client={client} locale="de" />);
  const german = [...history.querySelectorAll(".credits-amount")].map(words);
  assert.deepEqual(german.slice(0, 3), ["1.050 reserved", "-31", "1.019 free again"]);
  await choose(history, "Reserved");
  await choose(history, "Free again");
  assert.deepEqual(api.requests.map(({ query }) => query["type"]), [undefined, "hold", "release"]);
});

test("an older page that cannot be had leaves the lines, says so, and offers a way on", async () => {
  let isDown = true;
  const { client } = clientOf(({ query }) => {
    if (!query["cursor"]) return { body: { items: [line(2, "manual", 50)], next_cursor: "next" } };
    return isDown ? { status: 500, body: problem(500, "internal_error") } : { body: { items: [line(1, "allocation", 100)], next_cursor: null } };
  });
  const history = await render(<CreditsHistory client={client} locale="en" />);
  await press(history, "Show older");
  assert.deepEqual(descriptions(history), ["Line 2"]);
  assert.match(words(history.querySelector("[role=alert]")), /cannot be shown/);
  isDown = false;
  await press(history, "Try again");
  await press(history, "Show older");
  assert.deepEqual(descriptions(history), ["Line 2", "Line 1"]);
  assert.ok(!history.querySelector("[role=alert]"));
});

test("a late page of another choice is not shown among the lines of this one", async () => {
  const slow = later<Answer>();
  const { client } = clientOf(({ query }) => {
    if (query["cursor"]) return slow.promise;
    return { body: { items: [line(query["type"] ? 7 : 3, "usage", -1)], next_cursor: query["type"] ? null : "next" } };
  });
  const history = await render(<CreditsHistory client={client} locale="en" />);
  await press(history, "Show older");
  await choose(history, "Used");
  await settle(() => slow.keep({ body: { items: [line(2, "allocation", 100)], next_cursor: "more" } }));
  assert.deepEqual(descriptions(history), ["Line 7"]);
  assert.ok(!history.querySelector("button"));
});

for (const late of [{ body: { items: [line(2, "allocation", 100)], next_cursor: "more" } }, { status: 400, body: problem(400, "invalid_input") }]) {
  test(`a late ${"status" in late ? "failure" : "page"} of another choice leaves the older lines of this one`, async () => {
    const slow = later<Answer>();
    const { client } = clientOf(({ query }) => {
      if (!query["cursor"]) return { body: { items: [line(query["type"] ? 7 : 3, "usage", -1)], next_cursor: "next" } };
      return query["type"] ? { body: { items: [line(6, "usage", -1)], next_cursor: null } } : slow.promise;
    });
    const history = await render(<CreditsHistory client={client} locale="en" />);
    await press(history, "Show older");
    await choose(history, "Used");
    await press(history, "Show older");
    await settle(() => slow.keep(late));
    assert.deepEqual(descriptions(history), ["Line 7", "Line 6"]);
    assert.ok(!history.querySelector("[role=alert]"));
    assert.ok(!history.querySelector("button"));
  });
}

test("a late answer to another choice does not take the place of this one's", async () => {
  const slow = later<HistoryPage>();
  const signals: AbortSignal[] = [];
  const page = (items: Transaction[]): HistoryPage => ({ items, next_cursor: null });
  const client = {
    historyPage: ({ type }: { type?: string }, signal: AbortSignal) => {
      signals.push(signal);
      return type === "usage" ? slow.promise : Promise.resolve(page([line(7, "expiration", -1)]));
    },
  } as unknown as CreditsClient;
  const history = await render(<CreditsHistory client={client} locale="en" />);
  await choose(history, "Used");
  await choose(history, "Expired");
  assert.deepEqual(signals.map(({ aborted }) => aborted), [true, true, false]);
  await settle(() => slow.keep(page([line(2, "usage", -1)])));
  assert.deepEqual(descriptions(history), ["Line 7"]);
});

test("a late failure of another choice is not told", async () => {
  const slow = later<void>();
  const answered: HistoryPage = { items: [line(7, "expiration", -1)], next_cursor: null };
  const client = {
    historyPage: ({ type }: { type?: string }) =>
      type === "usage" ? slow.promise.then(() => Promise.reject(new Error("late"))) : Promise.resolve(answered),
  } as unknown as CreditsClient;
  const history = await render(<CreditsHistory client={client} locale="en" />);
  await choose(history, "Used");
  await choose(history, "Expired");
  await settle(() => slow.keep());
  assert.deepEqual(descriptions(history), ["Line 7"]);
  assert.ok(!history.querySelector("[role=alert]"));
});

test("numbers and dates are written in the language that is given", async () => {
  const { client } = clientOf(({ path }) => ({
    body: path.endsWith("history") ? { items: [line(1_700, "allocation", 1_500)], next_cursor: null } : SCHEDULE,
  }));
  const card = await render(<CreditsCard client={client} locale="de" now={() => NOON} />);
  assert.equal(words(card.querySelector(".credits-balance")), "1.290 available");
  assert.equal(words(card.querySelector(".credits-next time")), "1. Juni 2026");
  assert.equal(words(card.querySelector(".credits-expiring time")), "30. Mai 2026");
  unmount();
  const history = await render(<CreditsHistory client={client} locale="de" timeZone="Europe/Paris" />);
  assert.equal(words(history.querySelector(".credits-amount")), "+1.500");
  assert.equal(words(history.querySelector(".credits-balance-after")), "balance 1.800");
  assert.equal(words(history.querySelector("li time")), "01.05.2026, 06:00");
});

/** The page, element by element, with its ids named in the order in which they come. */
function page(element: Element): string[] {
  const ids: string[] = [];
  const named = element.innerHTML.replace(/(id|aria-labelledby|name)="([^"]*)"/g, (_, attribute, id) => {
    if (!ids.includes(id)) ids.push(id);
    return `${attribute}="${id && `id-${ids.indexOf(id) + 1}`}"`;
  });
  return named.split(/(?<=>)(?=<(?:section|h2|h3|p|ul|ol|li|fieldset|legend|label|button|div)\b)/);
}

test("a card that loads, fails, and loads again is this page, whatever its styles", async (t) => {
  const warnings = t.mock.method(console, "error", () => {});
  const answers = [later<Answer>(), later<Answer>()];
  const { client } = clientOf((_, number) => answers[number]!.promise);
  const card = await render(<CreditsCard client={client} locale="en" now={() => NOON + 400} />);
  const heading = '<h2 id="id-1">Your credits</h2>';
  const trouble = ['<div role="alert" class="credits-trouble">', "<p>Your credits cannot be shown right now.</p>", '<button type="button">Try again</button></div></section>'];
  const section = (isBusy: boolean) => `<section class="credits-card" aria-labelledby="id-1" aria-busy="${isBusy}">`;
  assert.deepEqual(page(card), [section(true), heading, "<p>Loading …</p></section>"]);
  await settle(() => answers[0]!.keep({ status: 500, body: problem(500, "internal_error") }));
  assert.deepEqual(page(card), [section(false), heading, ...trouble]);
  await press(card, "Try again");
  assert.deepEqual(page(card), [section(true), heading, ...trouble]);
  await settle(() => answers[1]!.keep({ body: SCHEDULE }));
  assert.deepEqual(page(card), [
    section(false),
    heading,
    '<p class="credits-balance"><strong>1,290</strong> available</p>',
    '<div class="credits-bar" aria-hidden="true"><span style="flex-grow: 40;"></span><span style="flex-grow: 1250;"></span></div>',
    "<h3>Next credits</h3>",
    '<p class="credits-next">+500 on <time datetime="2026-06-01T04:00:00Z">June 1, 2026</time>, <span role="timer">in 1 day and 16:00:00</span></p>',
    "<h3>What expires</h3>",
    '<ul class="credits-expiring">',
    '<li>40 can be used through <time datetime="2026-05-30">May 30, 2026</time></li>',
    "<li>1,250 never expire</li></ul></section>",
  ]);
  assert.equal(warnings.mock.callCount(), 0);
});

const CHOICES = ["Monthly credits", "Used", "Expired", "Changed by hand", "Given back", "Reserved", "Free again", "Bought", "Refunded"];
const HISTORY = (isBusy: boolean) => [
  `<section class="credits-history" aria-labelledby="id-1" aria-busy="${isBusy}">`,
  '<h2 id="id-1">History</h2>',
  "<fieldset>",
  "<legend>Show</legend>",
  '<label><input type="radio" checked="" name="id-2">Everything</label>',
  ...CHOICES.map((name, place) => `<label><input type="radio" name="id-2">${name}</label>${place === CHOICES.length - 1 ? "</fieldset>" : ""}`),
];
const SAID = (text: string) => `<p role="status" class="credits-said">${text}</p></section>`;
const LINE =
  '<li class="credits-line credits-usage"><span class="credits-what">Line 3</span> <span class="credits-type">Used</span> ' +
  '<time datetime="2026-05-01T04:00:00Z">May 1, 2026, 4:00 AM</time> <strong class="credits-amount">-30</strong> ' +
  '<span class="credits-balance-after">balance 103</span></li>';

test("a history that loads its first page and an older one is this page, whatever its styles", async (t) => {
  const warnings = t.mock.method(console, "error", () => {});
  const answers = [later<Answer>(), later<Answer>()];
  const { api, client } = clientOf((_, number) => answers[number]!.promise);
  const history = await render(<CreditsHistory client={client} locale="en" timeZone="UTC" />);
  assert.deepEqual(page(history), [...HISTORY(true), "<ol></ol>", SAID("Loading …")]);
  await settle(() => answers[0]!.keep({ body: { items: [line(3, "usage", -30)], next_cursor: "next" } }));
  assert.deepEqual(page(history), [...HISTORY(false), "<ol>", `${LINE}</ol>`, '<button type="button">Show older</button>', SAID("1 line is shown.")]);
  await press(history, "Show older");
  assert.deepEqual(page(history), [...HISTORY(true), "<ol>", `${LINE}</ol>`, '<button type="button" disabled="">Show older</button>', SAID("Loading …")]);
  await settle(() => answers[1]!.keep({ body: { items: [line(3, "usage", -30)].map((each) => ({ ...each, transaction_id: "42-2" })), next_cursor: null } }));
  assert.deepEqual(page(history), [...HISTORY(false), "<ol>", LINE, `${LINE}</ol>`, SAID("2 lines are shown.")]);
  assert.deepEqual(api.requests.map(({ query }) => query), [{ limit: "20" }, { limit: "20", cursor: "next" }]);
  assert.equal(warnings.mock.callCount(), 0);
});

test("a history that cannot be had says so, and not that it is empty", async () => {
  let isDown = true;
  const { client } = clientOf(() => (isDown ? { status: 500, body: problem(500, "internal_error") } : { body: { items: [], next_cursor: null } }));
  const history = await render(<CreditsHistory client={client} locale="en" />);
  const trouble = ['<div role="alert" class="credits-trouble">', "<p>Your credits cannot be shown right now.</p>", '<button type="button">Try again</button></div>'];
  assert.deepEqual(page(history), [...HISTORY(false), ...trouble, "<ol></ol>", SAID("0 lines are shown.")]);
  isDown = false;
  await press(history, "Try again");
  assert.deepEqual(page(history), [...HISTORY(false), "<ol></ol>", "<p>Nothing of this kind has happened yet.</p>", SAID("0 lines are shown.")]);
});

test("an empty page with more behind it is no empty history", async () => {
  const { client } = clientOf(() => ({ body: { items: [], next_cursor: "next" } }));
  const history = await render(<CreditsHistory client={client} locale="en" />);
  assert.deepEqual(page(history), [...HISTORY(false), "<ol></ol>", '<button type="button">Show older</button>', SAID("0 lines are shown.")]);
});

test("what the API could say of no next credits is shown, and a single credit that lasts", async () => {
  const none = { next_allocation_date: null, next_allocation_at: null, not_allocated_because: null };
  const { client } = clientOf(() => ({ body: { ...SCHEDULE, ...none, current_balance: 1, expiring_credits: [] } }));
  const card = await render(<CreditsCard client={client} locale="en" />);
  assert.equal(words(card.querySelector(".credits-next")), "None.");
  assert.deepEqual([...card.querySelectorAll(".credits-expiring li")].map(words), ["1 never expires"]);
  assert.equal(card.querySelectorAll(".credits-bar span").length, 1);
});

test("a card that is told no time takes the clock's", async (t) => {
  t.mock.method(Date, "now", () => NOON);
  const { client } = clientOf(() => ({ body: SCHEDULE }));
  const card = await render(<CreditsCard client={client} locale="en" />);
  assert.equal(words(card.querySelector("[role=timer]")), "in 1 day and 16:00:00");
});

test("another client, and another clock, take the place of those before", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const [one, other] = [clientOf(() => ({ body: SCHEDULE })).client, clientOf(() => ({ body: { ...SCHEDULE, current_balance: 41 } })).client];
  const card = await render(<CreditsCard client={one} locale="en" now={() => NOON} />);
  await rerender(<CreditsCard client={other} locale="en" now={() => NOON + 60_000} />);
  assert.equal(words(card.querySelector(".credits-balance")), "41 available");
  await settle(() => t.mock.timers.tick(1000));
  assert.equal(words(card.querySelector("[role=timer]")), "in 1 day and 15:59:00");
});

test("a history of another client, or in other pages, is read anew", async () => {
  const [one, other] = [1, 2].map((number) => clientOf(() => ({ body: { items: [line(number, "usage", -1)], next_cursor: null } })));
  const history = await render(<CreditsHistory client={one!.client} locale="en" />);
  await rerender(<CreditsHistory client={one!.client} locale="en" pageSize={5} />);
  assert.deepEqual(one!.api.requests.map(({ query }) => query), [{ limit: "20" }, { limit: "5" }]);
  await rerender(<CreditsHistory client={other!.client} locale="en" pageSize={5} />);
  assert.deepEqual(descriptions(history), ["Line 2"]);
});

test("a card has one timer, and a second one when credits are due; drawn again it keeps them, taken away it stops them", async (t) => {
  const running = new Set<unknown>();
  let started = 0;
  t.mock.method(globalThis, "setInterval", () => (running.add((started += 1)), started));
  t.mock.method(globalThis, "clearInterval", (timer: unknown) => running.delete(timer));
  const due = () => Date.parse(SCHEDULE.next_allocation_at!);
  for (const [now, timers] of [[() => NOON, 1], [due, 2]] as const) {
    started = 0;
    const { client } = clientOf(() => ({ body: SCHEDULE }));
    await render(<CreditsCard client={client} locale="en" now={now} />);
    assert.equal(running.size, timers);
    await rerender(<CreditsCard client={client} locale="de" now={now} />);
    assert.equal(started, timers);
    unmount();
    assert.equal(running.size, 0);
  }
  });

test("the remaining time is counted in days, hours, minutes and seconds", async () => {
  const { client } = clientOf(() => ({ body: SCHEDULE }));
  const card = await render(<CreditsCard client={client} locale="en" />);
  for (const [seconds, text] of [
    [1, "in 00:00:01"], [59, "in 00:00:59"], [60, "in 00:01:00"], [3599, "in 00:59:59"], [3600, "in 01:00:00"], [86_399, "in 23:59:59"],
    [86_400, "in 1 day and 00:00:00"], [172_799, "in 1 day and 23:59:59"], [172_800, "in 2 days and 00:00:00"],
  ] as const) {
    const now = Date.parse(SCHEDULE.next_allocation_at!) - seconds * 1000;
    await rerender(<CreditsCard key={seconds} client={client} locale="en" now={() => now} />);
    assert.equal(words(card.querySelector("[role=timer]")), text);
  }
});
