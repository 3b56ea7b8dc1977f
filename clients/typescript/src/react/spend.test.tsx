import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { useState, type ReactElement } from "react";
import { problem } from "../api.test-double.js";
import { InsufficientCreditsError, type UseAnswer } from "../client.js";
import { CreditsCard, CreditsHistory, CreditsProvider, SpendButton, type SpendButtonProps } from "./index.js";
import { FakeLedger, type Fate } from "./ledger.test-double.js";
import { storeOf } from "./store.js";
import { descriptions, later, press, render, rerender, settle, unmount, words } from "./page.test-double.js";

/** How often it was called, and with what. */
function recorder<Value>() {
  const calls: Value[] = [];
  return Object.assign((value: Value) => void calls.push(value), { calls });
}

/** A page with a card, and a button that uses 10 credits. */
async function open(ledger: FakeLedger, props: Partial<SpendButtonProps> = {}, besides: ReactElement | null = null) {
  const page = (more: Partial<SpendButtonProps> | null) => (
    <CreditsProvider client={ledger.client} locale="en" now={() => 0}>
      <CreditsCard />
      {besides}
      {more ? <SpendButton amount={10} description="Report" {...more} /> : null}
    </CreditsProvider>
  );
  const container = await render(page(props));
  return {
    container,
    use: () => press(container, `Use ${props.amount ?? 10} credits`),
    /** Takes the button away, or draws it with other props. */
    redraw: (more: Partial<SpendButtonProps> | null) => rerender(page(more)),
    balance: () => words(container.querySelector(".credits-balance")),
    said: () => words(container.querySelector(".credits-spend [role=status]")),
    alert: () => words(container.querySelector(".credits-spend [role=alert] p")),
    buttons: () => [...container.querySelectorAll(".credits-spend button")].map(words),
  };
}

/** Has timers wait for `pass`. */
function clock(t: TestContext) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  return (seconds: number) => settle(() => t.mock.timers.tick(seconds * 1000));
}

const AT_ONCE = { undoSeconds: 0 };

test("a click counts at once, is sent when it cannot be undone any more, and card and history show it", async (t) => {
  const pass = clock(t);
  const ledger = new FakeLedger(100);
  const onSpent = recorder<UseAnswer>();
  const page = await open(ledger, { onSpent }, <CreditsHistory />);
  assert.equal(page.balance(), "100 available");
  await page.use();
  assert.deepEqual([page.balance(), ledger.balance, ledger.keys.length], ["90 available", 100, 0]);
  assert.deepEqual([page.said(), page.buttons()], ["10 credits will be used in a moment.", ["Use 10 credits", "Undo"]]);
  await pass(4.999);
  assert.equal(ledger.keys.length, 0);
  await pass(0.001);
  assert.deepEqual([page.balance(), ledger.balance, ledger.keys.length], ["90 available", 90, 1]);
  assert.deepEqual([page.said(), page.buttons()], ["10 credits were used.", ["Use 10 credits"]]);
  assert.deepEqual(onSpent.calls.map(({ transaction_id }) => transaction_id), ["42-1"]);
  assert.deepEqual(descriptions(page.container), ["Report"]);
  assert.deepEqual(ledger.api.requests.find(({ method }) => method === "POST")?.body, { amount: 10, description: "Report" });
});

test("the button to undo shows the time that is left, whatever it is", async () => {
  for (const [undoSeconds, shown] of [[undefined, "5s"], [8, "8s"]] as const) {
    const page = await open(new FakeLedger(100), { undoSeconds });
    await page.use();
    const button = page.container.querySelector<HTMLElement>(".credits-undo")!;
    assert.equal(button.style.getPropertyValue("--credits-undo"), shown);
    unmount();
  }
});

