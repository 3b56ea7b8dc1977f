import assert from "node:assert/strict";
import { test } from "node:test";
import { problem, type Answer } from "../api.test-double.js";
import type { CreditsClient, Transaction } from "../client.js";
import { de } from "../texts/de.js";
import { en } from "../texts/en.js";
import { fill } from "./fill.js";
import { CreditsCard, CreditsHistory, CreditsProvider, SpendButton, useCredits, useForecast, useHistory, useSpend } from "./index.js";
import { FakeLedger } from "./ledger.test-double.js";
import { storeOf } from "./store.js";
import { choose, clientOf, descriptions, FORECAST, later, line, NOON, press, rate, render, rerender, SCHEDULE, settle, unmount, words } from "./page.test-double.js";

// --- The provider ------------------------------------------------------------------------------------

test("components take from the provider what their own props leave out", async () => {
  const [ours, own] = [new FakeLedger(1000), new FakeLedger(2000)];
  const page = await render(
    <CreditsProvider client={ours.client} locale="de" now={() => NOON}>
      <CreditsCard />
      <CreditsCard client={own.client} locale="en" now={() => NOON + 60_000} />
    </CreditsProvider>,
  );
  assert.deepEqual([...page.querySelectorAll(".credits-balance")].map(words), ["1.000 available", "2,000 available"]);
  assert.deepEqual([...page.querySelectorAll("[role=timer]")].map(words), ["in 1 day and 16:00:00", "in 1 day and 15:59:00"]);
});

test("a component without a client says how it gets one", async (t) => {
  t.mock.method(console, "error", () => {});
  t.mock.method(console, "warn", () => {});
  await assert.rejects(render(<CreditsCard />), /put the component into a <CreditsProvider client/);
});

test("a user who looks at the page again sees what was done elsewhere", async () => {
  const ledger = new FakeLedger(100);
  const page = await render(
    <CreditsProvider client={ledger.client} locale="en">
      <CreditsCard />
    </CreditsProvider>,
  );
  const look = (state: string) =>
    settle(() => {
      Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
      document.dispatchEvent(new window.Event("visibilitychange"));
    });
  ledger.post("usage", -40);
  await look("hidden");
  assert.equal(words(page.querySelector(".credits-balance")), "100 available");
  await look("visible");
  assert.equal(words(page.querySelector(".credits-balance")), "60 available");
  const other = new FakeLedger(7);
  await rerender(
    <CreditsProvider client={other.client} locale="en">
      <CreditsCard />
    </CreditsProvider>,
  );
  other.post("usage", -2);
  await look("visible");
  assert.equal(words(page.querySelector(".credits-balance")), "5 available");
  const { version } = storeOf(other.client).state;
  unmount();
  await look("visible");
  assert.equal(storeOf(other.client).state.version, version, "nobody asks any more");
});

// --- The hooks -----------------------------------------------------------------------------------------

function Badge({ client }: { client?: CreditsClient }) {
  const { available, pending, isLoading, error, refresh } = useCredits({ client });
  return (
    <button className="badge" onClick={refresh}>
      {error ? "?" : isLoading && available === null ? "…" : `${available} (${pending})`}
    </button>
  );
}

test("components that ask at the same time send one request, and one of them has all ask again", async () => {
  const ledger = new FakeLedger(100);
  const page = await render(
    <CreditsProvider client={ledger.client} locale="en">
      <Badge />
      <CreditsCard />
    </CreditsProvider>,
  );
  assert.deepEqual([words(page.querySelector(".badge")), ledger.asked("/allocation-schedule")], ["100 (0)", 1]);
  ledger.post("usage", -40);
  await settle(() => page.querySelector<HTMLElement>(".badge")?.click());
  assert.deepEqual([words(page.querySelector(".badge")), words(page.querySelector(".credits-balance"))], ["60 (0)", "60 available"]);
  assert.equal(ledger.asked("/allocation-schedule"), 2);
});

function Runway() {
  const { forecast, pace, error, isLoading } = useForecast();
  if (error) return <p className="runway">?</p>;
  return <p className="runway">{isLoading ? "…" : `${forecast?.until} ${pace === null ? "no pace" : pace.runs_out_on}`}</p>;
}

