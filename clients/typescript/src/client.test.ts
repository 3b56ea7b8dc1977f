import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { FakeApi, problem, type Answer, type Request } from "./api.test-double.js";
import { CreditsClient, CreditsError, errorOf, HoldEndedError, InsufficientCreditsError, NoAnswerError, UnauthenticatedError } from "./client.js";

const URL = "https://api.example.com/v1/";
const USED = { success: true, new_balance: 90, transaction_id: "42-2", batches: [] };
const BUSY = { status: 503, body: problem(503, "unavailable"), headers: { "Retry-After": "2" } };

function clientOf(answer: (request: Request, number: number) => Answer, token = () => "t-1" as string) {
  const api = new FakeApi(answer);
  return { api, client: new CreditsClient({ url: URL, token, fetch: api.fetch, sleep: api.sleep }) };
}

test("a request carries the token, the query and nothing that was left out", async () => {
  const { api, client } = clientOf(() => ({ body: { items: [], next_cursor: null } }));
  await client.historyPage({ limit: 5, type: "usage" });
  const [request] = api.requests;
  assert.equal(request?.path, "/v1/api/credits/history");
  assert.deepEqual(request?.query, { limit: "5", type: "usage" });
  assert.equal(request?.headers["authorization"], "Bearer t-1");
  assert.equal(request?.headers["content-type"], undefined);
});

test("a usage has a key of its own, or the caller's, and keeps it when it is sent again", async () => {
  const { api, client } = clientOf((_, number) => (number === 0 ? BUSY : { body: USED }));
  await client.use({ amount: 10, description: "Report" });
  await client.use({ amount: 10, description: "Report" });
  await client.use({ amount: 10, description: "Report" }, "order-17");
  const keys = api.requests.map(({ headers }) => headers["idempotency-key"]);
  assert.equal(keys[0], keys[1]);
  assert.notEqual(keys[1], keys[2]);
  assert.equal(keys[3], "order-17");
});

test("a page of a statement is its lines as they were sent", async () => {
  const text = '{"format":"credits-statement-1"}\n{"lines":0}\n';
  const headers = { "Content-Type": "text/plain; charset=utf-8" };
  const { api, client } = clientOf(() => ({ body: text, headers }));
  assert.equal(await client.statementPage({ limit: 5 }), text);
  assert.equal(api.requests[0]?.path, "/v1/api/credits/statement");
  assert.deepEqual(api.requests[0]?.query, { limit: "5" });
});

for (const status of [409, 429, 502, 503, 504]) {
  test(`${status} is sent again after what the API asks for, four times at most`, async () => {
    const { api, client } = clientOf(() => ({ ...BUSY, status, body: problem(status, "unavailable") }));
    await assert.rejects(client.use({ amount: 1, description: "x" }), (error) => error instanceof CreditsError && error.status === status);
    assert.equal(api.requests.length, 4);
    assert.equal(api.pauses.length, 3);
    assert.ok(api.pauses.every((pause) => pause >= 2000 && pause <= 3000));
  });
}

test("without a Retry-After it waits ever longer", async () => {
  const { api, client } = clientOf(() => ({ status: 503, body: problem(503, "unavailable") }));
  await assert.rejects(client.plans());
  assert.ok(api.pauses[0]! >= 250 && api.pauses[0]! < api.pauses[2]!);
});

for (const status of [400, 402, 403, 404, 412, 422, 500]) {
  test(`${status} is not sent again`, async () => {
    const { api, client } = clientOf(() => ({ status, body: problem(status, "not_allowed") }));
    await assert.rejects(client.schedule(), CreditsError);
    assert.equal(api.requests.length, 1);
  });
}

test("a refusal says why, for people and for programs", async () => {
  const body = problem(402, "insufficient_credits", { available_balance: 7, detail: "7 credits are available" });
  const { client } = clientOf(() => ({ status: 402, body }));
  await assert.rejects(client.use({ amount: 10, description: "x" }), (error) => {
    assert.ok(error instanceof InsufficientCreditsError);
    assert.equal(error.availableBalance, 7);
    assert.ok(error.is("insufficient_credits"));
    assert.match(error.message, /^402 insufficient_credits: 7 credits are available$/);
    return true;
  });
});

test("the holds are a list", async () => {
  const hold = { hold_id: "42-9", amount: 50 };
  const { client } = clientOf(() => ({ body: { holds: [hold] } }));
  assert.deepEqual(await client.holds(), [hold]);
});

test("an end of a hold that has ended otherwise says how it ended", async () => {
  const captured = { ended: "captured", ended_at: "2026-07-01T10:20:00Z", transaction_id: "42-10" } as const;
  const lapsed = { ended: "lapsed", ended_at: "2026-07-01T11:00:00Z" } as const;
  for (const [how, ended, endedAt, transactionId] of [
    [captured, "captured", "2026-07-01T10:20:00Z", "42-10"],
    [lapsed, "lapsed", "2026-07-01T11:00:00Z", null],
    [{}, undefined, undefined, null],
  ] as const) {
    const { api, client } = clientOf(() => ({ status: 410, body: problem(410, "hold_ended", how) }));
    await assert.rejects(client.release("42-9"), (error) => {
      assert.ok(error instanceof HoldEndedError);
      assert.deepEqual([error.ended, error.endedAt, error.transactionId], [ended, endedAt, transactionId]);
      return true;
    });
    assert.equal(api.requests.length, 1);
  }
});

