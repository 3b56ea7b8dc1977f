import assert from "node:assert/strict";
import { afterEach, before, test } from "node:test";
import { GlobalWindow } from "happy-dom";
import type { ReactElement } from "react";
import { FakeApi, problem, type Answer, type Request } from "../api.test-double.js";
import { CreditsClient, type AllocationSchedule, type HistoryPage, type Transaction } from "../client.js";
import { CreditsCard, CreditsHistory } from "./index.js";

// Where it is another day than in the timezones of the users below.
process.env["TZ"] = "Pacific/Honolulu";

const NOON = Date.parse("2026-05-30T12:00:00Z");

const SCHEDULE: AllocationSchedule = {
  next_allocation_date: "2026-06-01",
  allocation_amount: 500,
  current_balance: 1290,
  expiring_credits: [{ amount: 40, expires_at: "2026-05-31" }],
  next_allocation_at: "2026-06-01T04:00:00Z",
  timezone: "America/New_York",
  not_allocated_because: null,
};

function line(number: number, type: Transaction["type"], amount: number): Transaction {
  const at = "2026-05-01T04:00:00Z";
  return {
    transaction_id: `42-${number}`, type, amount, balance_after: 100 + number, description: `Line ${number}`, actor: "system",
    effective_at: at, posted_at: "2026-05-03T09:30:00Z", allocation_period: null, batches: [],
  };
}

let window: GlobalWindow;
let react: typeof import("react");
let dom: typeof import("react-dom/client");
let unmount = () => {};

before(async () => {
  window = new GlobalWindow();
  Object.assign(globalThis, { window, document: window.document, IS_REACT_ACT_ENVIRONMENT: true });
  react = await import("react");
  dom = await import("react-dom/client");
});

afterEach(() => unmount());

/** Renders an element and waits for what it loads. */
async function render(element: ReactElement) {
  const container = document.createElement("div");
  document.body.append(container);
  const root = dom.createRoot(container);
  unmount = () => {
    react.act(() => root.unmount());
    container.remove();
  };
  await settle(() => root.render(element));
  return container;
}