test("a hook has the forecast and the most justified pace, and asks together with the card", async () => {
  const rates = [rate(7, { runs_out_on: "2026-06-01" }), rate(30, { runs_out_on: "2026-07-28" })];
  const said = (page: Element) => words(page.querySelector(".runway"));
  for (const [body, expected] of [
    [{ ...FORECAST, rates }, "2027-05-30 2026-07-28"],
    [{ ...FORECAST, rates: rates.slice(0, 1) }, "2027-05-30 2026-06-01"],
    [{ ...FORECAST, rates: [rate(30)] }, "2027-05-30 no pace"],
    [null, "?"],
  ] as const) {
    const slow = later<void>();
    const answer = body ? { body } : { status: 403, body: problem(403, "forbidden") };
    const { api, client } = clientOf(() => ({ body: SCHEDULE }), undefined, () => slow.promise.then(() => answer));
    const page = await render(
      <CreditsProvider client={client} locale="en" now={() => NOON}>
        <Runway />
        <CreditsCard />
      </CreditsProvider>,
    );
    assert.equal(said(page), "…");
    await settle(() => slow.keep());
    assert.equal(said(page), expected);
    assert.deepEqual(api.requests.map(({ path }) => path.replace(/.*[/]/, "")).sort(), ["allocation-schedule", "balance", "forecast"]);
    unmount();
  }
});

test("what is asked for after a change does not get an answer from before it", async () => {
  const [signals, first] = [[] as AbortSignal[], later<object>()];
  const answers = [first.promise, new Promise(() => {})];
  const store = storeOf({ schedule: (_: object, signal: AbortSignal) => answers[signals.push(signal) - 1] } as unknown as CreditsClient);
  const { signal } = new AbortController();
  void store.schedule(signal);
  void store.schedule(signal);
  assert.equal(signals.length, 1);
  store.refresh();
  void store.schedule(signal);
  assert.equal(signals.length, 2);
  // The late answer is the first question's: the second is still under way.
  await settle(() => first.keep({}));
  void store.schedule(signal);
  assert.equal(signals.length, 2);
});

test("what no longer listens is told of nothing", () => {
  const store = storeOf({} as CreditsClient);
  let told = 0;
  const stop = store.subscribe(() => (told += 1));
  store.refresh();
  stop();
  store.refresh();
  assert.equal(told, 1);
});

test("drawn on a server, the components say that they load, and ask for nothing", async () => {
  const { renderToStaticMarkup } = await import("react-dom/server");
  const ledger = new FakeLedger(100);
  const html = renderToStaticMarkup(
    <CreditsProvider client={ledger.client}>
      <CreditsCard />
      <SpendButton amount={10} description="Report" />
      <CreditsHistory />
    </CreditsProvider>,
  );
  assert.deepEqual([html.match(/Loading …/g)?.length, html.includes("Use 10 credits"), ledger.api.requests], [2, true, []]);
});

test("a request that several wait for is aborted when the last of them is taken away", async () => {
  const signals: AbortSignal[] = [];
  const client = { schedule: (_: object, signal: AbortSignal) => (signals.push(signal), new Promise(() => {})) } as unknown as CreditsClient;
  const badges = (number: number) => <div>{Array.from({ length: number }, (_, key) => <Badge key={key} client={client} />)}</div>;
  await render(badges(2));
  await rerender(badges(1));
  assert.deepEqual(signals.map(({ aborted }) => aborted), [false]);
  await rerender(badges(0));
  assert.deepEqual(signals.map(({ aborted }) => aborted), [true]);
  await rerender(badges(1));
  assert.deepEqual(signals.map(({ aborted }) => aborted), [true, false]);
});

