// A client of the Credits API that depends on nothing but `fetch`.
//
//     const credits = new CreditsClient({ url: "https://api.example.com/v1", token: () => session.accessToken() });
//     await credits.use({ amount: 10, description: "Report" }, `report-${report.id}`);
//
// Its types are generated from the API's contract: a field that does not exist is an error of the compiler.

import type { components, operations } from "./contract.js";

type Schemas = components["schemas"];
type QueryOf<Operation extends keyof operations> = NonNullable<operations[Operation]["parameters"]["query"]>;

export type AllocationSchedule = Schemas["AllocationSchedule"];
export type Balance = Schemas["Balance"];
export type Explanation = Schemas["Explanation"];
export type Forecast = Schemas["Forecast"];
export type ForecastRate = Schemas["ForecastRate"];
export type HistoryPage = Schemas["HistoryPage"];
export type Transaction = Schemas["Transaction"];
export type TransactionType = Transaction["type"];
export type Plan = Schemas["Plan"];
export type Subscription = Schemas["Subscription"];
export type SubscriptionRequest = Schemas["SubscriptionRequest"];
export type SubscriptionChange = Schemas["SubscriptionChange"];
export type SubscriptionsPage = Schemas["SubscriptionsPage"];
export type FoundQuery = QueryOf<"findSubscriptions">;
export type EditsPage = Schemas["EditsPage"];
export type EditsQuery = QueryOf<"getSubscriptionEdits">;
export type EmailsPage = Schemas["EmailsPage"];
export type EmailsQuery = QueryOf<"getSubscriptionEmails">;
export type EntryEmail = Schemas["EntryEmail"];
export type EntryEvent = Schemas["EntryEvent"];
export type Month = Schemas["Month"];
export type Operations = Schemas["Operations"];
export type UseRequest = Schemas["UseRequest"];
export type UseAnswer = Schemas["UseAnswer"];
export type ReverseRequest = Schemas["ReverseRequest"];
export type ReverseAnswer = Schemas["ReverseAnswer"];
/** Negative amounts claw back; with `up_to_available`, at most the credits that are left. */
export type AllocateRequest = Omit<Schemas["AllocateRequest"], "amount"> & { amount: number };
export type AllocateAnswer = Schemas["AllocateAnswer"];
export type VoidRequest = Schemas["VoidRequest"];
export type VoidAnswer = Schemas["VoidAnswer"];
export type HoldRequest = Schemas["HoldRequest"];
export type HoldAnswer = Schemas["HoldAnswer"];
export type Hold = Schemas["Hold"];
export type CaptureRequest = Schemas["CaptureRequest"];
export type CaptureAnswer = Schemas["CaptureAnswer"];
export type ReleaseRequest = Schemas["ReleaseRequest"];
export type ReleaseAnswer = Schemas["ReleaseAnswer"];
export type PurchaseRequest = Schemas["PurchaseRequest"];
export type PurchaseAnswer = Schemas["PurchaseAnswer"];
export type RefundRequest = Schemas["RefundRequest"];
export type RefundAnswer = Schemas["RefundAnswer"];
export type UseManyRequest = Schemas["UseManyRequest"];
export type UseManyAnswer = Schemas["UseManyAnswer"];
export type TransactionInFull = Schemas["TransactionInFull"];
export type HistoryQuery = QueryOf<"listHistory">;
export type Problem = Schemas["Problem"];

/** Every `code` of a problem; docs/api.md says what to do about each. */
export type ProblemCode =
  | "invalid_input"
  | "unauthenticated"
  | "insufficient_credits"
  | "forbidden"
  | "not_found"
  | "method_not_allowed"
  | "contention"
  | "hold_ended"
  | "version_conflict"
  | "body_too_large"
  | "unsupported_media_type"
  | "idempotency_key_reused"
  | "outdated_edit"
  | "not_allowed"
  | "too_many_requests"
  | "internal_error"
  | "timezone_unknown"
  | "ledger_corrupt"
  | "unreadable"
  | "unavailable";

/** A refusal of the API: the problem it answered with, whose `detail` is the message. */
export class CreditsError extends Error {
  override readonly name: string = "CreditsError";

  constructor(readonly problem: Problem) {
    super(`${problem.status} ${problem.code}: ${problem.detail}`);
  }

  get status(): number {
    return this.problem.status;
  }

  /** Whether it is a problem of this code. */
  is(code: ProblemCode): boolean {
    return this.problem.code === code;
  }
}

/** The user has fewer credits than requested; nothing was used. */
export class InsufficientCreditsError extends CreditsError {
  override readonly name = "InsufficientCreditsError";

