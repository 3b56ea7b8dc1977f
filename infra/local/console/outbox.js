// The outbox: the emails that the stack has sent, to everybody or to one.

import { address, badge, button, empty, h, moment, newId, number, waiting } from "./dom.js";
import { follow, here, local } from "./local.js";

// A form to choose the user of a page; empty for all users.
export function about(who, change) {
  const input = h("input", { name: "user", value: who, list: "about", placeholder: "Everybody", "aria-label": "User id", autocomplete: "off", spellcheck: "false" });
  const go = () => change(input.value.trim());
  return h("form", { class: "filters", role: "search", onsubmit: (event) => { event.preventDefault(); go(); } }, input, h("button", {}, "Show"), here.user && here.user !== who ? button(`Only user ${here.user}`, () => { input.value = here.user; go(); }, { class: "quiet" }) : null);
}

export function showOutbox(query) {
  const who = query.get("of") ?? "";
  const area = h("div", {}, h("div", { class: "card" }, waiting(5)));
  let shown = null;
  const fill = async () => {
    const { total, mails } = await local(`/local/mails${who ? `?user_id=${encodeURIComponent(who)}` : ""}`);
    // One that was in doubt may have been sent by now.
    const now = JSON.stringify([total, mails.map(({ id, sent_at }) => [id, sent_at])]);
    if (now === shown) return; // the focus may be on one of them
    shown = now;
    area.replaceChildren(
      h(
        "div",
        { class: "card flush" },
        mails.length
          ? h("table", { class: "list mails" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Email"), h("th", { scope: "col" }, "To"), h("th", { scope: "col", class: "end" }, "Sent (UTC)"))), h("tbody", {}, mails.map(row)))
          : empty("No emails yet", who ? "They may have no address. Grant them something in Support, or look at everybody's." : "Users are told when credits come, expire or run low: move the clock, or grant somebody something in Support."),
      ),
      total > mails.length ? h("p", { class: "more muted" }, `The newest ${number(mails.length)} of ${number(total)}. Name a user to see theirs.`) : "",
    );
  };
  follow(area, { news: fill });
  return h(
    "section",
    {},
    h("div", { class: "heading" }, h("div", {}, h("h1", {}, "Outbox"), h("p", { class: "muted" }, "What Amazon SES would have delivered."))),
    about(who, (of) => { location.hash = `#/lab/outbox${of ? `?${new URLSearchParams({ user: of, of })}` : ""}`; }),
    area,
  );
}

function row(mail) {
  return h(
    "tr",
    {},
    h("td", { class: "first" }, button(mail.subject, () => open(mail), { class: "link" })),
    h("td", { class: "to" }, mail.to.map(address)),
    h("td", { class: "end muted" }, mail.sent_at ? moment(mail.sent_at) : badge("in doubt", "soon")),
  );
}

// The email as its reader sees it. The server answers with a policy that lets it run and load nothing.
function open({ id, subject, to }) {
  const title = newId();
  const dialog = h(
    "dialog",
    { class: "wide", "aria-labelledby": title },
    h("div", { class: "top" }, h("div", {}, h("h2", { id: title }, subject), h("p", { class: "about" }, `To ${to.join(", ")}`)), button("×", () => dialog.close(), { class: "close", "aria-label": "Close" })),
    h("iframe", { class: "mail", title: "The email as its reader sees it", sandbox: "", src: `/local/mail?id=${encodeURIComponent(id)}` }),
  );
  const from = document.activeElement;
  dialog.addEventListener("close", () => { dialog.remove(); from?.focus(); });
  document.body.append(dialog);
  dialog.showModal();
}
