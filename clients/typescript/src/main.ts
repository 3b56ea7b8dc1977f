// An example: reads a user's schedule, uses some of their credits and pages through their history.
//
//     CREDITS_API_URL=http://... CREDITS_TOKEN=$(make token USER_ID=42) node build/main.js
//
// Prints what it found as one line of JSON.

import { CreditsClient, InsufficientCreditsError, type Transaction } from "./client.js";

function setting(name: string): string {
  const value = process.env[name];
  if (!value) {
    throw new Error(`set the environment variable ${name}`);
  }
  return value;
}

const credits = new CreditsClient({ url: setting("CREDITS_API_URL"), token: () => setting("CREDITS_TOKEN") });

const schedule = await credits.schedule();

const key = crypto.randomUUID();
const used = await credits.use({ amount: 3, description: "Export of 3 pages" }, key);
const repeated = await credits.use({ amount: 3, description: "Export of 3 pages" }, key);

let refusal: InsufficientCreditsError | null = null;
try {
  await credits.use({ amount: 1_000_000_000, description: "More than anybody has" });
} catch (error) {
  if (!(error instanceof InsufficientCreditsError)) throw error;
  refusal = error;
}

const transactions: Transaction[] = [];
for await (const transaction of credits.history({ limit: 2 })) {
  transactions.push(transaction);
}

console.log(
  JSON.stringify({
    nextAllocationDate: schedule.next_allocation_date,
    balanceBefore: schedule.current_balance,
    balanceAfter: used.new_balance,
    isReplaySame: repeated.transaction_id === used.transaction_id,
    refusal: refusal?.problem.code,
    availableBalance: refusal?.availableBalance,
    transactions: transactions.map(({ transaction_id, type, amount }) => ({ transaction_id, type, amount })),
  }),
);