  get availableBalance(): number {
    return this.problem.available_balance ?? 0;
  }
}

/** The hold ended before, in another way than requested: this request used and released nothing. */
export class HoldEndedError extends CreditsError {
  override readonly name = "HoldEndedError";

  get ended(): "captured" | "released" | "lapsed" | undefined {
    return this.problem.ended;
  }

  get endedAt(): string | undefined {
    return this.problem.ended_at;
  }

  /** The entry that ended it; null if it lapsed. */
  get transactionId(): string | null {
    return this.problem.transaction_id ?? null;
  }
}

/** The API refuses the token, and there is no newer one: the user has to sign in again. */
export class UnauthenticatedError extends CreditsError {
  override readonly name = "UnauthenticatedError";
}

/** There was no answer, or not one from the API. The request may have been carried out. */
export class NoAnswerError extends Error {
  override readonly name = "NoAnswerError";
}

export interface ClientOptions {
  /** The address of the API, without `/api`. */
  url: string;
  /** Returns the bearer token to send. `refused` is a token that the API has just refused: return a newer one. */
  token: (refused?: string) => string | Promise<string>;
  /** How often one request is sent at most; the default is 4. */
  attempts?: number;
  /** How many milliseconds to wait for an answer; the default is 10,000. */
  timeout?: number;
  /** A `fetch` to use instead of the global one. */
  fetch?: typeof fetch;
  /** Waits the given milliseconds, or until the signal is aborted; for tests. */
  sleep?: (milliseconds: number, signal?: AbortSignal) => Promise<void>;
}

/** The subscription and its version. Send the version with a change: if somebody else was faster, the change is refused. */
export interface Versioned<Value> {
  value: Value;
  etag: string;
}

/** An answer of the API: its body has been read, and was JSON. */
interface Answered {
  response: Response;
  body: unknown;
}

interface Asked {
  query?: Record<string, unknown> | undefined;
  body?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal | undefined;
  /** Whether the answer is a text, not an object. */
  isText?: boolean;
}

/** The hold of a `withHold` job, and the ways to end it. */
export interface Held extends HoldAnswer {
  /** Uses what the job cost, and frees the rest. */
  capture(body: CaptureRequest): Promise<CaptureAnswer>;
  /** Frees all of it. */
  release(): Promise<ReleaseAnswer>;
}

/** The statuses of temporary problems: the same request may succeed later. */
const PASSING = new Set([409, 429, 502, 503, 504]);

const FIRST_PAUSE = 250;
const LONGEST_PAUSE = 20_000;

export class CreditsClient {
  readonly #url: string;
  readonly #token: ClientOptions["token"];
  readonly #attempts: number;
  readonly #timeout: number;
  readonly #fetch: typeof fetch;
  readonly #sleep: NonNullable<ClientOptions["sleep"]>;

  constructor(options: ClientOptions) {
    this.#url = options.url.replace(/\/+$/, "");
    this.#token = options.token;
    this.#attempts = options.attempts ?? 4;
    this.#timeout = options.timeout ?? 10_000;
    this.#fetch = options.fetch ?? ((...words) => fetch(...words));
    this.#sleep = options.sleep ?? sleep;
  }

  // --- A user's credits ----------------------------------------------------------------------------

  /** The next credits, the current ones, and those that will expire. */
  schedule(query?: QueryOf<"getAllocationSchedule">, signal?: AbortSignal): Promise<AllocationSchedule> {
    return this.#data("GET", "/api/credits/allocation-schedule", { query, signal });
  }

  /** The balance, batch by batch: now, or at a past instant. */
  balance(query?: QueryOf<"getBalance">, signal?: AbortSignal): Promise<Balance> {
    return this.#data("GET", "/api/credits/balance", { query, signal });
  }

  /** When the credits will run out, and what will be granted and expire until then. */
  forecast(query?: QueryOf<"forecastCredits">, signal?: AbortSignal): Promise<Forecast> {
    return this.#data("GET", "/api/credits/forecast", { query, signal });
  }

  /** Why an amount could or could not be taken, now or at a past instant; or why a line took the credits it took. */
  explain(query?: QueryOf<"explainCredits">, signal?: AbortSignal): Promise<Explanation> {
    return this.#data("GET", "/api/credits/explain", { query, signal });
  }

