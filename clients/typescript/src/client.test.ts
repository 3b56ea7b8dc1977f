import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeApi, problem, type Answer, type Request } from "./api.test-double.js";
import { CreditsClient, CreditsError, InsufficientCreditsError, NoAnswerError, UnauthenticatedError } from "./client.js";

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

for (const status of [409, 429, 503, 504]) {
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
  const { etag } = await client.subscription("a b");
  assert.equal(etag, '"3"');
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
  assert.equal(api.requests.length, 1);
});
