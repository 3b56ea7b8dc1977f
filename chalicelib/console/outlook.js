// When a user's credits run out, and why an amount was refused: computed, because no line says it.

import { asking, card, credits, facts, field, h, instantAt, localDay, newId, number, place, trouble, waiting, when } from "./dom.js";
import { get } from "./api.js";

export function forecast({ userId }) {
  const body = h("div", {}, waiting(3));
  const load = async () => {
    try {
      const found = await get("api/credits/forecast", { user_id: userId });
      const lost = found.expiring_credits[0];
      body.replaceChildren(
        facts([
          ...found.rates.map((rate) => [`As in ${rate.window_days} days`, atRate(rate)]),
          ["If nothing is spent", lost ? `${credits(lost.amount)} expire on ${localDay(lost.expires_at)}` : "nothing expires"],
        ]),
        h("p", { class: "hint" }, `Looks ahead to ${localDay(found.until)}. ${found.assumptions.map((each) => each.words).join(" ")}`),
      );
    } catch (error) {
      if (error.status !== 401) body.replaceChildren(trouble(error, load));
    }
  };
  load();
  return card("When they run out", body);
}

function atRate(rate) {
  if (rate.no_rate_because) return h("span", { class: "muted" }, rate.no_rate_because.words);
  const spent = `${number(rate.spent_amount)} spent in ${rate.days} ${rate.days === 1 ? "day" : "days"}`;
  return [h("strong", { class: rate.runs_out_on ? "soon" : "" }, rate.runs_out_on ? localDay(rate.runs_out_on) : "they last"), h("small", {}, ` ${spent}`)];
}

export function refusal({ userId, zone }) {
  const result = h("div", { role: "status" });
  const at = h("input", { type: "datetime-local", name: "at", step: 1, id: newId() });
  const amount = h("input", { type: "number", name: "amount", min: 1, max: 1_000_000_000, required: true });
  const explain = async () => {
    result.replaceChildren(waiting(2));
    const isNewest = asking(result);
    try {
      const asked = { user_id: userId, amount: amount.value, at: at.value && instantAt(Date.parse(`${at.value}Z`), zone) };
      const found = await get("api/credits/explain", asked);
      if (isNewest()) result.replaceChildren(...words(found, zone));
    } catch (error) {
      if (error.status !== 401 && isNewest()) result.replaceChildren(trouble(error, explain));
    }
  };
  return card(
    "Why was it refused?",
    h(
      "form",
      { class: "explain", onsubmit: (event) => { event.preventDefault(); explain(); } },
      field("Credits that were asked for", amount),
      field("When", at, `In ${place(zone)}; empty for now`),
      h("button", {}, "Explain"),
    ),
    result,
  );
}

function words(found, zone) {
  const isRefused = found.decision.code === "insufficient_credits";
  const reasons = found.reasons.map((each) => h("li", {}, each.words));
  const batches = found.batches.map((each) => h("li", {}, `${each.batch_id}: ${number(each.open_amount)} of ${number(each.remaining_amount)} could be taken`, each.taken_amount ? `, ${number(each.taken_amount)} of them are` : ""));
  return [
    h("p", {}, h("strong", { class: isRefused ? "bad" : "up" }, isRefused ? `${number(found.missing_amount)} too few` : "It is covered"), " ", h("small", {}, when(found.at, zone))),
    h("p", {}, found.decision.words),
    reasons.length ? h("ul", {}, reasons) : null,
    batches.length ? h("ul", { class: "muted" }, batches) : null,
  ].filter(Boolean);
}
