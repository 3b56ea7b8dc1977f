// Reads a user's schedule, uses some of his credits and pages through his history.
//
//     CREDITS_API_URL=http://... CREDITS_TOKEN=$(make token USER_ID=42) node build/main.js
//
// Prints what it found as one line of JSON. src/contract.ts is generated from the API's contract:
// a path, a parameter or a field that does not exist is an error of the compiler.

import createClient from "openapi-fetch";
import type { components, paths } from "./contract.js";

type Problem = components["schemas"]["Problem"];
type Transaction = components["schemas"]["Transaction"];

/** A refusal of the API, with what it says for people as the message. */
class CreditsError extends Error {
  constructor(readonly problem: Problem) {
    super(`${problem.status} ${problem.code}: ${problem.detail}`);
  }
}

/** The data of an answer. Throws `CreditsError` when the API refused. */
function dataOf<Data>(answer: { data?: Data; error?: Problem }): Data {
  if (answer.data === undefined) {
    throw answer.error === undefined ? new Error("an answer without data") : new CreditsError(answer.error);
  }
  return answer.data;
}

function setting(name: string): string {
  const value = process.env[name];
  if (!value) {
    throw new Error(`set the environment variable ${name}`);
  }
  return value;
}

const api = createClient<paths>({
  baseUrl: setting("CREDITS_API_URL"),
  headers: { Authorization: `Bearer ${setting("CREDITS_TOKEN")}` },
});

/** Uses credits once, however often it is called with the same key. */
async function useCredits(amount: number, description: string, key: string) {
  return dataOf(
    await api.POST("/api/credits/use", {
      params: { header: { "Idempotency-Key": key } },
      body: { amount, description },
    }),
  );
}

/** The whole history, newest first. */
async function* history(pageSize: number): AsyncGenerator<Transaction> {
  let cursor: string | null = null;
  do {
    const query: { limit: number; cursor?: string } = { limit: pageSize, ...(cursor && { cursor }) };
    const page = dataOf(await api.GET("/api/credits/history", { params: { query } }));
    if (typeof page === "string") {
      throw new Error("this is CSV, and was not asked for");
    }
    yield* page.items;
    cursor = page.next_cursor;
  } while (cursor !== null);
}

const schedule = dataOf(await api.GET("/api/credits/allocation-schedule"));

const key = crypto.randomUUID();
const used = await useCredits(3, "Export of 3 pages", key);
const repeated = await useCredits(3, "Export of 3 pages", key);

let refusal: Problem | null = null;
try {
  await useCredits(1_000_000_000, "More than anybody has", crypto.randomUUID());
} catch (error) {
  if (!(error instanceof CreditsError)) throw error;
  refusal = error.problem;
}

const transactions: Transaction[] = [];
for await (const transaction of history(2)) {
  transactions.push(transaction);
}

console.log(
  JSON.stringify({
    nextAllocationDate: schedule.next_allocation_date,
    balanceBefore: schedule.current_balance,
    balanceAfter: used.new_balance,
    isReplaySame: repeated.transaction_id === used.transaction_id,
    refusal: refusal?.code,
    availableBalance: refusal?.available_balance,
    transactions: transactions.map(({ transaction_id, type, amount }) => ({ transaction_id, type, amount })),
  }),
);