test("what is undone in time is never sent, and the balance comes back", async (t) => {
  const pass = clock(t);
  const ledger = new FakeLedger(100);
  const onSpent = recorder<UseAnswer>();
  const page = await open(ledger, { onSpent });
  await page.use();
  await press(page.container, "Undo");
  assert.deepEqual([page.balance(), page.said(), page.buttons()], ["100 available", "Undone: no credits were used.", ["Use 10 credits"]]);
  await pass(60);
  assert.deepEqual([ledger.keys, onSpent.calls], [[], []]);
  await page.use();
  await pass(5);
  assert.deepEqual([ledger.balance, ledger.keys.length], [90, 1]);
});

test("each click that was answered is a use of its own", async () => {
  const ledger = new FakeLedger(100);
  const page = await open(ledger, { ...AT_ONCE, metadata: { campaign: "42" } });
  await page.use();
  await page.use();
  assert.deepEqual([ledger.balance, new Set(ledger.keys).size, page.balance()], [80, 2, "80 available"]);
  const sent = ledger.api.requests.filter(({ method }) => method === "POST").map(({ body }) => body);
  assert.deepEqual(sent[0], { amount: 10, description: "Report", metadata: { campaign: "42" } });
});

test("two clicks of one double click, and a click while it is under way, are one use", async () => {
  const ledger = new FakeLedger(100);
  const slow = later<Fate>();
  ledger.fates.push(slow.promise);
  const page = await open(ledger, AT_ONCE);
  const button = page.container.querySelector<HTMLButtonElement>(".credits-use")!;
  const click = (detail: number) => button.dispatchEvent(new window.MouseEvent("click", { bubbles: true, detail }));
  await settle(() => {
    click(1);
    click(1);
    click(2);
  });
  const isBusy = () => [button.getAttribute("aria-disabled"), page.container.querySelector(".credits-spend")?.getAttribute("aria-busy")];
  assert.deepEqual([page.balance(), page.said(), isBusy()], ["90 available", "Using 10 credits …", ["true", "true"]]);
  await settle(() => slow.keep("answered"));
  assert.deepEqual(isBusy(), ["false", "false"]);
  await settle(() => void click(2));
  assert.deepEqual([ledger.balance, ledger.keys.length], [90, 1]);
});

test("a key that is held down is one use", async () => {
  const page = await open(new FakeLedger(100), AT_ONCE);
  const button = page.container.querySelector(".credits-use")!;
  const down = (repeat: boolean) => button.dispatchEvent(new window.KeyboardEvent("keydown", { key: "Enter", repeat, bubbles: true, cancelable: true }));
  assert.deepEqual([down(false), down(true)], [true, false], "the browser makes no click of a key whose default is prevented");
});

test("a button that the app disables does nothing", async () => {
  const ledger = new FakeLedger(100);
  const page = await open(ledger, { ...AT_ONCE, disabled: true });
  await page.use();
  assert.deepEqual([ledger.keys, page.balance()], [[], "100 available"]);
});

test("a refusal gives the balance back and offers as many as are missing; then the same click works", async () => {
  const ledger = new FakeLedger(100);
  const slow = later<Fate>();
  ledger.fates.push(slow.promise);
  const getMore = ({ available, missing }: { available: number; missing: number }) => <a href="/shop">{`${missing} more than ${available}`}</a>;
  const page = await open(ledger, { ...AT_ONCE, amount: 130, getMore });
  await page.use();
  assert.equal(page.balance(), "0 available");
  await settle(() => slow.keep("answered"));
  assert.deepEqual([page.balance(), page.alert()], ["100 available", "This takes 130 credits. Available: 100."]);
  assert.equal(words(page.container.querySelector(".credits-more a")), "30 more than 100");
  ledger.post("purchase", 50);
  await page.use();
  assert.deepEqual([page.balance(), page.alert(), page.said()], ["20 available", "", "130 credits were used."]);
  assert.equal(new Set(ledger.keys).size, 1);
  ledger.post("usage", -20);
  await page.redraw({ ...AT_ONCE, amount: 10, description: "Export", getMore });
  await press(page.container, "Use 10 credits");
  assert.equal(words(page.container.querySelector(".credits-spend .credits-more a")), "10 more than 0");
});

