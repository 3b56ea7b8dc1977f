// A page of all components in all states, build/gallery.html: each state is one that a component was brought into here.
// A browser looks at it in tests/stack/test_kit.py.

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import type { ReactElement } from "react";
import { problem, type Answer } from "../api.test-double.js";
import type { Transaction } from "../client.js";
import { de } from "../texts/de.js";
import { CreditsCard, CreditsHistory, CreditsProvider, SpendButton, type SpendButtonProps } from "./index.js";
import { clientOf, FORECAST, line, NOON, rate, press, render, SCHEDULE, unmount, words } from "./page.test-double.js";

/** What it is called, what it must say, what is drawn, and which buttons are pressed then. */
type State = [name: string, says: RegExp, element: ReactElement, ...pressed: string[]];

const never = () => new Promise<Answer>(() => {});
const getMore = () => <a href="#get-more">Get more credits</a>;
const EXPIRING = [{ amount: 40, expires_at: "2026-06-05" }, { amount: 250, expires_at: "2026-07-15" }];
const HOLDS = [{ hold_id: "42-9", amount: 120, expires_at: "2026-05-30T20:05:00Z" }];

/** Components of an API that answers like this. */
function on(answers: { schedule?: object; holds?: object[]; rates?: object[]; history?: Answer | object[]; older?: Answer; use?: () => Answer | Promise<Answer> }, ...elements: ReactElement[]) {
  const { client } = clientOf(({ path, query }) => {
    if (path.endsWith("/use")) return answers.use?.() ?? { body: { success: true, new_balance: 1280, transaction_id: "42-12", batches: [] } };
    if (path.endsWith("/history")) {
      if (query["cursor"]) return answers.older ?? never();
      return Array.isArray(answers.history) ? { body: { items: answers.history, next_cursor: answers.older ? "next" : null } } : (answers.history ?? never());
    }
    return answers.schedule ? { body: { ...SCHEDULE, expiring_credits: EXPIRING, ...answers.schedule } } : never();
  }, () => ({ body: { holds: answers.holds ?? [] } }), () => ({ body: { ...FORECAST, ...(answers.rates && { rates: answers.rates }) } }));
  const inGerman = elements.some(({ props }) => (props as { texts?: object }).texts === de);
  return (
    <CreditsProvider client={client} locale={inGerman ? "de" : "en"} now={() => NOON} getMore={getMore} lowBalance={100}>
      {...elements}
    </CreditsProvider>
  );
}

const failing = (status: number, code: string, more = {}): Answer => ({ status, body: problem(status, code, more) });
const down = failing(500, "internal_error");

const NONE = { current_balance: 0, expiring_credits: [], next_allocation_date: null, next_allocation_at: null };
const PAUSED = { ...NONE, not_allocated_because: { code: "subscription_paused", words: "The subscription is paused." } };

const RATES = [rate(30, { runs_out_on: "2026-07-28", expiring_credits: [{ amount: 25, expires_at: "2026-06-05" }] })];
const SAVING = [rate(7, { expiring_credits: [{ amount: 1, expires_at: "2026-06-05" }] })];

const card = <CreditsCard />;
const CARDS: State[] = [
  ["Credits of all kinds", /1,290 available.*120 reserved/, on({ schedule: {}, holds: HOLDS }, card)],
  ["At the pace of a month", /last 30 days your credits run out on July 28, 2026\. ?25 expire unused after June 4/, on({ schedule: {}, rates: RATES }, card)],
  ["They last at the pace of a week", /last 7 days your credits last until May 30, 2027 at least\. ?1 expires/, on({ schedule: {}, rates: SAVING }, card)],
  ["Loading", /Loading/, on({}, card)],
  ["Few are left", /35 available.*Get more/, on({ schedule: { current_balance: 35, expiring_credits: [] } }, card)],
  ["None are left, and none come", /0 available.*Get more.*paused/, on({ schedule: PAUSED }, card)],
  ["Filled up to a cap", /filling up to 1,500/, on({ schedule: { balance_cap: 1500 } }, card)],
  ["They cannot be shown", /cannot be shown.*Try again/, <CreditsCard client={clientOf(() => down).client} />],
  ["The session has expired", /Sign in again/, <CreditsCard client={clientOf(() => failing(401, "unauthenticated")).client} />],
  ["In German", /1\.290 verfügbar.*am 28\. Juli 2026 aufgebraucht/, on({ schedule: {}, holds: HOLDS, rates: RATES }, <CreditsCard key="de" texts={de} />)],
];