  /** One page of a statement as JSON Lines, oldest first. Its last line has the `next_cursor`; all pages together are one. */
  async statementPage(query?: QueryOf<"getStatement">, signal?: AbortSignal): Promise<string> {
    return (await this.#data<{ text: string }>("GET", "/api/credits/statement", { query, signal, isText: true })).text;
  }

  /** One page of the history, newest first; `metadata: { campaign: "42" }` asks for the entries with this pair. */
  historyPage(query?: HistoryQuery, signal?: AbortSignal): Promise<HistoryPage> {
    return this.#data("GET", "/api/credits/history", { query, signal });
  }

  /** The pages of the history, each fetched when needed. */
  async *historyPages(query?: HistoryQuery, signal?: AbortSignal): AsyncGenerator<HistoryPage, void> {
    let asked = query;
    for (;;) {
      const page = await this.historyPage(asked, signal);
      yield page;
      if (page.next_cursor === null) return;
      asked = { ...query, cursor: page.next_cursor };
    }
  }

  /** The whole history, line by line, newest first. */
  async *history(query?: HistoryQuery, signal?: AbortSignal): AsyncGenerator<Transaction, void> {
    for await (const page of this.historyPages(query, signal)) yield* page.items;
  }

  /**
   * Uses credits, in the order of use: all of them or, with `InsufficientCreditsError`, none.
   *
   * The key names the purpose. However often the request is sent, it takes effect once. Give a key of your own,
   * such as an order's id, if the same request could come a second time (a reload, a second click).
   */
  use(body: UseRequest, key: string = crypto.randomUUID()): Promise<UseAnswer> {
    return this.#keyed("/api/credits/use", body, key);
  }

  /**
   * Uses credits for several things at once: for all that were not charged before or, with `InsufficientCreditsError`,
   * for none. The key of an item is the same as a key of `use`. For backends.
   */
  useMany(body: UseManyRequest): Promise<UseManyAnswer> {
    return this.#data("POST", "/api/credits/use-many", { body });
  }

  /** One line of the history; if it books several usages, with each of them. */
  transaction(transactionId: string, signal?: AbortSignal): Promise<TransactionInFull> {
    return this.#data("GET", `/api/credits/transactions/${encodeURIComponent(transactionId)}`, { signal });
  }

  /** Gives a usage back, fully or partly. For backends and admins. */
  reverse(body: ReverseRequest, key: string = crypto.randomUUID()): Promise<ReverseAnswer> {
    return this.#keyed("/api/credits/reverse", body, key);
  }

  /** Makes a manual adjustment: grants or claws back credits. For admins. */
  allocate(body: AllocateRequest, key: string = crypto.randomUUID()): Promise<AllocateAnswer> {
    return this.#keyed("/api/credits/allocate", body, key);
  }

  /** Takes back all that is left of one batch, even if older ones are open. For admins. */
  voidBatch(batchId: string, body: VoidRequest, key: string = crypto.randomUUID()): Promise<VoidAnswer> {
    return this.#keyed(`/api/credits/batches/${encodeURIComponent(batchId)}/void`, body, key);
  }

  // --- Holds: for backends and admins ----------------------------------------------------------------

  /**
   * Sets credits aside for a job: all of them or, with `InsufficientCreditsError`, none. Nothing else can use them until
   * the hold is captured, released, or over.
   */
  hold(body: HoldRequest, key: string = crypto.randomUUID()): Promise<HoldAnswer> {
    return this.#keyed("/api/credits/holds", body, key);
  }

  /** Uses what a job cost, and frees the rest. It has no key: repeating the same end gets the first answer. */
  capture(holdId: string, body: CaptureRequest): Promise<CaptureAnswer> {
    return this.#data("POST", `/api/credits/holds/${encodeURIComponent(holdId)}/capture`, { body });
  }

  /** Frees everything that is held. Like a capture, it can be repeated. */
  release(holdId: string, body: ReleaseRequest = {}): Promise<ReleaseAnswer> {
    return this.#data("POST", `/api/credits/holds/${encodeURIComponent(holdId)}/release`, { body });
  }

  /**
   * Sets credits aside for a job, which captures what it cost. If the job throws, or ends without a capture, all of
   * them are free again. Returns what the job returns.
   *
   * A capture without an answer may have been done: then the hold stays as it is, and you can send the same capture
   * again. A key whose hold has ended gets the first answer, and a capture is refused with `HoldEndedError`: a job
   * that is tried again needs a new key for each try.
   */
  async withHold<Result>(body: HoldRequest, job: (hold: Held) => Promise<Result>, key?: string): Promise<Result> {
    const answer = await this.hold(body, key);
    // Whether the end of the job leaves the hold alone: it has ended, or nobody knows.
    let isOver = false;
    const release = async () => {
      const released = await this.release(answer.hold_id);
      isOver = true;
      return released;
    };
    const capture = async (what: CaptureRequest) => {
      isOver = true;
      try {
        return await this.capture(answer.hold_id, what);
      } catch (error) {
        // A refusal has changed nothing; with 504 API Gateway says that there was no answer.
        isOver = !(error instanceof CreditsError) || error.status === 504;
        throw error;
      }
    };
    let result: Result;
    try {
      result = await job({ ...answer, capture, release });
    } catch (error) {
      // Even if this fails, the job's error counts: the hold ends by itself.
      if (!isOver) await release().catch(() => {});
      throw error;
    }
    try {
      if (!isOver) await release();
    } catch (error) {
      // A hold that has ended meanwhile needs no release.
      if (!(error instanceof HoldEndedError)) throw error;
    }
    return result;
  }

  /** The holds of a user that have not ended, the oldest first. Users may read their own. */
  async holds(query?: QueryOf<"getHolds">, signal?: AbortSignal): Promise<Hold[]> {
    const { holds } = await this.#data<Schemas["Holds"]>("GET", "/api/credits/holds", { query, signal });
    return holds;
  }

  // --- Payments: for billing and admins --------------------------------------------------------------

  /** Grants what a payment has bought. The payment is the key: repeating it gets the first answer. */
  purchase(body: PurchaseRequest): Promise<PurchaseAnswer> {
    return this.#data("POST", "/api/credits/purchases", { body });
  }

  /**
   * Reports how many credits of a payment were refunded, in all: a larger total than before takes the difference back,
   * as far as it is there; a smaller one gives back what was taken. The same total changes nothing.
   */
  refund(body: RefundRequest): Promise<RefundAnswer> {
    return this.#data("POST", "/api/credits/refunds", { body });
  }

  // --- Subscriptions and plans ---------------------------------------------------------------------

  /** The plans on offer. */
  async plans(signal?: AbortSignal): Promise<Plan[]> {
    const { plans } = await this.#data<Schemas["Plans"]>("GET", "/api/plans", { signal });
    return plans;
  }

  /** A user's subscription and its version. For backends and admins, like the two below. */
  subscription(userId: string): Promise<Versioned<Subscription>> {
    return this.#versioned("GET", userId, {});
  }

  /** The users with an email address, or with a plan, status or timezone: one page. For admins. */
  foundSubscriptions(query?: FoundQuery, signal?: AbortSignal): Promise<SubscriptionsPage> {
    return this.#data("GET", "/api/subscriptions", { query, signal });
  }

  /** Registers a user, or replaces the whole subscription. */
  putSubscription(userId: string, body: SubscriptionRequest, etag?: string): Promise<Versioned<Subscription>> {
    return this.#versioned("PUT", userId, { body, ...(etag && { headers: { "If-Match": etag } }) });
  }

  /** Changes some fields of a subscription. */
  patchSubscription(userId: string, body: SubscriptionChange, etag?: string): Promise<Versioned<Subscription>> {
    return this.#versioned("PATCH", userId, { body, ...(etag && { headers: { "If-Match": etag } }) });
  }

  /** Who edited a subscription, when and what: one page, newest first. For admins. */
  subscriptionEdits(userId: string, query?: EditsQuery): Promise<EditsPage> {
    return this.#data("GET", `/api/subscriptions/${encodeURIComponent(userId)}/edits`, { query });
  }

  /** The emails about a user's credits, and what is recorded of them: one page, newest first. For admins. */
  subscriptionEmails(userId: string, query?: EmailsQuery): Promise<EmailsPage> {
    return this.#data("GET", `/api/subscriptions/${encodeURIComponent(userId)}/emails`, { query });
  }

  /** The email about an entry, as it is or was sent. For admins. */
  transactionEmail(transactionId: string): Promise<EntryEmail> {
    return this.#data("GET", `/api/credits/transactions/${encodeURIComponent(transactionId)}/email`, {});
  }

  /** The events of an entry, as a stage with events publishes them. For admins. */
  async transactionEvents(transactionId: string): Promise<EntryEvent[]> {
    const path = `/api/credits/transactions/${encodeURIComponent(transactionId)}/events`;
    const { events } = await this.#data<Schemas["EntryEvents"]>("GET", path, {});
    return events;
  }

  /** The latest count of a month such as `2026-12`. For admins. */
  month(period: string, signal?: AbortSignal): Promise<Month> {
    return this.#data("GET", `/api/months/${encodeURIComponent(period)}`, { signal });
  }

  /** The waiting messages and the ringing alarms. For admins. */
  operations(signal?: AbortSignal): Promise<Operations> {
    return this.#data("GET", "/api/operations", { signal });
  }

  // --- Sending -------------------------------------------------------------------------------------

  #keyed<Data>(path: string, body: unknown, key: string): Promise<Data> {
    return this.#data("POST", path, { body, headers: { "Idempotency-Key": key } });
  }