test("a capture whose answer is lost is asked for again", async () => {
  const answer = { success: true, transaction_id: "42-10", captured: 31, released: 19, new_balance: 59, batches: [] };
  const { api, client } = clientOf((_, number) => (number === 0 ? new TypeError("connection reset") : { body: answer }));
  assert.deepEqual(await client.capture("42-9", { amount: 31 }), answer);
  assert.deepEqual(api.requests.map(({ headers }) => headers["idempotency-key"]), [undefined, undefined]);
});

// --- A job with a hold ---------------------------------------------------------------------------

const FOR_JOB = { user_id: "42", amount: 50, description: "Crawl" };
const HELD = { success: true, new_balance: 50, transaction_id: "42-9", hold_id: "42-9", amount: 50, expires_at: "2026-07-01T11:00:00Z" };
const CAPTURED = { success: true, transaction_id: "42-10", captured: 31, released: 19, new_balance: 69, batches: [] };
const RELEASED = { success: true, transaction_id: "42-10", released: 50, new_balance: 100 };
const CRASH = new Error("the job crashed");

/** A client whose hold is opened, and whose later requests get these answers. */
function holding(...answers: Answer[]) {
  const { api, client } = clientOf((_, number) => [{ body: HELD }, ...answers][number] ?? new Error("one request too many"));
  return { client, ends: () => api.requests.slice(1).map(({ path }) => path.replace("/v1/api/credits/holds/", "")), api };
}

function refusal(status: number, code: string): Answer {
  return { status, body: problem(status, code) };
}

test("a job captures what it came to, and what it answers is answered", async () => {
  const { api, client, ends } = holding({ body: CAPTURED });
  const found = await client.withHold(FOR_JOB, async (hold) => {
    assert.deepEqual([hold.hold_id, hold.amount], ["42-9", 50]);
    return (await hold.capture({ amount: 31 })).new_balance;
  }, "crawl-7");
  assert.equal(found, 69);
  assert.deepEqual(ends(), ["42-9/capture"]);
  assert.deepEqual([api.requests[0]?.body, api.requests[0]?.headers["idempotency-key"]], [FOR_JOB, "crawl-7"]);
  assert.deepEqual(api.requests[1]?.body, { amount: 31 });
});

test("a job without a key gets one", async () => {
  const { api, client } = holding({ body: RELEASED });
  await client.withHold(FOR_JOB, async () => {});
  assert.equal(api.requests[0]?.headers["idempotency-key"]?.length, 36);
});

test("a job that throws or captures nothing frees its credits", async () => {
  const crashed = holding({ body: RELEASED });
  await assert.rejects(crashed.client.withHold(FOR_JOB, () => Promise.reject(CRASH)), CRASH);
  assert.deepEqual(crashed.ends(), ["42-9/release"]);
  const idle = holding({ body: RELEASED });
  assert.equal(await idle.client.withHold(FOR_JOB, async () => "done"), "done");
  assert.deepEqual(idle.ends(), ["42-9/release"]);
});

test("a hold that has ended in its job is left alone, also when the job throws then", async () => {
  const captured = holding({ body: CAPTURED });
  const capturing = captured.client.withHold(FOR_JOB, async (hold) => {
    await hold.capture({ amount: 31 });
    throw CRASH;
  });
  await assert.rejects(capturing, CRASH);
  assert.deepEqual(captured.ends(), ["42-9/capture"]);
  const released = holding({ body: RELEASED });
  assert.deepEqual(await released.client.withHold(FOR_JOB, (hold) => hold.release()), RELEASED);
  assert.deepEqual(released.ends(), ["42-9/release"]);
});

test("a release that fails does not hide the job's error, and is one without it", async () => {
  const crashed = holding(refusal(500, "internal_error"));
  await assert.rejects(crashed.client.withHold(FOR_JOB, () => Promise.reject(CRASH)), CRASH);
  const idle = holding(refusal(500, "internal_error"));
  await assert.rejects(idle.client.withHold(FOR_JOB, async () => {}), (error) => error instanceof CreditsError && error.status === 500);
});

test("a release that is refused in the job is tried again at its end", async () => {
  const { client, ends } = holding(refusal(500, "internal_error"), { body: RELEASED });
  await client.withHold(FOR_JOB, (hold) => hold.release().catch(() => {}));
  assert.deepEqual(ends(), ["42-9/release", "42-9/release"]);
});

test("a job that throws is over when its credits are free", async () => {
  let isFree = false;
  const api = new FakeApi(async ({ path }) => {
    if (!path.endsWith("release")) return { body: HELD };
    await new Promise(setImmediate);
    isFree = true;
    return { body: RELEASED };
  });
  const client = new CreditsClient({ url: URL, token: () => "t", fetch: api.fetch, sleep: api.sleep });
  await assert.rejects(client.withHold(FOR_JOB, () => Promise.reject(CRASH)), CRASH);
  assert.ok(isFree);
});