test("without a way to get more, a refusal says only what is missing", async () => {
  const page = await open(new FakeLedger(5), AT_ONCE);
  await page.use();
  assert.equal(page.alert(), "This takes 10 credits. Available: 5.");
  assert.ok(!page.container.querySelector(".credits-more"));
});

test("other refusals are told in words of their code or, where there are none, in the API's", async () => {
  for (const [status, code, said] of [
    [403, "forbidden", "You may not use these credits."],
    [422, "not_allowed", "because"],
    [400, "of_tomorrow", "because"],
  ] as const) {
    const ledger = new FakeLedger(100);
    ledger.fates.push({ status, body: problem(status, code) });
    const page = await open(ledger, AT_ONCE);
    await page.use();
    assert.deepEqual([page.alert(), page.balance(), page.said(), ledger.keys.length], [said, "100 available", "", 1]);
    unmount();
  }
});

test("an answer that is lost on its way is asked for again, and the credits are used once", async () => {
  const ledger = new FakeLedger(100);
  ledger.fates.push("lost", "unheard");
  const onSpent = recorder<UseAnswer>();
  const page = await open(ledger, { ...AT_ONCE, onSpent });
  await page.use();
  assert.deepEqual([ledger.keys.length, new Set(ledger.keys).size, ledger.balance, onSpent.calls.length], [3, 1, 90, 1]);
  assert.equal(page.balance(), "90 available");
});

for (const fate of ["lost", "unheard"] as const) {
  test(`a use without any answer (${fate}) can be tried again under its key, whatever the button says by then`, async () => {
    const ledger = new FakeLedger(100);
    ledger.fates.push(fate, "unheard", "unheard", "unheard");
    const onSpent = recorder<UseAnswer>();
    const page = await open(ledger, { ...AT_ONCE, onSpent });
    await page.use();
    assert.equal(page.alert(), "It is not certain that this was done. Try again: you pay once only.");
    assert.equal(page.balance(), fate === "lost" ? "90 available" : "100 available", "it is what the API says");
    assert.deepEqual(onSpent.calls, []);
    await page.redraw({ undoSeconds: 5, onSpent, amount: 20 });
    await press(page.container, "Try again");
    assert.deepEqual([page.balance(), page.alert(), page.said()], ["90 available", "", "10 credits were used."]);
    assert.deepEqual([ledger.balance, new Set(ledger.keys).size, onSpent.calls.length], [90, 1, 1]);
  });
}

test("a refusal that follows on a lost answer is no proof that nothing was done", async () => {
  for (const [status, code, said] of [
    [429, "too_many_requests", /^There are too many requests right now/],
    [409, "contention", /^It is not certain that this was done/],
    [500, "internal_error", /^It is not certain that this was done/],
    [502, "internal_error", /^It is not certain that this was done/],
    [503, "unavailable", /^It is not certain that this was done/],
    [504, "unavailable", /^It is not certain that this was done/],
    [401, "unauthenticated", /^Your session has expired/],
  ] as const) {
    const ledger = new FakeLedger(100);
    const refusal = { status, body: problem(status, code) };
    ledger.fates.push("lost", refusal, refusal, refusal);
    const onSpent = recorder<UseAnswer>();
    const page = await open(ledger, { ...AT_ONCE, onSpent });
    await page.use();
    assert.match(page.alert(), said);
    assert.deepEqual([page.balance(), page.buttons()], ["90 available", ["Use 10 credits", "Try again"]]);
    ledger.fates.length = 0;
    // Who comes back to the page has not forgotten it either.
    await page.redraw(null);
    await page.redraw({ ...AT_ONCE, onSpent });
    await page.use();
    assert.deepEqual([ledger.balance, new Set(ledger.keys).size, onSpent.calls.length, page.alert()], [90, 1, 1, ""]);
    unmount();
  }
});