test("what is under way is taken from the balance wherever it is shown", async () => {
  const ledger = new FakeLedger(100);
  const page = await render(
    <CreditsProvider client={ledger.client} locale="en">
      <Badge />
      <CreditsCard />
      <SpendButton amount={10} description="Report" />
    </CreditsProvider>,
  );
  await press(page, "Use 10 credits");
  assert.equal(words(page.querySelector(".badge")), "90 (10)");
  assert.ok(page.querySelector(".credits-balance.credits-pending"));
  await press(page, "Undo");
  assert.equal(words(page.querySelector(".badge")), "100 (0)");
  assert.ok(!page.querySelector(".credits-pending"));
});

test("between a use and what is read after it, the balance does not jump", async () => {
  const ledger = new FakeLedger(100);
  const seen: (number | null)[] = [];
  function Seen() {
    seen.push(useCredits({ client: ledger.client }).available);
    return null;
  }
  const page = await render(
    <>
      <Seen />
      <SpendButton client={ledger.client} amount={10} description="Report" undoSeconds={0} />
    </>,
  );
  await press(page, "Use 10 credits");
  assert.deepEqual(seen.filter((one, place) => one !== seen[place - 1]), [null, 100, 90]);
});

test("a use on its way is not counted twice when the balance is asked for again", async () => {
  const ledger = new FakeLedger(100);
  const slow = later<void>();
  const spend = async (request: { amount: number; description: string }, key: string) => {
    const answer = await ledger.client.use(request, key);
    await slow.promise;
    return answer;
  };
  const page = await render(
    <CreditsProvider client={ledger.client}>
      <Badge />
      <SpendButton amount={10} description="Report" undoSeconds={0} spend={spend} />
    </CreditsProvider>,
  );
  await press(page, "Use 10 credits");
  await settle(() => page.querySelector<HTMLElement>(".badge")?.click());
  assert.deepEqual([ledger.balance, words(page.querySelector(".badge"))], [90, "90 (10)"]);
  await settle(() => slow.keep());
  assert.equal(words(page.querySelector(".badge")), "90 (0)");
  ledger.post("usage", -40);
  await settle(() => page.querySelector<HTMLElement>(".badge")?.click());
  assert.equal(words(page.querySelector(".badge")), "50 (0)");
});

test("to use twice at once is to use once", async () => {
  for (const undoSeconds of [0, 5]) {
    const ledger = new FakeLedger(100);
    function Twice() {
      const { spend, amount, status } = useSpend({ client: ledger.client, amount: 10, description: "Report", undoSeconds });
      return <button onClick={() => (spend(), spend())}>{`${amount} ${status}`}</button>;
    }
    const page = await render(<Twice />);
    await settle(() => page.querySelector("button")?.click());
    assert.deepEqual([words(page), ledger.keys.length], undoSeconds ? ["10 waiting", 0] : ["10 spent", 1]);
    assert.deepEqual(storeOf(ledger.client).state.debits.length, 1);
    unmount();
  }
});

test("what cannot be undone is not offered to be, not even for a moment", async () => {
  const ledger = new FakeLedger(100);
  const seen: string[] = [];
  function Seen() {
    const { status, canUndo, spend } = useSpend({ client: ledger.client, amount: 10, description: "Report", undoSeconds: 0, undo: async () => {} });
    seen.push(`${status} ${canUndo}`);
    return <button onClick={spend}>use</button>;
  }
  await press(await render(<Seen />), "use");
  assert.deepEqual([...new Set(seen)], ["idle false", "sending false", "spent false"]);
});

function Lines({ client }: { client: CreditsClient }) {
  const { lines, hasMore, more } = useHistory({ client, pageSize: 2 });
  return (
    <div>
      {lines.map(({ transaction_id }) => transaction_id).join(" ")}
      {hasMore ? <button onClick={more}>more</button> : null}
    </div>
  );
}

test("a use adds its line to the pages that are shown, and none of them is asked for again", async () => {
  const ledger = new FakeLedger(100);
  for (let number = 0; number < 7; number += 1) ledger.post("usage", -1);
  const history = await render(
    <CreditsProvider client={ledger.client}>
      <Lines client={ledger.client} />
      <SpendButton amount={10} description="Report" undoSeconds={0} />
    </CreditsProvider>,
  );
  await press(history, "more");
  await press(history, "Use 10 credits");
  assert.match(words(history), /^42-8 42-7 42-6 42-5 42-4more/);
  const cursors = ledger.api.requests.filter(({ path }) => path.endsWith("/history")).map(({ query }) => query["cursor"]);
  assert.deepEqual(cursors, [undefined, "42-6", undefined]);
  await press(history, "more");
  assert.match(words(history), /^42-8 42-7 42-6 42-5 42-4 42-3 42-2more/);
});