const button = (props: Partial<SpendButtonProps> = {}) => <SpendButton key="button" amount={10} description="Report" undoSeconds={0} {...props} />;
const undoable = { undoSeconds: 60, undo: async () => {} };
const USE = "Use 10 credits";
const BUTTONS: State[] = [
  ["Ready", /^Use 10 credits$/, on({}, button())],
  ["With words of yours", /Write the report 10 credits/, on({}, button({ children: "Write the report" }))],
  ["It can be undone, and has not been sent", /in a moment/, on({}, button({ undoSeconds: 60 })), USE],
  ["It was undone", /no credits were used/, on({}, button({ undoSeconds: 60 })), USE, "Undo"],
  ["It is sent", /Using 10/, on({ use: never }, button()), USE],
  ["It is done", /were used/, on({}, button()), USE],
  ["It is done, and your backend can undo it", /were used/, on({}, button(undoable)), USE],
  ["Your backend gives back", /Giving 10 credits back/, on({}, button({ ...undoable, undo: never })), USE, "Undo"],
  ["It was given back", /Undone\./, on({}, button(undoable)), USE, "Undo"],
  ["Credits do not suffice", /Available: 3.*Get more/, on({ use: () => failing(402, "insufficient_credits", { available_balance: 3 }) }, button()), USE],
  ["It was refused", /You may not use/, on({ use: () => failing(403, "forbidden") }, button()), USE],
  ["There was no answer", /not certain.*Try again/, on({ use: () => new Error("no net") }, button()), USE],
  ["There was no answer to the undo", /not certain.*Try again/, on({}, button({ ...undoable, undo: () => Promise.reject(new Error("no net")) })), USE, "Undo"],
  ["The session has expired", /Sign in and try again/, on({ use: () => failing(401, "unauthenticated") }, button()), USE],
  ["In German", /Gleich werden 10 Credits/, on({}, button({ texts: de, undoSeconds: 60 })), "10 Credits nutzen"],
];

const at = (day: string) => `2026-${day}T09:30:00Z`;
const LINES: Transaction[] = [
  { ...line(12, "usage", -30), actor: "42", description: "Report on 30 companies", effective_at: at("05-30"), balance_after: 1410 },
  { ...line(11, "release", 0), actor: "42", description: "Crawl that was called off", released_amount: 50, effective_at: at("05-29"), balance_after: 1440 },
  { ...line(10, "hold", 0), actor: "42", description: "Crawl of example.com", held_amount: 120, effective_at: at("05-29"), balance_after: 1440 },
  { ...line(9, "reversal", 25), actor: "support", description: "The export was empty", effective_at: at("05-21"), balance_after: 1440 },
  { ...line(8, "refund", -100), actor: "billing", description: "Refund of half a pack", effective_at: at("05-20"), balance_after: 1415 },
  { ...line(7, "purchase", 200), actor: "billing", description: "Pack of 200", effective_at: at("05-12"), balance_after: 1515 },
  { ...line(6, "manual", 90), actor: "ada", description: "Sorry for the outage", effective_at: at("05-10"), balance_after: 1315 },
  { ...line(5, "expiration", -15), description: "15 credits expired", effective_at: at("05-02"), balance_after: 1225 },
  { ...line(4, "allocation", 410), description: "Monthly credits for 2026-05", allocation_period: "2026-05", left_out_amount: 90, balance_cap: 1240, balance_after: 1240 },
];
const history = <CreditsHistory key="history" timeZone="America/New_York" />;
const HISTORIES: State[] = [
  ["Lines of all types", /Refunded.*90 left out.*Show older/, on({ history: LINES, older: down }, history)],
  ["In German", /Von Hand geändert.*9 Zeilen/, on({ history: LINES }, <CreditsHistory key="de" texts={de} timeZone="Europe/Berlin" />)],
  ["Loading", /Loading/, on({}, history)],
  ["Nothing has happened", /Nothing of this kind/, on({ history: [] }, history)],
  ["It cannot be shown", /cannot be shown/, on({ history: down }, history)],
  ["Older lines cannot be shown", /cannot be shown.*Pack of 200/, on({ history: LINES.slice(5, 7), older: down }, history), "Show older"],
];