test("who leaves before it is sent has used nothing", async (t) => {
  const pass = clock(t);
  const ledger = new FakeLedger(100);
  const onSpent = recorder<UseAnswer>();
  const page = await open(ledger, { onSpent });
  await page.use();
  assert.equal(page.balance(), "90 available");
  await page.redraw(null);
  assert.equal(page.balance(), "100 available");
  await pass(60);
  assert.deepEqual([ledger.keys, onSpent.calls], [[], []]);
});

test("what was sent is followed to its end, also when its button has been taken away", async () => {
  const ledger = new FakeLedger(100);
  const slow = later<Fate>();
  ledger.fates.push(slow.promise);
  const onSpent = recorder<UseAnswer>();
  const page = await open(ledger, { ...AT_ONCE, onSpent });
  await page.use();
  await page.redraw(null);
  assert.equal(page.balance(), "90 available");
  await settle(() => slow.keep("answered"));
  assert.deepEqual([page.balance(), ledger.balance, onSpent.calls.length], ["90 available", 90, 1]);
  await page.redraw({ ...AT_ONCE, onSpent });
  await page.use();
  assert.deepEqual([ledger.balance, onSpent.calls.length, new Set(ledger.keys).size], [80, 2, 2], "it was over: this is another use");
});

test("who comes back while it is under way, and clicks again, has used the credits once", async () => {
  const ledger = new FakeLedger(100);
  const slow = later<Fate>();
  ledger.fates.push(slow.promise);
  const [before, after] = [recorder<UseAnswer>(), recorder<UseAnswer>()];
  const page = await open(ledger, { ...AT_ONCE, onSpent: before });
  await page.use();
  await page.redraw(null);
  await page.redraw({ ...AT_ONCE, onSpent: after });
  await page.use();
  assert.equal(page.said(), "Using 10 credits …");
  await settle(() => slow.keep("answered"));
  assert.deepEqual([ledger.balance, ledger.keys.length, before.calls.length, after.calls.length], [90, 1, 0, 1]);
});

test("who comes back while it is under way can still have it given back", async () => {
  const ledger = new FakeLedger(100);
  const slow = later<Fate>();
  ledger.fates.push(slow.promise);
  const undo = async () => void ledger.post("reversal", 10);
  const page = await open(ledger, { undo });
  await page.use();
  await page.redraw(null);
  await page.redraw({ undo });
  await page.use();
  await settle(() => slow.keep("answered"));
  assert.deepEqual([page.said(), page.buttons()], ["10 credits were used.", ["Use 10 credits", "Undo"]]);
  await press(page.container, "Undo");
  assert.deepEqual([ledger.balance, page.balance()], [100, "100 available"]);
});

test("the balance is read anew while a use can be undone, and not while nobody knows whether it counts", async (t) => {
  const pass = clock(t);
  const ledger = new FakeLedger(100);
  const slow = later<Fate>();
  ledger.fates.push(slow.promise);
  const page = await open(ledger);
  const refreshed = async () => {
    const before = ledger.asked("/allocation-schedule");
    await settle(() => storeOf(ledger.client).refresh());
    return ledger.asked("/allocation-schedule") - before;
  };
  await page.use();
  ledger.post("purchase", 5);
  assert.deepEqual([await refreshed(), page.balance()], [1, "95 available"]);
  await pass(5);
  assert.deepEqual([await refreshed(), page.balance()], [0, "95 available"]);
  await settle(() => slow.keep("answered"));
  assert.deepEqual([await refreshed(), page.balance()], [1, "95 available"]);
});