  async #versioned(method: string, userId: string, asked: Asked): Promise<Versioned<Subscription>> {
    const { response, body } = await this.#send(method, `/api/subscriptions/${encodeURIComponent(userId)}`, asked);
    return { value: body as Subscription, etag: response.headers.get("ETag") ?? "" };
  }

  async #data<Data>(method: string, path: string, asked: Asked): Promise<Data> {
    return (await this.#send(method, path, asked)).body as Data;
  }

  /** Sends a request until it has a final answer. Every request of this API can be repeated. */
  async #send(method: string, path: string, asked: Asked): Promise<Answered> {
    let token = await this.#token();
    let hasNewToken = false;
    for (let attempt = 1; ; attempt += 1) {
      const isLast = attempt >= this.#attempts;
      const { response, answer } = await this.#try(method, path, asked, token, isLast);
      if (answer?.response.ok) return answer;
      if (answer) {
        const { status } = answer.response;
        if (status === 401 && !hasNewToken) {
          const newer = await this.#token(token);
          hasNewToken = true;
          if (newer !== token) {
            token = newer;
            continue;
          }
        }
        if (isLast || !PASSING.has(status)) throw errorOf(answer.body as Problem);
      }
      asked.signal?.throwIfAborted();
      await this.#sleep(pause(attempt, response?.headers.get("Retry-After")), asked.signal);
    }
  }

  /** The answer to one attempt. Without one, another attempt follows; `response` is what came instead, if anything. */
  async #try(
    method: string, path: string, asked: Asked, token: string, isLast: boolean,
  ): Promise<{ response?: Response; answer?: Answered }> {
    const limit = AbortSignal.timeout(this.#timeout);
    const query = new URLSearchParams(parametersOf(asked.query ?? {})).toString();
    let response: Response | undefined;
    try {
      response = await this.#fetch(`${this.#url}${path}${query && `?${query}`}`, {
        method,
        headers: {
          Accept: "application/json",
          Authorization: `Bearer ${token}`,
          ...(asked.body !== undefined && { "Content-Type": "application/json" }),
          ...asked.headers,
        },
        ...(asked.body !== undefined && { body: JSON.stringify(asked.body) }),
        signal: asked.signal ? AbortSignal.any([asked.signal, limit]) : limit,
      });
      const isLines = asked.isText && response.ok && response.headers.get("Content-Type")?.startsWith("text/plain");
      const body: unknown = isLines ? { text: await response.text() } : await response.json();
      // Every answer of the API is an object; anything else comes from something in front of it.
      if (typeof body !== "object" || body === null) throw new SyntaxError("the answer is no object");
      return { response, answer: { response, body } };
    } catch (error) {
      if (asked.signal?.aborted) throw error;
      const isFinal = response && !response.ok && !PASSING.has(response.status);
      const what = response ? `an answer ${response.status} that is not the API's` : `${method} ${path} was not answered`;
      if (isLast || isFinal) throw new NoAnswerError(what, { cause: error });
      return response ? { response } : {};
    }
  }
}

