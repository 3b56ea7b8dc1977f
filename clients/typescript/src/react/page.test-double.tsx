// A page to draw components on, and what their API answers.

import { afterEach, before } from "node:test";
import { GlobalWindow } from "happy-dom";
import type { ReactElement } from "react";
import { FakeApi, type Answer, type Request } from "../api.test-double.js";
import { CreditsClient, type AllocationSchedule, type Forecast, type ForecastRate, type Transaction } from "../client.js";

// Where it is another day than in the timezones of the users below.
process.env["TZ"] = "Pacific/Honolulu";

export const NOON = Date.parse("2026-05-30T12:00:00Z");

export const SCHEDULE: AllocationSchedule = {
  next_allocation_date: "2026-06-01",
  allocation_amount: 500,
  current_balance: 1290,
  expiring_credits: [{ amount: 40, expires_at: "2026-05-31" }],
  next_allocation_at: "2026-06-01T04:00:00Z",
  timezone: "America/New_York",
  not_allocated_because: null,
  balance_cap: null,
};

const TOO_NEW = { code: "too_new", words: "The ledger is younger than that." } as const;

/** A rate of so many days that is not justified, unless `said` has something else. */
export const rate = (window_days: ForecastRate["window_days"], said: Partial<ForecastRate> = { no_rate_because: TOO_NEW }): ForecastRate => ({
  window_days, days: window_days, spent_amount: 0, runs_out_on: null, expiring_credits: [], no_rate_because: null, ...said,
});

/** Of a ledger so young that no rate is justified. */
export const FORECAST: Forecast = {
  as_of: "2026-05-30T12:00:00Z", until: "2027-05-30", available_balance: 1290,
  allocations: [], expiring_credits: [], rates: [rate(7), rate(30), rate(90)], assumptions: [],
};

export function line(number: number, type: Transaction["type"], amount: number): Transaction {
  const at = "2026-05-01T04:00:00Z";
  return {
    transaction_id: `42-${number}`, type, amount, balance_after: 100 + number, description: `Line ${number}`, actor: "system",
    effective_at: at, posted_at: "2026-05-03T09:30:00Z", allocation_period: null, batches: [],
    hold_id: null, held_amount: null, released_amount: null, metadata: {},
    payment_id: null, price: null, refunded_amount: null, unrecovered_amount: null,
    left_out_amount: null, balance_cap: null,
  };
}

let window: GlobalWindow;
let react: typeof import("react");
let dom: typeof import("react-dom/client");
/** Takes away what was drawn last; a second time it does nothing. */
export let unmount = () => {};
/** Draws something else in its place. */
export let rerender = async (_: ReactElement) => {};

before(async () => {
  window = new GlobalWindow();
  Object.assign(globalThis, { window, document: window.document, IS_REACT_ACT_ENVIRONMENT: true });
  react = await import("react");
  dom = await import("react-dom/client");
});

afterEach(() => unmount());

/** Renders an element and waits for what it loads. */
export async function render(element: ReactElement) {
  const container = document.createElement("div");
  document.body.append(container);
  const root = dom.createRoot(container);
  unmount = () => {
    unmount = () => {};
    react.act(() => root.unmount());
    container.remove();
  };
  rerender = (other) => settle(() => root.render(other));
  await rerender(element);
  return container;
}

export async function settle(work: () => void) {
  await react.act(async () => {
    work();
    for (let turn = 0; turn < 10; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  });
}

export const words = (element: Element | null) => (element?.textContent ?? "").replace(/\s+/g, " ").trim();

/** A client whose balance has these holds, and with this forecast; `answer` gives the other answers, and counts only those requests. */
export function clientOf(
  answer: (request: Request, number: number) => Answer | Promise<Answer>,
  balance: () => Answer | Promise<Answer> = () => ({ body: { holds: [] } }),
  forecast: () => Answer | Promise<Answer> = () => ({ body: FORECAST }),
) {
  let number = 0;
  const api = new FakeApi((request) => {
    if (request.path.endsWith("/balance")) return balance();
    return request.path.endsWith("/forecast") ? forecast() : answer(request, number++);
  });
  return { api, client: new CreditsClient({ url: "https://api.example.com/v1", token: () => "t", fetch: api.fetch, sleep: api.sleep }) };
}

/** A promise, and what keeps it. */
export function later<Value>() {
  let keep: (value: Value) => void = () => {};
  const promise = new Promise<Value>((resolve) => (keep = resolve));
  return { promise, keep };
}

export const choose = (history: Element, name: string) =>
  settle(() => [...history.querySelectorAll("label")].find((label) => words(label) === name)?.querySelector("input")?.click());
export const press = (element: Element, name: string) =>
  settle(() => [...element.querySelectorAll("button")].find((button) => words(button) === name)?.click());
export const descriptions = (history: Element) => [...history.querySelectorAll(".credits-what")].map(words);