test("what was taken up by one button is not taken up by another", async () => {
  const ledger = new FakeLedger(100);
  const slow = later<Fate>();
  ledger.fates.push(slow.promise);
  const page = await open(ledger, AT_ONCE, <SpendButton amount={10} description="Report" undoSeconds={0} children="Another" />);
  await page.use();
  await page.redraw(null);
  await page.redraw(AT_ONCE);
  await page.use();
  await press(page.container, "Another 10 credits");
  await settle(() => slow.keep("answered"));
  assert.deepEqual([ledger.balance, new Set(ledger.keys).size, page.balance()], [80, 2, "80 available"]);
});

test("of two uses that were left without an answer each is taken up once", async () => {
  const ledger = new FakeLedger(100);
  const unanswered: Fate[] = ["lost", "unheard", "unheard", "unheard"];
  ledger.fates.push(...unanswered, ...unanswered);
  const onSpent = recorder<UseAnswer>();
  const buttons = ["One", "Two"].map((name) => (
    <SpendButton key={name} client={ledger.client} amount={10} description="Report" undoSeconds={0} onSpent={onSpent} children={name} />
  ));
  const page = await render(<div>{buttons}</div>);
  const both = async () => {
    for (const name of ["One", "Two"]) await press(page, `${name} 10 credits`);
  };
  await both();
  await rerender(<div />);
  await rerender(<div>{buttons}</div>);
  await both();
  assert.deepEqual([ledger.balance, new Set(ledger.keys).size, onSpent.calls.length], [80, 2, 2]);
});

test("who comes back after there was no answer, and clicks again, has used the credits once", async () => {
  const ledger = new FakeLedger(100);
  ledger.fates.push("lost", "unheard", "unheard", "unheard");
  const [before, after] = [recorder<UseAnswer>(), recorder<UseAnswer>()];
  const page = await open(ledger, { ...AT_ONCE, onSpent: before });
  await page.use();
  await page.redraw(null);
  await page.redraw({ undoSeconds: 5, onSpent: after });
  await page.use();
  assert.deepEqual([ledger.balance, new Set(ledger.keys).size, before.calls.length, after.calls.length], [90, 1, 0, 1]);
  await page.redraw(null);
  await page.redraw({ ...AT_ONCE, onSpent: after });
  await page.use();
  assert.deepEqual([ledger.balance, new Set(ledger.keys).size, after.calls.length], [80, 2, 2], "it is taken up once");
});

test("what was left without an answer is not taken up for another purpose", async () => {
  const ledger = new FakeLedger(100);
  ledger.fates.push("lost", "unheard", "unheard", "unheard");
  const page = await open(ledger, AT_ONCE);
  await page.use();
  await page.redraw(null);
  for (const other of [{ description: "Crawl" }, { metadata: { campaign: "42" } }]) {
    await page.redraw({ ...AT_ONCE, ...other });
    await page.use();
    await page.redraw(null);
  }
  assert.deepEqual([ledger.balance, new Set(ledger.keys).size], [70, 3]);
});

test("two tabs that pay for the same, by its key, pay once, and each shows it", async () => {
  const ledger = new FakeLedger(100);
  const props = { ...AT_ONCE, idempotencyKey: "report-7" };
  const tabs = (
    <>
      {[ledger.client, ledger.tab()].map((client, number) => (
        <div key={number} id={`tab-${number}`}>
          <CreditsCard client={client} locale="en" />
          <SpendButton client={client} amount={10} description="Report" {...props} />
        </div>
      ))}
    </>
  );
  const page = await render(tabs);
  for (const tab of ["tab-0", "tab-1"]) await press(page.querySelector(`#${tab}`)!, "Use 10 credits");
  assert.deepEqual([ledger.balance, ledger.keys], [90, ["report-7", "report-7"]]);
  assert.deepEqual([...page.querySelectorAll(".credits-balance")].map(words), ["90 available", "90 available"]);
});