test("a hold that has ended meanwhile needs no release", async () => {
  const { client } = holding(refusal(410, "hold_ended"));
  assert.equal(await client.withHold(FOR_JOB, async () => "done"), "done");
});

test("a capture that is refused frees the credits, and is what the job throws", async () => {
  const { client, ends } = holding(refusal(422, "not_allowed"), { body: RELEASED });
  await assert.rejects(client.withHold(FOR_JOB, (hold) => hold.capture({ amount: 60 })), (error) => error instanceof CreditsError && error.is("not_allowed"));
  assert.deepEqual(ends(), ["42-9/capture", "42-9/release"]);
});

test("a capture without an answer leaves the hold as it is: it may have been done", async () => {
  for (const silence of [new TypeError("connection reset"), refusal(504, "unavailable")]) {
    const { client, ends } = holding(silence, silence, silence, silence);
    await assert.rejects(client.withHold(FOR_JOB, (hold) => hold.capture({ amount: 31 })));
    assert.deepEqual(ends(), Array(4).fill("42-9/capture"));
  }
});

test("what is not covered holds nothing, and no job begins", async () => {
  const { client } = clientOf(() => refusal(402, "insufficient_credits"));
  await assert.rejects(client.withHold(FOR_JOB, async () => assert.fail("it began")), InsufficientCreditsError);
});

test("a token that is refused is replaced once, and else the user has to sign in", async () => {
  const refused: (string | undefined)[] = [];
  const tokens = ["old", "new"];
  const api = new FakeApi(({ headers }) =>
    headers["authorization"] === "Bearer new" ? { body: { plans: [] } } : { status: 401, body: problem(401, "unauthenticated") },
  );
  const token = (last?: string) => {
    refused.push(last);
    return tokens.shift() ?? "old";
  };
  const client = new CreditsClient({ url: URL, token, fetch: api.fetch, sleep: api.sleep });
  assert.deepEqual(await client.plans(), []);
  assert.deepEqual(refused, [undefined, "old"]);
  await assert.rejects(client.plans(), UnauthenticatedError);
  assert.equal(api.requests.length, 3);
});

test("what is not answered is sent again with the same key, and in the end is no answer", async () => {
  const { api, client } = clientOf((_, number) => (number === 0 ? new TypeError("connection reset") : { body: USED }));
  assert.equal((await client.use({ amount: 1, description: "x" })).new_balance, 90);
  assert.equal(new Set(api.requests.map(({ headers }) => headers["idempotency-key"])).size, 1);
  const never = clientOf(() => new TypeError("connection reset"));
  await assert.rejects(never.client.plans(), NoAnswerError);
  assert.equal(never.api.requests.length, 4);
  const page = clientOf(() => ({ status: 502, body: "<html>Bad gateway</html>" }));
  await assert.rejects(page.client.plans(), NoAnswerError);
});

test("the pages of the history are fetched as they are asked for, and follow the cursor", async () => {
  const { api, client } = clientOf(({ query }) => ({
    body: { items: [{ transaction_id: `42-${query["cursor"] ?? "first"}` }], next_cursor: query["cursor"] === "b" ? null : query["cursor"] ? "b" : "a" },
  }));
  const pages = client.historyPages({ type: "usage" });
  await pages.next();
  assert.equal(api.requests.length, 1);
  const found = [];
  for await (const { transaction_id } of client.history({ type: "usage" })) found.push(transaction_id);
  assert.deepEqual(found, ["42-first", "42-a", "42-b"]);
  assert.ok(api.requests.every(({ query }) => query["type"] === "usage"));
});

test("a subscription comes with its version, and an edit can insist on it", async () => {
  const { api, client } = clientOf(() => ({ body: { user_id: "a b" }, headers: { ETag: '"3"' } }));
  const { etag, value } = await client.subscription("a b");
  assert.deepEqual([etag, value], ['"3"', { user_id: "a b" }]);
  await client.patchSubscription("a b", { timezone: "Europe/Paris" }, etag);
  const request = api.requests[1];
  assert.deepEqual([request?.method, request?.path, request?.headers["if-match"]], ["PATCH", "/v1/api/subscriptions/a%20b", '"3"']);
});

test("who leaves is not kept waiting", async () => {
  const leaving = new AbortController();
  const { api, client } = clientOf(() => {
    leaving.abort();
    return BUSY;
  });
  await assert.rejects(client.schedule({}, leaving.signal), { name: "AbortError" });
  assert.deepEqual([api.requests.length, api.pauses], [1, []]);
});

// A user id, a key and a text with every character that has a meaning in an address.
const USER = "a/b c?d#é%";
const OF_USER = "/v1/api/subscriptions/a%2Fb%20c%3Fd%23%C3%A9%25";
const TRANSACTION = "/v1/api/credits/transactions/a%2Fb%20c%3Fd%23%C3%A9%25-7";
const SUBSCRIPTION = {
  email: "jürgen@example.com", timezone: "Europe/Paris", plan: "pro", billing_interval: "yearly", status: "active",
  started_at: "2026-01-01T00:00:00Z",
} as const;