async function settle(work: () => void) {
  await react.act(async () => {
    work();
    for (let turn = 0; turn < 10; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  });
}

const words = (element: Element | null) => (element?.textContent ?? "").replace(/\s+/g, " ").trim();

function clientOf(answer: (request: Request, number: number) => Answer | Promise<Answer>) {
  const api = new FakeApi(answer);
  return { api, client: new CreditsClient({ url: "https://api.example.com/v1", token: () => "t", fetch: api.fetch, sleep: api.sleep }) };
}

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

test("the card says why nothing comes", async () => {
  const none = {
    ...SCHEDULE, current_balance: 0, expiring_credits: [], next_allocation_date: null, next_allocation_at: null, allocation_amount: 0,
    not_allocated_because: { code: "subscription_paused", words: "The subscription is paused." },
  };
  const { client } = clientOf(() => ({ body: none }));
  const card = await render(<CreditsCard client={client} locale="en" />);
  assert.equal(words(card.querySelector(".credits-next")), "None. The subscription is paused.");
  assert.equal(words(card.querySelector(".credits-expiring")), "Nothing: there are no credits.");
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
  assert.equal(card.querySelector("[role=alert]"), null);
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
  assert.equal(history.querySelector("button"), null);
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

/** A promise, and what keeps it. */
function later<Value>() {
  let keep: (value: Value) => void = () => {};
  const promise = new Promise<Value>((resolve) => (keep = resolve));
  return { promise, keep };
}

const choose = (history: Element, name: string) =>
  settle(() => [...history.querySelectorAll("label")].find((label) => words(label) === name)?.querySelector("input")?.click());
const press = (element: Element, name: string) =>
  settle(() => [...element.querySelectorAll("button")].find((button) => words(button) === name)?.click());
const descriptions = (history: Element) => [...history.querySelectorAll(".credits-what")].map(words);

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
  const pass = (seconds: number) =>
    settle(() => {
      now += seconds * 1000;
      t.mock.timers.tick(seconds * 1000);
    });
  await pass(1);
  assert.equal(words(card.querySelector("[role=timer]")), "in 00:00:01");
  await pass(1);
  assert.equal(words(card.querySelector("[role=timer]")), "any moment now");
  assert.equal(api.requests.length, 1);
  await pass(10);
  assert.deepEqual([api.requests.length, words(card.querySelector(".credits-balance"))], [2, "1,290 available"]);
  await pass(10);
  assert.deepEqual([api.requests.length, words(card.querySelector(".credits-balance"))], [3, "1,790 available"]);
  await pass(1);
  await pass(60);
  assert.equal(api.requests.length, 3, "it goes on asking");
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
  const types = ["allocation", "usage", "expiration", "manual", "reversal"] as const;
  const items = types.map((type, place) => line(place + 1, type, place));
  const { client } = clientOf(() => ({ body: { items, next_cursor: null } }));
  const history = await render(<CreditsHistory client={client} locale="en" />);
  const names = ["Monthly credits", "Used", "Expired", "Changed by hand", "Given back"];
  assert.deepEqual([...history.querySelectorAll(".credits-type")].map(words), names);
  assert.deepEqual([...history.querySelectorAll("label")].map(words), ["Everything", ...names]);
  assert.deepEqual([...history.querySelectorAll(".credits-amount")].map(words), ["0", "+1", "+2", "+3", "+4"]);
  assert.deepEqual([...history.querySelectorAll("li")].map((each) => each.className), types.map((type) => `credits-line credits-${type}`));
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
  assert.equal(history.querySelector("[role=alert]"), null);
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
  assert.equal(history.querySelector("button"), null);
});

test("a late answer to another choice does not take the place of this one's", async () => {
  const slow = later<IteratorResult<HistoryPage, void>>();
  const page = (items: Transaction[]): HistoryPage => ({ items, next_cursor: null });
  const client = {
    historyPages: ({ type }: { type?: string }) => ({
      next: () => (type === "usage" ? slow.promise : Promise.resolve({ done: false, value: page([line(7, "expiration", -1)]) })),
    }),
  } as unknown as CreditsClient;
  const history = await render(<CreditsHistory client={client} locale="en" />);
  await choose(history, "Used");
  await choose(history, "Expired");
  await settle(() => slow.keep({ done: false, value: page([line(2, "usage", -1)]) }));
  assert.deepEqual(descriptions(history), ["Line 7"]);
});

test("a late failure of another choice is not told", async () => {
  const slow = later<void>();
  const answered = { done: false, value: { items: [line(7, "expiration", -1)], next_cursor: null } };
  const client = {
    historyPages: ({ type }: { type?: string }) => ({
      next: () => (type === "usage" ? slow.promise.then(() => Promise.reject(new Error("late"))) : Promise.resolve(answered)),
    }),
  } as unknown as CreditsClient;
  const history = await render(<CreditsHistory client={client} locale="en" />);
  await choose(history, "Used");
  await choose(history, "Expired");
  await settle(() => slow.keep());
  assert.deepEqual(descriptions(history), ["Line 7"]);
  assert.equal(history.querySelector("[role=alert]"), null);
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

test("when somebody else signs in, the card and the history show theirs", async () => {
  const of = (balance: number) =>
    clientOf(({ path }) => ({
      body: path.endsWith("history") ? { items: [line(balance, "usage", -1)], next_cursor: null } : { ...SCHEDULE, current_balance: balance },
    })).client;
  const ada = of(100);
  const bob = of(200);
  let signIn: (client: CreditsClient) => void = () => {};
  function Both() {
    const [client, setClient] = react.useState(ada);
    signIn = setClient;
    return (
      <>
        <CreditsCard client={client} locale="en" now={() => NOON} />
        <CreditsHistory client={client} locale="en" />
      </>
    );
  }
  const shown = await render(<Both />);
  const found = () => [words(shown.querySelector(".credits-balance")), ...descriptions(shown)];
  assert.deepEqual(found(), ["100 available", "Line 100"]);
  await settle(() => signIn(bob));
  assert.deepEqual(found(), ["200 available", "Line 200"]);
});

test("a page of another size is asked for when it is wanted", async () => {
  const { api, client } = clientOf(() => ({ body: { items: [], next_cursor: null } }));
  let resize: (size: number) => void = () => {};
  function Sized() {
    const [size, setSize] = react.useState(5);
    resize = setSize;
    return <CreditsHistory client={client} locale="en" pageSize={size} />;
  }
  await render(<Sized />);
  await settle(() => resize(50));
  assert.deepEqual(api.requests.map(({ query }) => query["limit"]), ["5", "50"]);
});