/** The parameters of a query, without omitted ones; an object gives a value for each `name.key`. */
function parametersOf(query: Record<string, unknown>): [string, string][] {
  return Object.entries(query).flatMap(([name, value]): [string, string][] => {
    if (value === undefined || value === null) return [];
    if (typeof value !== "object") return [[name, String(value)]];
    return parametersOf(Object.fromEntries(Object.entries(value).map(([key, each]) => [`${name}.${key}`, each])));
  });
}

/** The error for a problem, also for one that your backend passes on. */
export function errorOf(problem: Problem): CreditsError {
  if (problem.code === "hold_ended") return new HoldEndedError(problem);
  if (problem.code === "insufficient_credits") return new InsufficientCreditsError(problem);
  if (problem.code === "unauthenticated") return new UnauthenticatedError(problem);
  return new CreditsError(problem);
}

/** Milliseconds to wait after an attempt: as the API says, else longer each time, with a random part. */
function pause(attempt: number, retryAfter: string | null | undefined): number {
  const asked = Number(retryAfter) * 1000;
  const shortest = asked > 0 ? asked : FIRST_PAUSE * 2 ** (attempt - 1);
  return Math.min(shortest * (1 + Math.random() / 2), LONGEST_PAUSE);
}

/** Waits; rejects with the reason as soon as the signal is aborted. */
function sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const leave = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", leave);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", leave);
  });
}
