// The history: every line of the ledger, newest first, by type, page by page.

import { count, find, make, moment, signed } from "./page.js";

const NAMES = {
  allocation: "Monthly credits",
  expiration: "Expired",
  usage: "Used",
  manual: "By hand",
  reversal: "Given back",
  hold: "Reserved",
  release: "Free again",
  purchase: "Bought",
  refund: "Refunded",
};
// Characters that every font has. Other types are marked by their sign.
const MARKS = { expiration: "×", reversal: "←", hold: "•", release: "°" };

let shown = new Set();

/** Shows a page of `GET /api/credits/history`, below what is there or in place of it. */
export function showHistory(page, zone, giveBack, isMore) {
  const list = find("#history");
  const before = shown;
  if (!isMore) {
    list.replaceChildren();
    shown = new Set();
  }
  for (const item of page.items) {
    shown.add(item.transaction_id);
    const line = drawn(item, zone, giveBack);
    // New lines fade in.
    if (!isMore && before.size && !before.has(item.transaction_id)) line.classList.add("entering");
    list.append(line);
  }
  list.setAttribute("aria-busy", "false");
  find("#history-empty").hidden = list.children.length > 0;
  find("#older").hidden = page.next_cursor === null;
}

export function clearHistory() {
  shown = new Set();
  find("#history").replaceChildren();
  find("#history").setAttribute("aria-busy", "false");
  find("#history-empty").hidden = true;
  find("#older").hidden = true;
}

function drawn(item, zone, giveBack) {
  const direction = item.amount > 0 ? "plus" : "minus";
  const title = item.type === "allocation" || item.type === "expiration" ? NAMES[item.type] : item.description;
  const about = [moment(item.effective_at, zone)];
  if (title !== NAMES[item.type]) about.unshift(NAMES[item.type]);
  if (item.left_out_amount) about.push(`${count(item.left_out_amount)} left out: filled up to ${count(item.balance_cap)}`);
  const small = make("small", {}, about.join(" · "));
  if (item.type === "usage") {
    const label = `Give back ${count(-item.amount)} for ${item.description}`;
    small.append(
      make("button", { type: "button", className: "back", ariaLabel: label, onclick: () => giveBack(item) }, "Give back"),
    );
  }
  return make(
    "li",
    { className: `${direction} ${item.type}`, "data-transaction": item.transaction_id },
    make("span", { className: "mark", ariaHidden: "true" }, MARKS[item.type] ?? (item.amount > 0 ? "+" : "−")),
    make("span", { className: "what" }, title, small),
    make("span", { className: "much" }, change(item), make("small", {}, `balance ${count(item.balance_after)}`)),
  );
}

/** What a line did. A hold moves no credits, and its end moves only what is used. */
function change({ type, amount, held_amount, released_amount }) {
  if (type === "hold") return `${count(held_amount)} reserved`;
  if (type === "release") return `${count(released_amount)} free again`;
  return signed(amount);
}
