// The day of a subscriber, with the client that hey-api makes.

import { client } from "./build/hey-api/client.gen";
import * as credits from "./build/hey-api/sdk.gen";

client.setConfig({
  baseUrl: process.env["CREDITS_API_URL"] ?? "",
  auth: () => process.env["CREDITS_TOKEN"] ?? "",
});
const user_id = "hey-api";

async function main(): Promise<void> {
  const body = {
    plan: "pro",
    billing_interval: "yearly",
    status: "active",
    timezone: "Europe/Paris",
    started_at: "2026-01-15T00:00:00Z",
  } as const;
  const isNew = { path: { user_id }, headers: { "If-None-Match": "*" }, body } as const;
  const registered = await credits.putSubscription(isNew);
  const again = await credits.putSubscription(isNew);

  const granted = await credits.allocateCredits({
    headers: { "Idempotency-Key": "hey-api-1" },
    body: { user_id, amount: 100, description: "Welcome" },
    throwOnError: true,
  });
  const held = await credits.holdCredits({
    headers: { "Idempotency-Key": "hey-api-2" },
    body: { user_id, amount: 50, description: "Crawl" },
    throwOnError: true,
  });
  const captured = await credits.captureHold({
    path: { hold_id: held.data.hold_id },
    body: { amount: 31 },
    throwOnError: true,
  });

  const balance = await credits.getBalance({ query: { user_id }, throwOnError: true });
  const refused = await credits.useCredits({
    headers: { "Idempotency-Key": "hey-api-3" },
    body: { user_id, amount: 1_000, description: "Too much" },
  });

  console.log(
    JSON.stringify({
      registered: registered.response?.status,
      again: again.error?.code,
      granted: granted.data.new_balance,
      captured: captured.data.captured,
      released: captured.data.released,
      balance: balance.data.available_balance,
      refused: refused.error?.code,
    }),
  );
}

void main();