test("of two tabs that use the last credits, one is refused and says what is left", async () => {
  const ledger = new FakeLedger(15);
  const onSpent = recorder<UseAnswer>();
  const page = await render(
    <>
      {[ledger.client, ledger.tab()].map((client, number) => (
        <div key={number} id={`tab-${number}`}>
          <CreditsCard client={client} locale="en" />
          <SpendButton client={client} amount={10} description="Report" undoSeconds={0} onSpent={onSpent} />
        </div>
      ))}
    </>,
  );
  await press(page.querySelector("#tab-0")!, "Use 10 credits");
  assert.equal(words(page.querySelector("#tab-1 .credits-balance")), "15 available", "it has not been told");
  await press(page.querySelector("#tab-1")!, "Use 10 credits");
  assert.equal(words(page.querySelector("#tab-1 [role=alert]")), "This takes 10 credits. Available: 5.");
  assert.equal(words(page.querySelector("#tab-1 .credits-balance")), "5 available");
  assert.deepEqual([ledger.balance, onSpent.calls.length], [5, 1]);
});

test("what a key names is paid for once: then the button is over, until there is another key", async () => {
  const ledger = new FakeLedger(100);
  const onSpent = recorder<UseAnswer>();
  const page = await open(ledger, { ...AT_ONCE, onSpent, idempotencyKey: "report-7" });
  await page.use();
  await page.use();
  assert.deepEqual([ledger.balance, ledger.keys, onSpent.calls.length], [90, ["report-7"], 1]);
  assert.equal(page.container.querySelector(".credits-use")?.getAttribute("aria-disabled"), "true");
  await page.redraw({ ...AT_ONCE, onSpent, idempotencyKey: "report-8" });
  assert.equal(page.said(), "");
  await page.use();
  assert.deepEqual([ledger.balance, ledger.keys, onSpent.calls.length], [80, ["report-7", "report-8"], 2]);
});

test("two buttons of one key count it once in the balance", async () => {
  const ledger = new FakeLedger(100);
  const slow = later<Fate>();
  ledger.fates.push(slow.promise, slow.promise);
  const page = await render(
    <CreditsProvider client={ledger.client} locale="en">
      <CreditsCard />
      {[1, 2].map((number) => (
        <SpendButton key={number} amount={10} description="Report" undoSeconds={0} idempotencyKey="report-7">{`Button ${number}`}</SpendButton>
      ))}
    </CreditsProvider>,
  );
  await press(page, "Button 1 10 credits");
  await press(page, "Button 2 10 credits");
  assert.equal(words(page.querySelector(".credits-balance")), "90 available");
  await settle(() => slow.keep("answered"));
  assert.deepEqual([ledger.balance, words(page.querySelector(".credits-balance"))], [90, "90 available"]);
});

test("of two uses the one that is done leaves the other in the balance", async () => {
  const ledger = new FakeLedger(100);
  const slow = later<Fate>();
  ledger.fates.push(slow.promise, "answered");
  const page = await render(
    <CreditsProvider client={ledger.client} locale="en">
      <CreditsCard />
      <SpendButton amount={10} description="Report" undoSeconds={0} />
      <SpendButton amount={7} description="Export" undoSeconds={0} />
    </CreditsProvider>,
  );
  await press(page, "Use 10 credits");
  await press(page, "Use 7 credits");
  assert.equal(words(page.querySelector(".credits-balance")), "83 available");
  await settle(() => slow.keep("answered"));
  assert.deepEqual([ledger.balance, words(page.querySelector(".credits-balance"))], [83, "83 available"]);
});

// --- Undo by a backend -------------------------------------------------------------------------------

/** A backend that gives back what was used, once. */
function backendOf(ledger: FakeLedger) {
  const returned: string[] = [];
  const keys: string[] = [];
  const fates: ("lost" | "answered" | Promise<unknown>)[] = [];
  const undo = async ({ transaction_id }: UseAnswer, key: string) => {
    keys.push(key);
    const fate = await (fates.shift() ?? "answered");
    if (!returned.includes(transaction_id)) {
      returned.push(transaction_id);
      ledger.post("reversal", 10, "Undone");
    }
    if (fate === "lost") throw new Error("no answer");
  };
  return { undo, returned, keys, fates };
}