type Call = (client: CreditsClient) => Promise<unknown>;

const CALLS: [string, Call, Partial<Request>][] = [
  ["schedule of a user", (client) => client.schedule({ user_id: USER }), { method: "GET", path: "/v1/api/credits/allocation-schedule", query: { user_id: USER } }],
  ["schedule", (client) => client.schedule(), { method: "GET", path: "/v1/api/credits/allocation-schedule" }],
  [
    "balance",
    (client) => client.balance({ user_id: USER, at: "2026-05-01T00:00:00+02:00" }),
    { method: "GET", path: "/v1/api/credits/balance", query: { user_id: USER, at: "2026-05-01T00:00:00+02:00" } },
  ],
  ["history", (client) => client.historyPage({ type: "reversal", limit: 3 }), { method: "GET", path: "/v1/api/credits/history", query: { type: "reversal", limit: "3" } }],
  [
    "use",
    (client) => client.use({ amount: 7, description: "Prüfung" }, "order-17"),
    { method: "POST", path: "/v1/api/credits/use", body: { amount: 7, description: "Prüfung" }, headers: { "idempotency-key": "order-17" } },
  ],
  [
    "reverse",
    (client) => client.reverse({ transaction_id: "42-9", amount: 2, description: "Back", user_id: USER }, "back-9"),
    {
      method: "POST", path: "/v1/api/credits/reverse", headers: { "idempotency-key": "back-9" },
      body: { transaction_id: "42-9", amount: 2, description: "Back", user_id: USER },
    },
  ],
  [
    "allocate",
    (client) => client.allocate({ user_id: USER, amount: -3, description: "Wrong" }, "gift-3"),
    { method: "POST", path: "/v1/api/credits/allocate", body: { user_id: USER, amount: -3, description: "Wrong" }, headers: { "idempotency-key": "gift-3" } },
  ],
  [
    "use with metadata",
    (client) => client.use({ amount: 7, description: "Lead", metadata: { campaign: "42" } }, "lead-7"),
    {
      method: "POST", path: "/v1/api/credits/use", headers: { "idempotency-key": "lead-7" },
      body: { amount: 7, description: "Lead", metadata: { campaign: "42" } },
    },
  ],
  [
    "history of a campaign",
    (client) => client.historyPage({ user_id: USER, metadata: { campaign: "42 & more", list: "", none: undefined } } as object),
    {
      method: "GET", path: "/v1/api/credits/history",
      query: { user_id: USER, "metadata.campaign": "42 & more", "metadata.list": "" },
    },
  ],
  [
    "useMany",
    (client) => client.useMany({ user_id: USER, items: [{ key: "lead-7", amount: 2, description: "A lead" }] }),
    {
      method: "POST", path: "/v1/api/credits/use-many",
      body: { user_id: USER, items: [{ key: "lead-7", amount: 2, description: "A lead" }] },
    },
  ],
  ["transaction", (client) => client.transaction(`${USER}-7`), { method: "GET", path: TRANSACTION }],
  [
    "voidBatch",
    (client) => client.voidBatch(`${USER}-9`, { description: "Wrong" }, "void-9"),
    {
      method: "POST", path: "/v1/api/credits/batches/a%2Fb%20c%3Fd%23%C3%A9%25-9/void", headers: { "idempotency-key": "void-9" },
      body: { description: "Wrong" },
    },
  ],
  [
    "hold",
    (client) => client.hold({ user_id: USER, amount: 50, description: "Crawl", expires_in_seconds: 600 }, "crawl-17"),
    {
      method: "POST", path: "/v1/api/credits/holds", headers: { "idempotency-key": "crawl-17" },
      body: { user_id: USER, amount: 50, description: "Crawl", expires_in_seconds: 600 },
    },
  ],
  [
    "capture",
    (client) => client.capture(`${USER}-9`, { amount: 31, metadata: { campaign: "42" } }),
    {
      method: "POST", path: "/v1/api/credits/holds/a%2Fb%20c%3Fd%23%C3%A9%25-9/capture",
      body: { amount: 31, metadata: { campaign: "42" } },
    },
  ],
  ["release", (client) => client.release(`${USER}-9`), { method: "POST", path: "/v1/api/credits/holds/a%2Fb%20c%3Fd%23%C3%A9%25-9/release", body: {} }],
  ["holds of a user", (client) => client.holds({ user_id: USER }), { method: "GET", path: "/v1/api/credits/holds", query: { user_id: USER } }],
  [
    "purchase",
    (client) => client.purchase({ user_id: USER, amount: 500, payment_id: "pi_1", price: { amount: 4900, currency: "EUR" } }),
    {
      method: "POST", path: "/v1/api/credits/purchases",
      body: { user_id: USER, amount: 500, payment_id: "pi_1", price: { amount: 4900, currency: "EUR" } },
    },
  ],
  [
    "refund",
    (client) => client.refund({ payment_id: "pi_1", amount: 250, description: "Half of it" }),
    { method: "POST", path: "/v1/api/credits/refunds", body: { payment_id: "pi_1", amount: 250, description: "Half of it" } },
  ],
  ["plans", (client) => client.plans(), { method: "GET", path: "/v1/api/plans" }],
  ["subscription", (client) => client.subscription(USER), { method: "GET", path: OF_USER }],
  [
    "foundSubscriptions",
    (client) => client.foundSubscriptions({ email: "ada+x@example.com" }),
    { method: "GET", path: "/v1/api/subscriptions", query: { email: "ada+x@example.com" } },
  ],
  ["putSubscription", (client) => client.putSubscription(USER, SUBSCRIPTION), { method: "PUT", path: OF_USER, body: SUBSCRIPTION }],
  [
    "putSubscription of a version",
    (client) => client.putSubscription(USER, SUBSCRIPTION, '"7"'),
    { method: "PUT", path: OF_USER, body: SUBSCRIPTION, headers: { "if-match": '"7"' } },
  ],
  ["patchSubscription", (client) => client.patchSubscription(USER, { status: "paused" }), { method: "PATCH", path: OF_USER, body: { status: "paused" } }],
  [
    "patchSubscription of a version",
    (client) => client.patchSubscription(USER, { status: "paused" }, '"8"'),
    { method: "PATCH", path: OF_USER, body: { status: "paused" }, headers: { "if-match": '"8"' } },
  ],
  ["subscriptionEmails", (client) => client.subscriptionEmails(USER, { limit: 2 }), { method: "GET", path: `${OF_USER}/emails`, query: { limit: "2" } }],
  ["transactionEmail", (client) => client.transactionEmail(`${USER}-7`), { method: "GET", path: `${TRANSACTION}/email` }],
  ["transactionEvents", (client) => client.transactionEvents(`${USER}-7`), { method: "GET", path: `${TRANSACTION}/events` }],
  ["month", (client) => client.month("2026-12"), { method: "GET", path: "/v1/api/months/2026-12" }],
  ["month that does not exist", (client) => client.month("12/2026"), { method: "GET", path: "/v1/api/months/12%2F2026" }],
  ["forecast", (client) => client.forecast({ user_id: USER }), { method: "GET", path: "/v1/api/credits/forecast", query: { user_id: USER } }],
  ["explain", (client) => client.explain({ amount: 7 }), { method: "GET", path: "/v1/api/credits/explain", query: { amount: "7" } }],
  ["operations", (client) => client.operations(), { method: "GET", path: "/v1/api/operations" }],
  ["subscriptionEdits", (client) => client.subscriptionEdits(USER, { limit: 2 }), { method: "GET", path: `${OF_USER}/edits`, query: { limit: "2" } }],
];

