// The day of a subscriber, with the client that orval makes.

import * as credits from "./build/orval/credits";

const token = process.env["CREDITS_TOKEN"] ?? "";
const headers = { Authorization: `Bearer ${token}` };
const user_id = "orval";

async function main(): Promise<void> {
  const subscription: credits.SubscriptionRequest = {
    plan: "pro",
    billing_interval: "yearly",
    status: "active",
    timezone: "Europe/Paris",
    started_at: "2026-01-15T00:00:00Z",
  };
  const isNew = { headers: { ...headers, "If-None-Match": "*" } };
  const registered = await credits.putSubscription(user_id, subscription, isNew);
  const again = await credits.putSubscription(user_id, subscription, isNew);
  if (again.status !== 412) throw new Error(`registered twice: ${again.status}`);

  const granted = await credits.allocateCredits(
    { user_id, amount: 100, description: "Welcome" },
    { headers: { ...headers, "Idempotency-Key": "orval-1" } },
  );
  if (granted.status !== 200) throw new Error(granted.data.detail);
  const held = await credits.holdCredits(
    { user_id, amount: 50, description: "Crawl" },
    { headers: { ...headers, "Idempotency-Key": "orval-2" } },
  );
  if (held.status !== 200) throw new Error(held.data.detail);
  const captured = await credits.captureHold(held.data.hold_id, { amount: 31 }, { headers });
  if (captured.status !== 200) throw new Error(captured.data.detail);

  const balance = await credits.getBalance({ user_id }, { headers });
  if (balance.status !== 200) throw new Error(balance.data.detail);
  const refused = await credits.useCredits(
    { user_id, amount: 1_000, description: "Too much" },
    { headers: { ...headers, "Idempotency-Key": "orval-3" } },
  );
  if (refused.status !== 402) throw new Error(`used more than there is: ${refused.status}`);

  console.log(
    JSON.stringify({
      registered: registered.status,
      again: again.data.code,
      granted: granted.data.new_balance,
      captured: captured.data.captured,
      released: captured.data.released,
      balance: balance.data.available_balance,
      refused: refused.data.code,
    }),
  );
}

void main();
