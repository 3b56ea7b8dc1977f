// An API with one user's ledger, that does each key once, and whose answers can be lost, late, or refusals.

import { FakeApi, problem, type Answer, type Request } from "../api.test-double.js";
import { CreditsClient, type Transaction } from "../client.js";
import { FORECAST, line, SCHEDULE } from "./page.test-double.js";

/** What becomes of a request: it is done and answered; done, without an answer; not even done; or answered otherwise. */
export type Fate = "answered" | "lost" | "unheard" | Answer;

export class FakeLedger {
  readonly lines: Transaction[] = [];
  /** The keys of the uses, in the order in which they came. */
  readonly keys: string[] = [];
  /** The fates of the next uses; those after them are answered. */
  readonly fates: (Fate | Promise<Fate>)[] = [];
  readonly api: FakeApi;
  readonly client: CreditsClient;
  readonly #done = new Map<string, Answer>();

  constructor(public balance = 100) {
    this.api = new FakeApi((request) => this.#answer(request));
    this.client = this.tab();
  }

  /** The client of another tab of the same user. */
  tab(): CreditsClient {
    return new CreditsClient({ url: "https://api.example.com/v1", token: () => "t", fetch: this.api.fetch, sleep: this.api.sleep });
  }

  /** How often something was asked for. */
  asked(what: string): number {
    return this.api.requests.filter(({ path }) => path.endsWith(what)).length;
  }

  /** Changes the balance, and leaves a line of it. */
  post(type: Transaction["type"], amount: number, description = "Line"): Transaction {
    this.balance += amount;
    const made = { ...line(this.lines.length + 1, type, amount), description, actor: "42", balance_after: this.balance };
    this.lines.unshift(made);
    return made;
  }

  async #answer(request: Request): Promise<Answer> {
    if (request.path.endsWith("/use")) return this.#used(request);
    if (request.path.endsWith("/history")) return { body: this.#page(request.query) };
    if (request.path.endsWith("/balance")) return { body: { holds: [] } };
    if (request.path.endsWith("/forecast")) return { body: FORECAST };
    return { body: { ...SCHEDULE, current_balance: this.balance, expiring_credits: [] } };
  }

  #page({ limit, cursor }: Record<string, string>) {
    const start = cursor ? this.lines.findIndex(({ transaction_id }) => transaction_id === cursor) + 1 : 0;
    const items = this.lines.slice(start, start + Number(limit));
    return { items, next_cursor: start + items.length < this.lines.length ? items.at(-1)?.transaction_id : null };
  }

  async #used({ headers, body }: Request): Promise<Answer> {
    const key = headers["idempotency-key"]!;
    this.keys.push(key);
    const fate = await (this.fates.shift() ?? "answered");
    if (fate === "unheard") return new Error("lost on the way there");
    if (typeof fate === "object") return fate;
    const answer = this.#done.get(key) ?? this.#use(body as { amount: number; description: string });
    if (!(answer instanceof Error) && !answer.status) this.#done.set(key, answer);
    return fate === "lost" ? new Error("lost on the way back") : answer;
  }

  #use({ amount, description }: { amount: number; description: string }): Answer {
    if (amount > this.balance) return { status: 402, body: problem(402, "insufficient_credits", { available_balance: this.balance }) };
    const { transaction_id } = this.post("usage", -amount, description);
    return { body: { success: true, new_balance: this.balance, transaction_id, batches: [] } };
  }
}