test("with a backend that can give back, credits are used at once, and given back", async () => {
  const ledger = new FakeLedger(100);
  const { undo, returned } = backendOf(ledger);
  const [onSpent, onUndone] = [recorder<UseAnswer>(), recorder<UseAnswer>()];
  const page = await open(ledger, { undo, onSpent, onUndone });
  await page.use();
  assert.deepEqual([ledger.balance, page.balance(), onSpent.calls.length, page.buttons()], [90, "90 available", 1, ["Use 10 credits", "Undo"]]);
  await press(page.container, "Undo");
  assert.deepEqual([ledger.balance, page.balance(), page.said(), page.buttons()], [100, "100 available", "Undone.", ["Use 10 credits"]]);
  assert.deepEqual([returned, onUndone.calls.map(({ transaction_id }) => transaction_id)], [["42-1"], ["42-1"]]);
  await page.use();
  assert.deepEqual([ledger.balance, new Set(ledger.keys).size, onSpent.calls.length], [90, 2, 2]);
});

test("the time to give back is over after some seconds, and when the button is taken away", async (t) => {
  const pass = clock(t);
  const ledger = new FakeLedger(100);
  const page = await open(ledger, { undo: backendOf(ledger).undo, undoSeconds: 8 });
  await page.use();
  await pass(7.999);
  assert.deepEqual(page.buttons(), ["Use 10 credits", "Undo"]);
  await pass(0.001);
  assert.deepEqual([page.buttons(), page.said()], [["Use 10 credits"], "10 credits were used."]);
  await page.use();
  await page.redraw(null);
  await pass(60);
  assert.deepEqual([ledger.balance, page.balance()], [80, "80 available"]);
});

test("nothing else is done while credits are given back", async () => {
  const ledger = new FakeLedger(100);
  const { undo, returned, fates } = backendOf(ledger);
  const slow = later<void>();
  fates.push(slow.promise);
  const onUndone = recorder<UseAnswer>();
  const page = await open(ledger, { undo, onUndone });
  await page.use();
  await press(page.container, "Undo");
  assert.deepEqual([page.said(), page.buttons()], ["Giving 10 credits back …", ["Use 10 credits"]]);
  assert.equal(page.container.querySelector(".credits-spend")?.getAttribute("aria-busy"), "true");
  await page.use();
  assert.equal(ledger.keys.length, 1);
  await page.redraw(null);
  await settle(() => slow.keep());
  assert.deepEqual([returned.length, onUndone.calls.length, page.balance()], [1, 1, "100 available"]);
});

test("an undo without an answer can be done again, and gives back once", async () => {
  const ledger = new FakeLedger(100);
  const { undo, keys, fates } = backendOf(ledger);
  fates.push("lost");
  const onUndone = recorder<UseAnswer>();
  const page = await open(ledger, { undo, onUndone });
  await page.use();
  await press(page.container, "Undo");
  assert.match(page.alert(), /^It is not certain that this was undone\./);
  assert.deepEqual([page.said(), page.balance(), onUndone.calls.length], ["", "100 available", 0]);
  await press(page.container, "Try again");
  assert.deepEqual([page.said(), ledger.balance, onUndone.calls.length, page.alert()], ["Undone.", 100, 1, ""]);
  assert.deepEqual(keys, [ledger.keys[0], ledger.keys[0]]);
});

test("what a key names can be undone, but not be had again for the answer that was undone", async () => {
  const ledger = new FakeLedger(100);
  const onSpent = recorder<UseAnswer>();
  const page = await open(ledger, { undo: backendOf(ledger).undo, idempotencyKey: "report-7", onSpent });
  await page.use();
  await press(page.container, "Undo");
  await page.use();
  assert.deepEqual([ledger.balance, onSpent.calls.length, ledger.keys], [100, 1, ["report-7"]]);
});