test("more than there is, is asked for by nobody", async () => {
  const ledger = new FakeLedger(100);
  ledger.post("usage", -1);
  function All() {
    const { lines, more } = useHistory({ client: ledger.client });
    return <button onClick={more}>{lines.length}</button>;
  }
  const page = await render(<All />);
  await press(page, "1");
  assert.deepEqual([words(page), ledger.asked("/history")], ["1", 1]);
});

test("after more than a page of news the history begins anew, without a gap", async () => {
  const ledger = new FakeLedger(100);
  for (let number = 0; number < 5; number += 1) ledger.post("usage", -1);
  const history = await render(
    <CreditsProvider client={ledger.client}>
      <Lines client={ledger.client} />
      <Badge />
    </CreditsProvider>,
  );
  await press(history, "more");
  for (let number = 0; number < 3; number += 1) ledger.post("usage", -1);
  await settle(() => history.querySelector<HTMLElement>(".badge")?.click());
  assert.match(words(history), /^42-8 42-7more/);
  await press(history, "more");
  assert.match(words(history), /^42-8 42-7 42-6 42-5more/);
});

test("an older page that could not be had is asked for again by itself", async () => {
  let isDown = true;
  const { api, client } = clientOf(({ query }) => {
    if (!query["cursor"]) return { body: { items: [line(2, "manual", 50)], next_cursor: "next" } };
    return isDown ? { status: 500, body: problem(500, "internal_error") } : { body: { items: [line(1, "allocation", 100)], next_cursor: null } };
  });
  const history = await render(<CreditsHistory client={client} locale="en" />);
  await press(history, "Show older");
  isDown = false;
  await press(history, "Try again");
  assert.equal(history.querySelectorAll("li").length, 2);
  assert.deepEqual(api.requests.map(({ query }) => query["cursor"]), [undefined, "next", "next"]);
});

test("while an older page comes, and when it fails, the pages before it stay", async () => {
  const slow = later<Answer>();
  const { client } = clientOf(({ query }) => {
    if (query["cursor"] === "last") return slow.promise;
    return { body: query["cursor"] ? { items: [line(2, "usage", -1)], next_cursor: "last" } : { items: [line(3, "usage", -1)], next_cursor: "next" } };
  });
  const history = await render(<CreditsHistory client={client} locale="en" />);
  await press(history, "Show older");
  await press(history, "Show older");
  const seen = () => [history.querySelector("section")?.getAttribute("aria-busy"), ...descriptions(history)];
  assert.deepEqual(seen(), ["true", "Line 3", "Line 2"]);
  await settle(() => slow.keep({ status: 400, body: problem(400, "invalid_input") }));
  assert.deepEqual(seen(), ["false", "Line 3", "Line 2"]);
});

test("of one type nothing else is shown, though the newest line is the same", async () => {
  const lines = [line(3, "usage", -1), line(2, "manual", 5), line(1, "usage", -1)];
  const { client } = clientOf(({ query }) => ({ body: { items: lines.filter(({ type }) => (query["type"] ?? type) === type), next_cursor: null } }));
  const history = await render(<CreditsHistory client={client} locale="en" />);
  assert.deepEqual(descriptions(history), ["Line 3", "Line 2", "Line 1"]);
  await choose(history, "Used");
  assert.deepEqual(descriptions(history), ["Line 3", "Line 1"]);
});

// --- A way to get more -----------------------------------------------------------------------------------