for (const [name, call, wanted] of CALLS) {
  test(`${name} sends exactly this`, async () => {
    const { api, client } = clientOf(() => ({ body: { plans: [], holds: [] } }));
    await call(client);
    const content = wanted.body === undefined ? {} : { "content-type": "application/json" };
    const headers = { accept: "application/json", authorization: "Bearer t-1", ...content, ...wanted.headers };
    assert.deepEqual(api.requests, [{ query: {}, body: undefined, ...wanted, headers }]);
  });
}

for (const [method, call] of [
  ["use", (client: CreditsClient) => client.use({ amount: 1, description: "x" })],
  ["reverse", (client: CreditsClient) => client.reverse({ transaction_id: "42-1", description: "x", user_id: "42" })],
  ["allocate", (client: CreditsClient) => client.allocate({ user_id: "42", amount: 1, description: "x" })],
  ["voidBatch", (client: CreditsClient) => client.voidBatch("42-1", { description: "x" })],
  ["hold", (client: CreditsClient) => client.hold({ user_id: "42", amount: 1, description: "x" })],
] as const) {
  test(`${method} without a key makes one, which is the same in every attempt and another in every call`, async () => {
    const { api, client } = clientOf((_, number) => (number % 2 ? { body: USED } : BUSY));
    await call(client);
    await call(client);
    const keys = api.requests.map(({ headers }) => headers["idempotency-key"] ?? "");
    assert.ok(keys.every((key) => key.length === 36), `keys: ${keys}`);
    assert.deepEqual([keys[0] === keys[1], keys[1] === keys[2], keys[2] === keys[3]], [true, false, true]);
  });
}

for (const [retryAfter, chance, pauses] of [
  [undefined, 0, [250, 500, 1000]],
  [undefined, 1, [375, 750, 1500]],
  ["3", 0, [3000, 3000, 3000]],
  ["3", 1, [4500, 4500, 4500]],
  ["3600", 0, [20_000, 20_000, 20_000]],
  ["15", 1, [20_000, 20_000, 20_000]],
  ["soon", 0, [250, 500, 1000]],
  ["0", 0, [250, 500, 1000]],
] as const) {
  test(`after a Retry-After of ${retryAfter} and with a chance of ${chance} it pauses for ${pauses} ms`, async (t) => {
    t.mock.method(Math, "random", () => chance);
    const { api, client } = clientOf(() => ({ ...BUSY, headers: retryAfter ? { "Retry-After": retryAfter } : {} }));
    await assert.rejects(client.plans(), CreditsError);
    assert.deepEqual(api.pauses, pauses);
  });
}

