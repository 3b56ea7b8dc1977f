import assert from "node:assert/strict";
import { afterEach, before, test } from "node:test";
import { GlobalWindow } from "happy-dom";
import type { ReactElement } from "react";
import { FakeApi, problem, type Answer, type Request } from "../api.test-double.js";
import { CreditsClient, type AllocationSchedule, type Transaction } from "../client.js";
import { CreditsCard, CreditsHistory } from "./index.js";

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
    effective_at: at, posted_at: at, allocation_period: null, batches: [],
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

function clientOf(answer: (request: Request, number: number) => Answer) {
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