test("the card offers more when credits have run out or are low, and not before", async () => {
  const ledger = new FakeLedger(51);
  const getMore = ({ available, missing }: { available: number; missing: number }) => <a href="/shop">{`More than ${available}, ${missing}`}</a>;
  const page = (lowBalance?: number) => (
    <CreditsProvider client={ledger.client} locale="en" getMore={getMore} lowBalance={lowBalance}>
      <CreditsCard />
      <SpendButton amount={10} description="Report" />
    </CreditsProvider>
  );
  const card = await render(page(50));
  const offered = () => words(card.querySelector(".credits-more"));
  assert.equal(offered(), "");
  await press(card, "Use 10 credits");
  assert.equal(offered(), "More than 41, 0");
  await rerender(page());
  assert.equal(offered(), "");
  unmount();
  ledger.balance = 0;
  const empty = await render(page());
  assert.equal(words(empty.querySelector(".credits-more")), "More than 0, 0");
});

// --- Words -------------------------------------------------------------------------------------------------

test("every text of a translation has the gaps of the English one", () => {
  const gaps = (text: unknown): string[] => [...new Set(JSON.stringify(text).match(/\{\w+\}/g))].sort();
  // The days of a countdown, and what the system did, are the only texts of which one language may say less.
  for (const [name, text] of Object.entries(en)) {
    if (name !== "described") assert.deepEqual(gaps(de[name as keyof typeof de]), gaps(text), name);
  }
  assert.deepEqual(Object.keys(de), Object.keys(en));
});

test("no text of a translation is the English one", () => {
  const texts = (of: object): string[] => Object.values(of).flatMap((text) => (typeof text === "object" ? texts(text) : [text]));
  const both = texts(de).filter((text) => texts(en).includes(text) && !/^(\{amount\} Credits?|in \{time\})$/.test(text));
  assert.deepEqual(both, []);
});

test("each gap of a text is where its words want it", async () => {
  const gaps = { amount: "5", cap: "7", available: "7", date: "DATE", time: "TIME", days: "9", countdown: "SOON", balance: "8" };
  for (const [texts, text, said] of [
    [en, en.leftOut, "5 left out: filled up to 7"],
    [de, de.leftOut, "5 nicht gutgeschrieben: aufgefüllt auf 7"],
    [en, en.nextUpTo, "+5, filling up to 7, on DATE, SOON"],
    [de, de.nextUpTo, "+5, bis 7 voll sind, am DATE, SOON"],
    [en, en.next, "+5 on DATE, SOON"],
    [de, de.next, "+5 am DATE, SOON"],
    [en, en.insufficient, "This takes 5 credits. Available: 7."],
    [de, de.insufficient, "Das braucht 5 Credits. Verfügbar: 7."],
    [en, en.balanceAfter, "balance 8"],
    [de, de.balanceAfter, "Guthaben 8"],
  ] as const) {
    assert.equal(words(await render(<p>{fill(texts, text, gaps, 5)}</p>)), said);
    unmount();
  }
  for (const { nothingUsed, undone } of [en, de]) assert.notEqual(nothingUsed, undone, "what was undone in time used nothing");
});

test("a card in German has no other words, and German numbers and dates", async () => {
  const { client } = clientOf(
    () => ({ body: { ...SCHEDULE, balance_cap: 1500, expiring_credits: [{ amount: 1, expires_at: "2026-05-31" }, { amount: 1288, expires_at: "2026-06-15" }] } }),
    () => ({ body: { holds: [{ hold_id: "42-9", amount: 50, expires_at: "2026-05-30T13:05:00Z" }] } }),
    () => ({ body: { ...FORECAST, rates: [rate(30, { runs_out_on: "2027-01-14", expiring_credits: [{ amount: 1, expires_at: "2026-12-31" }] })] } }),
  );
  const card = await render(<CreditsCard client={client} texts={de} now={() => NOON} />);
  assert.equal(
    words(card).replace(/\s/g, " "),
    "Ihre Credits1.290 verfügbar50 reserviert bis 30. Mai 2026 um 09:05Nächste Credits+500, bis 1.500 voll sind, am 1. Juni 2026, in 1 Tag und 16:00:00" +
      "Was verfällt1 nutzbar bis einschließlich 30. Mai 20261.288 nutzbar bis einschließlich 14. Juni 20261 verfällt nicht" +
      "Wie lange sie reichenBei einem Verbrauch wie in den letzten 30 Tagen sind Ihre Credits am 14. Januar 2027 aufgebraucht.1 verfällt ungenutzt nach dem 30. Dezember 2026.",
  );
});