test("a caller says how often a request is sent", async () => {
  for (const attempts of [0, 1, 2, 6]) {
    const api = new FakeApi(() => BUSY);
    await assert.rejects(new CreditsClient({ url: URL, token: () => "t", attempts, fetch: api.fetch, sleep: api.sleep }).plans());
    assert.equal(api.requests.length, Math.max(attempts, 1));
  }
});

test("ever new tokens that are all refused are not asked for for ever", async () => {
  const asked: (string | undefined)[] = [];
  const api = new FakeApi(() => ({ status: 401, body: problem(401, "unauthenticated") }));
  const token = (refused?: string) => {
    assert.ok(asked.length < 5, "tokens are asked for for ever");
    return `t-${asked.push(refused)}`;
  };
  await assert.rejects(new CreditsClient({ url: URL, token, fetch: api.fetch, sleep: api.sleep }).plans(), UnauthenticatedError);
  assert.deepEqual(asked, [undefined, "t-1"]);
  assert.deepEqual(api.requests.map(({ headers }) => headers["authorization"]), ["Bearer t-1", "Bearer t-2"]);
});

for (const [status, code, name] of [
  [401, "unauthenticated", "UnauthenticatedError"],
  [402, "insufficient_credits", "InsufficientCreditsError"],
  [403, "forbidden", "CreditsError"],
  [422, "not_allowed", "CreditsError"],
  [409, "idempotency_key_reused", "CreditsError"],
  [410, "hold_ended", "HoldEndedError"],
] as const) {
  test(`${code} is a ${name}`, async () => {
    const { client } = clientOf(() => ({ status, body: problem(status, code) }));
    await assert.rejects(client.use({ amount: 1, description: "x" }), { name });
  });
}

test("pages go on from the cursor they are begun with", async () => {
  const next: Record<string, string | null> = { a: "b", b: "c", c: null };
  const { api, client } = clientOf(({ query }) => ({ body: { items: [], next_cursor: next[query["cursor"] ?? ""] ?? null } }));
  let pages = 0;
  for await (const page of client.historyPages({ cursor: "a" })) {
    pages += page.items.length + 1;
    if (pages > 3) break;
  }
  assert.deepEqual(api.requests.map(({ query }) => query["cursor"]), ["a", "b", "c"]);
});

test("who leaves between two pages asks for no more of them", async () => {
  const leaving = new AbortController();
  const { api, client } = clientOf(() => ({ body: { items: [{ transaction_id: "42-1" }], next_cursor: "a" } }));
  const lines = client.history({}, leaving.signal);
  await lines.next();
  leaving.abort();
  await assert.rejects(lines.next(), { name: "AbortError" });
  assert.equal(api.requests.length, 1);
});

test("what takes too long is given up, whether or not the caller can leave", async (t) => {
  const limits: number[] = [];
  t.mock.method(AbortSignal, "timeout", (milliseconds: number) => {
    limits.push(milliseconds);
    return AbortSignal.abort(new DOMException("too long", "TimeoutError"));
  });
  const { client } = clientOf(() => ({ body: { plans: [] } }));
  await assert.rejects(client.plans(), NoAnswerError);
  await assert.rejects(client.plans(new AbortController().signal), NoAnswerError);
  assert.deepEqual(limits, Array(8).fill(10_000), "each of four attempts has the whole time, of both requests");
  const api = new FakeApi(() => ({ body: { plans: [] } }));
  const patient = new CreditsClient({ url: URL, token: () => "t", timeout: 60_000, attempts: 1, fetch: api.fetch, sleep: api.sleep });
  await assert.rejects(patient.plans(), NoAnswerError);
  assert.equal(limits.at(-1), 60_000);
  const hasty = new CreditsClient({ url: URL, token: () => "t", timeout: 0, attempts: 1, fetch: api.fetch, sleep: api.sleep });
  await assert.rejects(hasty.plans(), NoAnswerError);
  assert.equal(limits.at(-1), 0);
});

test("an answer that never came keeps its cause", async () => {
  const cause = new TypeError("connection reset");
  const { client } = clientOf(() => cause);
  await assert.rejects(client.plans(), { name: "NoAnswerError", message: "GET /api/plans was not answered", cause });
});

for (const url of ["https://api.example.com/v1", "https://api.example.com/v1/", "https://api.example.com/v1//"]) {
  test(`${url} is an address of the API`, async () => {
    const api = new FakeApi(() => ({ body: { plans: [] } }));
    await new CreditsClient({ url, token: () => "t", fetch: api.fetch, sleep: api.sleep }).plans();
    assert.equal(api.requests[0]?.path, "/v1/api/plans");
  });
}

test("what is null or undefined in a query is left out, like what is not there", async () => {
  const { api, client } = clientOf(() => ({ body: { items: [], next_cursor: null } }));
  await client.historyPage({ limit: 5, cursor: null, type: undefined } as object);
  assert.deepEqual(api.requests[0]?.query, { limit: "5" });
});