const TOGETHER: State[] = [
  ["A page of yours", /1,280 available.*in a moment/, on({ schedule: {}, holds: HOLDS, rates: RATES, history: LINES.slice(0, 4) }, card, button({ children: "Write the report", undoSeconds: 60 }), history), "Write the report 10 credits"],
];

/** The look of the page, not of the components. */
const LOOK = `
  :root { color-scheme: light dark; font-family: system-ui, sans-serif }
  body { margin: 0 auto; padding: 24px; box-sizing: border-box; background: light-dark(#f6f6f9, #101014); color: light-dark(#1c1c22, #f2f2f5) }
  main > section { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); gap: 24px; align-items: start; margin-bottom: 40px }
  main > section.histories { grid-template-columns: repeat(auto-fill, minmax(min(100%, 500px), 1fr)) }
  [hidden] { display: none !important }
  figure { margin: 0; min-width: 0 }
  figcaption { margin-bottom: 8px; font-size: 13px; color: light-dark(#5c5c68, #a6a6b3) }
  main > section.together { grid-template-columns: 1fr }
  .together .state { display: grid; grid-template-columns: minmax(0, 2fr) minmax(0, 3fr); gap: 16px 24px; align-items: start }
  .together .credits-history { grid-area: 1 / 2 / 4 / 3 }
  @media (max-width: 760px) { .together .state { display: flex; flex-direction: column; align-items: stretch } }`;

let number = 0;

/** A component in a state, as HTML. What is unique on its own page is made so on this one. */
async function figureOf([name, says, element, ...pressed]: State): Promise<string> {
  const container = await render(element);
  for (const each of pressed) await press(container, each);
  assert.match(words(container), says, name);
  number += 1;
  const html = container.innerHTML.replace(/ (id|aria-labelledby|name)="/g, `$&state-${number}-`);
  unmount();
  return `<figure><figcaption>${name}</figcaption><div class="state">${html}</div></figure>`;
}

test("every component comes into every state, and they are all on one page", async () => {
  const sections: string[] = [];
  for (const [kind, states] of Object.entries({ together: TOGETHER, buttons: BUTTONS, cards: CARDS, histories: HISTORIES })) {
    const figures: string[] = [];
    for (const state of states) figures.push(await figureOf(state));
    sections.push(`<section class="${kind}">${figures.join("\n")}</section>`);
  }
  for (const theme of ["light", "dark"]) {
    const figure = await figureOf([`data-theme="${theme}"`, /1,290/, on({ schedule: {} }, card)]);
    sections.push(`<section class="themes" data-theme="${theme}">${figure}</section>`);
  }
  const head = `<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Credits for React</title><link rel="stylesheet" href="../styles.css"><style>${LOOK}</style>`;
  const page = `<!doctype html>\n<html lang="en"><head>${head}</head><body><main><h1>All components in all states</h1>\n${sections.join("\n")}\n</main></body></html>\n`;
  const build = new URL("../", import.meta.url);
  mkdirSync(build, { recursive: true });
  writeFileSync(new URL("gallery.html", build), page);
  assert.equal(page.match(/<figure>/g)?.length, 1 + BUTTONS.length + CARDS.length + HISTORIES.length + 2);
});