test("a history in German translates what the system says, and leaves people's words alone", async () => {
  const items: Transaction[] = [
    { ...line(3, "usage", -1), actor: "42", description: "Report" },
    { ...line(2, "allocation", 500), allocation_period: "2026-05", description: "Monthly credits for 2026-05" },
    { ...line(1, "expiration", -3), description: "Expired" },
  ];
  const { client } = clientOf(() => ({ body: { items, next_cursor: null } }));
  const history = await render(<CreditsHistory client={client} texts={de} timeZone="Europe/Berlin" />);
  assert.deepEqual([...history.querySelectorAll("li")].map(words), [
    "Report Genutzt 01.05.2026, 06:00 -1 Guthaben 103",
    "Credits für Mai 2026 Monatliche Credits 01.05.2026, 06:00 +500 Guthaben 102",
    "Nicht genutzte Credits Verfallen 01.05.2026, 06:00 -3 Guthaben 101",
  ]);
  assert.equal(words(history.querySelector("[role=status]")), "3 Zeilen werden gezeigt.");
  unmount();
  const english = await render(<CreditsHistory client={client} texts={en} timeZone="Europe/Berlin" />);
  assert.equal(words(english.querySelectorAll("li")[1]!), "Monthly credits for 2026-05 Monthly credits May 1, 2026, 6:00 AM +500 balance 102");
});

test("a reason is told in the words of its code; one that is not known yet, in the API's", async () => {
  for (const [code, said] of [["subscription_paused", "Keine. Ihr Abo pausiert."], ["of_tomorrow", "Keine. Words of the API."]]) {
    const none = { next_allocation_date: null, next_allocation_at: null, not_allocated_because: { code, words: "Words of the API." } };
    const { client } = clientOf(() => ({ body: { ...SCHEDULE, ...none } }));
    const card = await render(<CreditsCard client={client} texts={de} />);
    assert.equal(words(card.querySelector(".credits-next")), said);
    unmount();
  }
});

test("a button in German says one credit and many", async () => {
  const ledger = new FakeLedger(5);
  const page = (amount: number) => <SpendButton client={ledger.client} texts={de} amount={amount} description="Bericht" undoSeconds={0} />;
  const button = await render(page(1));
  await press(button, "1 Credit nutzen");
  assert.equal(words(button.querySelector("[role=status]")), "1 Credit wurde genutzt.");
  await rerender(page(9));
  await press(button, "9 Credits nutzen");
  assert.equal(words(button.querySelector("[role=alert]")), "Das braucht 9 Credits. Verfügbar: 4.");
});

test("words of your own take the place of single ones, with the plurals of their language", async () => {
  const polish = { ...en, language: "pl", use: { one: "Użyj {amount} kredytu", few: "Użyj {amount} kredyty", other: "Użyj {amount} kredytów {of}" } };
  const { client } = clientOf(() => ({ body: SCHEDULE }));
  const button = (amount: number) => <SpendButton client={client} texts={polish} amount={amount} description="Report" />;
  const page = await render(button(1));
  const said = [words(page.querySelector("button"))];
  for (const amount of [3, 1500]) {
    await rerender(button(amount));
    said.push(words(page.querySelector("button")).replace(/\s/g, " "));
  }
  assert.deepEqual(said, ["Użyj 1 kredytu", "Użyj 3 kredyty", "Użyj 1500 kredytów {of}"], "a gap that is not filled can be seen");
});

test("a choice of the history is asked for in the type's name, in whatever language", async () => {
  const { api, client } = clientOf(() => ({ body: { items: [], next_cursor: null } }));
  const history = await render(<CreditsHistory client={client} texts={de} />);
  await choose(history, "Verfallen");
  assert.equal(api.requests.at(-1)?.query["type"], "expiration");
});