test("who leaves while the API is silent waits for no other attempt", async () => {
  const leaving = new AbortController();
  const { api, client } = clientOf(() => {
    leaving.abort();
    return new DOMException("left", "AbortError");
  });
  await assert.rejects(client.schedule({}, leaving.signal), { name: "AbortError" });
  assert.deepEqual([api.requests.length, api.pauses], [1, []]);
});

test("who leaves during a pause leaves at once, with their own reason, and no timer is left", async () => {
  const timers = () => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;
  const before = timers();
  const leaving = new AbortController();
  const reason = new Error("the page is closed");
  const api = new FakeApi(() => ({ ...BUSY, headers: { "Retry-After": "6" } }));
  const started = performance.now();
  const reading = new CreditsClient({ url: URL, token: () => "t", fetch: api.fetch }).schedule({}, leaving.signal);
  setTimeout(() => leaving.abort(reason), 20);
  await assert.rejects(reading, (error) => error === reason);
  assert.ok(performance.now() - started < 5_000);
  assert.equal(timers(), before);
  assert.equal(api.requests.length, 1);
});

test("a pause that nobody leaves takes its time, and lets go of the signal", async (t) => {
  t.mock.method(Math, "random", () => 0);
  const { signal } = new AbortController();
  const api = new FakeApi((_, number) => (number === 0 ? { ...BUSY, headers: { "Retry-After": "0.05" } } : { body: { plans: [] } }));
  const started = performance.now();
  await new CreditsClient({ url: URL, token: () => "t", fetch: api.fetch }).plans(signal);
  assert.ok(performance.now() - started >= 45);
  assert.equal(getEventListeners(signal, "abort").length, 0);
  const other = new FakeApi((_, number) => (number === 0 ? { ...BUSY, headers: { "Retry-After": "0.05" } } : { body: USED }));
  assert.ok((await new CreditsClient({ url: URL, token: () => "t", fetch: other.fetch }).use({ amount: 1, description: "x" })).success);
});

for (const status of [502, 503, 504]) {
  test(`a ${status} of a server in front of the API is sent again like its own, with the same key`, async () => {
    const page = { status, body: "<html>Service unavailable</html>", headers: { "Retry-After": "2", "Content-Type": "text/html" } };
    const { api, client } = clientOf((_, number) => (number === 0 ? page : { body: USED }));
    assert.equal((await client.use({ amount: 1, description: "x" })).new_balance, 90);
    assert.equal(new Set(api.requests.map(({ headers }) => headers["idempotency-key"])).size, 1);
    assert.ok(api.pauses.length === 1 && api.pauses[0]! >= 2000);
    const never = clientOf(() => page);
    const message = `an answer ${status} that is not the API's`;
    await assert.rejects(never.client.use({ amount: 1, description: "x" }), { name: "NoAnswerError", message });
    assert.equal(never.api.requests.length, 4);
    const lines = clientOf(() => ({ ...page, headers: { "Content-Type": "text/plain" } }));
    await assert.rejects(lines.client.statementPage(), { name: "NoAnswerError", message });
  });
}

test("what is in front of the API and not busy is not asked again", async () => {
  const { api, client } = clientOf(() => ({ status: 500, body: "<html>Something is wrong</html>" }));
  await assert.rejects(client.plans(), (error) => error instanceof NoAnswerError && error.cause instanceof SyntaxError);
  assert.equal(api.requests.length, 1);
});

for (const [body, type] of [["null", "application/json"], ["<html>Sign in</html>", "text/html"]] as const) {
  test(`${body} is not taken for an answer of the API`, async () => {
    for (const ask of [(client: CreditsClient) => client.plans(), (client: CreditsClient) => client.statementPage()]) {
      const { api, client } = clientOf(() => ({ body, headers: { "Content-Type": type } }));
      await assert.rejects(ask(client), NoAnswerError);
      assert.equal(api.requests.length, 4);
    }
  });
}

test("what a problem is, its code says and not its status", () => {
  assert.ok(errorOf(problem(403, "unauthenticated")) instanceof UnauthenticatedError);
  assert.ok(!(errorOf(problem(401, "forbidden")) instanceof UnauthenticatedError));
});

test("a refusal without a balance leaves none, and has a status", async () => {
  const { client } = clientOf(() => ({ status: 402, body: problem(402, "insufficient_credits") }));
  await assert.rejects(client.use({ amount: 10, description: "x" }), (error) => {
    assert.ok(error instanceof InsufficientCreditsError);
    assert.deepEqual([error.availableBalance, error.status, error.is("not_found")], [0, 402, false]);
    return true;
  });
});

test("without a fetch of its own it uses the global one, as it is at the time", async (t) => {
  const { api } = clientOf(() => ({ body: { plans: [] } }));
  const client = new CreditsClient({ url: URL, token: () => "t" });
  t.mock.method(globalThis, "fetch", api.fetch);
  assert.deepEqual(await client.plans(), []);
  assert.equal(api.requests[0]?.path, "/v1/api/plans");
});