test("a backend can do the use itself: it gets the request and the key, the same one each time", async () => {
  const ledger = new FakeLedger(100);
  const asked: [object, string][] = [];
  const spend = async (request: { amount: number; description: string }, key: string) => {
    asked.push([request, key]);
    if (asked.length === 1) throw new TypeError("Failed to fetch");
    if (asked.length === 2) throw new InsufficientCreditsError(problem(402, "insufficient_credits", { available_balance: 4 }));
    return ledger.client.use(request, key);
  };
  const page = await open(ledger, { ...AT_ONCE, spend });
  await page.use();
  assert.match(page.alert(), /^It is not certain that this was done/);
  await page.use();
  assert.equal(page.alert(), "This takes 10 credits. Available: 4.");
  await page.use();
  assert.deepEqual([page.said(), ledger.balance], ["10 credits were used.", 90]);
  assert.deepEqual([asked[0]![0], new Set(asked.map(([, key]) => key)).size, ledger.keys], [{ amount: 10, description: "Report" }, 1, [asked[0]![1]]]);
});

test("after a refusal another request has another key", async () => {
  const ledger = new FakeLedger(5);
  const page = await open(ledger, AT_ONCE);
  await page.use();
  await page.redraw({ ...AT_ONCE, amount: 4 });
  await press(page.container, "Use 4 credits");
  assert.deepEqual([ledger.balance, new Set(ledger.keys).size], [1, 2]);
});

// --- For the keyboard, and in other words ----------------------------------------------------------------

test("the focus stays beside the button to undo when that goes away", async (t) => {
  const pass = clock(t);
  const page = await open(new FakeLedger(100), {}, <input />);
  const focus = (selector: string) => settle(() => page.container.querySelector<HTMLElement>(selector)?.focus());
  await page.use();
  await focus(".credits-undo");
  await pass(5);
  assert.equal(document.activeElement?.className, "credits-use");
  await page.use();
  await focus(".credits-undo");
  await press(page.container, "Undo");
  assert.equal(document.activeElement?.className, "credits-use");
  await page.use();
  await focus("input");
  await pass(5);
  assert.equal(document.activeElement?.tagName, "INPUT", "who is elsewhere is left there");
});

test("a button can have words of its own, beside the price", async () => {
  const page = await open(new FakeLedger(100), { children: "Write the report", amount: 1 });
  assert.deepEqual(page.buttons(), ["Write the report 1 credit"]);
  unmount();
  const large = await open(new FakeLedger(9000), { children: "Write the book", amount: 1200 });
  assert.deepEqual(large.buttons(), ["Write the book 1,200 credits"]);
  await press(large.container, "Write the book 1,200 credits");
  assert.equal(large.said(), "1,200 credits will be used in a moment.");
  unmount();
  const tooLarge = await open(new FakeLedger(9000), { amount: 12_000, undoSeconds: 0 });
  await press(tooLarge.container, "Use 12,000 credits");
  assert.equal(tooLarge.alert(), "This takes 12,000 credits. Available: 9,000.");
  unmount();
  const one = await open(new FakeLedger(0), { amount: 1, undoSeconds: 0 });
  await press(one.container, "Use 1 credit");
  assert.equal(one.alert(), "This takes 1 credit. Available: 0.");
});

test("an app whose state is changed by what was spent is drawn anew", async () => {
  const ledger = new FakeLedger(100);
  function App() {
    const [reports, setReports] = useState(0);
    return (
      <>
        <p id="reports">{reports}</p>
        <SpendButton client={ledger.client} amount={10} description="Report" undoSeconds={0} onSpent={() => setReports(reports + 1)} />
      </>
    );
  }
  const page = await render(<App />);
  await press(page, "Use 10 credits");
  await press(page, "Use 10 credits");
  assert.equal(words(page.querySelector("#reports")), "2");
});
