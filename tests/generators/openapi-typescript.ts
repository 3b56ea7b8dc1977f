// The day of a subscriber, with the types that openapi-typescript makes, and openapi-fetch.

import createClient from "openapi-fetch";

import type { paths } from "./contract.js";

const credits = createClient<paths>({
  baseUrl: process.env["CREDITS_API_URL"] ?? "",
  headers: { Authorization: `Bearer ${process.env["CREDITS_TOKEN"] ?? ""}` },
});
const user_id = "openapi-typescript";

const isNew = {
  params: { path: { user_id }, header: { "If-None-Match": "*" } },
  body: {
    plan: "pro",
    billing_interval: "yearly",
    status: "active",
    timezone: "Europe/Paris",
    started_at: "2026-01-15T00:00:00Z",
  },
} as const;
const registered = await credits.PUT("/api/subscriptions/{user_id}", isNew);
const again = await credits.PUT("/api/subscriptions/{user_id}", isNew);

const granted = await credits.POST("/api/credits/allocate", {
  params: { header: { "Idempotency-Key": "openapi-typescript-1" } },
  body: { user_id, amount: 100, description: "Welcome" },
});
const held = await credits.POST("/api/credits/holds", {
  params: { header: { "Idempotency-Key": "openapi-typescript-2" } },
  body: { user_id, amount: 50, description: "Crawl" },
});
if (!held.data) throw new Error(held.error.detail);
const captured = await credits.POST("/api/credits/holds/{hold_id}/capture", {
  params: { path: { hold_id: held.data.hold_id } },
  body: { amount: 31 },
});

const balance = await credits.GET("/api/credits/balance", { params: { query: { user_id } } });
const refused = await credits.POST("/api/credits/use", {
  params: { header: { "Idempotency-Key": "openapi-typescript-3" } },
  body: { user_id, amount: 1_000, description: "Too much" },
});

console.log(
  JSON.stringify({
    registered: registered.response.status,
    again: again.error?.code,
    granted: granted.data?.new_balance,
    captured: captured.data?.captured,
    released: captured.data?.released,
    balance: balance.data?.available_balance,
    refused: refused.error?.code,
  }),
);