for (const [name, call] of [
  ["schedule", (client: CreditsClient, signal: AbortSignal) => client.schedule({}, signal)],
  ["balance", (client: CreditsClient, signal: AbortSignal) => client.balance({}, signal)],
  ["historyPage", (client: CreditsClient, signal: AbortSignal) => client.historyPage({}, signal)],
  ["historyPages", (client: CreditsClient, signal: AbortSignal) => client.historyPages({}, signal).next()],
  ["history", (client: CreditsClient, signal: AbortSignal) => client.history({}, signal).next()],
  ["transaction", (client: CreditsClient, signal: AbortSignal) => client.transaction("42-1", signal)],
  ["holds", (client: CreditsClient, signal: AbortSignal) => client.holds({}, signal)],
  ["plans", (client: CreditsClient, signal: AbortSignal) => client.plans(signal)],
  ["forecast", (client: CreditsClient, signal: AbortSignal) => client.forecast({}, signal)],
  ["explain", (client: CreditsClient, signal: AbortSignal) => client.explain({}, signal)],
  ["statementPage", (client: CreditsClient, signal: AbortSignal) => client.statementPage({}, signal)],
  ["foundSubscriptions", (client: CreditsClient, signal: AbortSignal) => client.foundSubscriptions({}, signal)],
  ["month", (client: CreditsClient, signal: AbortSignal) => client.month("2026-12", signal)],
  ["operations", (client: CreditsClient, signal: AbortSignal) => client.operations(signal)],
] as const) {
  test(`${name} can be left`, async () => {
    const { api, client } = clientOf(() => ({ body: { items: [], plans: [], holds: [], next_cursor: null } }));
    const reason = new Error("the page is closed");
    await assert.rejects(call(client, AbortSignal.abort(reason)), (error) => error === reason);
    assert.deepEqual(api.requests, []);
  });
}

test("a subscription without a version has an empty one", async () => {
  const { client } = clientOf(() => ({ body: {} }));
  assert.equal((await client.subscription("42")).etag, "");
});

test("a token may come later, and a newer one, too", async () => {
  const tokens = ["old", "new"];
  const api = new FakeApi((_, number) => (number === 0 ? { status: 401, body: problem(401, "unauthenticated") } : { body: { plans: [] } }));
  const client = new CreditsClient({ url: URL, token: () => Promise.resolve(tokens.shift() ?? "none"), fetch: api.fetch, sleep: api.sleep });
  assert.deepEqual(await client.plans(), []);
  assert.deepEqual(api.requests.map(({ headers }) => headers["authorization"]), ["Bearer old", "Bearer new"]);
});

test("a newer token is asked for only if it is the token that is refused", async () => {
  const asked: (string | undefined)[] = [];
  const api = new FakeApi(() => ({ status: 403, body: problem(403, "forbidden") }));
  const token = (refused?: string) => `t-${asked.push(refused)}`;
  await assert.rejects(new CreditsClient({ url: URL, token, fetch: api.fetch, sleep: api.sleep }).plans(), { status: 403 });
  assert.deepEqual([asked, api.requests.length], [[undefined], 1]);
});

test("who leaves in the last attempt is told their reason, and not that nobody answered", async () => {
  const leaving = new AbortController();
  const reason = new Error("the page is closed");
  const api = new FakeApi(() => {
    leaving.abort(reason);
    return reason;
  });
  const client = new CreditsClient({ url: URL, token: () => "t", attempts: 1, fetch: api.fetch });
  await assert.rejects(client.plans(leaving.signal), (error) => error === reason);
});

test("the fetch of a browser is called as browsers want it: on nothing of ours", async (t) => {
  const api = new FakeApi(() => ({ body: { plans: [] } }));
  // A browser says "Illegal invocation" when fetch is a method of another object than the window.
  t.mock.method(globalThis, "fetch", function (this: unknown, ...words: Parameters<typeof fetch>) {
    assert.ok(this === undefined || this === globalThis, "Illegal invocation");
    return api.fetch(...words);
  });
  assert.deepEqual(await new CreditsClient({ url: URL, token: () => "t" }).plans(), []);
});

/** A `fetch` whose first answer breaks off in the middle, or all of them. */
function breakingOff(answers: number): { calls: Headers[]; fetch: typeof fetch } {
  const calls: Headers[] = [];
  const half = () =>
    new ReadableStream({
      start(stream) {
        stream.enqueue(new TextEncoder().encode('{"success": tr'));
        stream.error(new TypeError("terminated"));
      },
    });
  return {
    calls,
    fetch: async (_, settings) => {
      calls.push(new Headers(settings?.headers));
      return new Response(calls.length > answers ? JSON.stringify(USED) : half());
    },
  };
}

test("an answer that breaks off is asked for again with the same key, and in the end is no answer", async () => {
  const once = breakingOff(1);
  const client = new CreditsClient({ url: URL, token: () => "t", fetch: once.fetch, sleep: async () => {} });
  assert.equal((await client.use({ amount: 1, description: "x" })).new_balance, 90);
  assert.equal(new Set(once.calls.map((headers) => headers.get("Idempotency-Key"))).size, 1);
  const always = breakingOff(Infinity);
  const other = new CreditsClient({ url: URL, token: () => "t", fetch: always.fetch, sleep: async () => {} });
  await assert.rejects(other.use({ amount: 1, description: "x" }), NoAnswerError);
  assert.equal(always.calls.length, 4);
});
