// The requests that were sent, as lines of curl to repeat them. And something that every page must
// survive: the end of its session.

import { button, empty, h, number } from "./dom.js";
import { customerHref, follow, supportHref, tell, told } from "./local.js";
import { curl, pathOf, sent } from "./sent.js";
import { ADMIN, expire } from "./session.js";

let isChangesOnly = false;

function drawn(request) {
  const line = told();
  const isLocal = request.url.pathname.startsWith("/local/");
  const text = curl(request, isLocal ? null : (request.by ?? ADMIN));
  const copy = button("Copy", async () => {
    await navigator.clipboard.writeText(text);
    tell(line, "Copied.");
  }, { class: "small" });
  const tries = request.body?.dry_run ? " (dry run)" : "";
  return h(
    "li",
    {},
    h(
      "details",
      {},
      h("summary", {}, h("code", {}, `${request.method} ${pathOf(request)}`), h("span", { class: request.status >= 400 || request.status === "no answer" ? "bad" : "up" }, `${request.status}${tries}`), h("small", {}, `${number(Math.round(request.ms))} ms`)),
      h("pre", { tabindex: 0 }, text),
      h("div", { class: "buttons start" }, copy, line),
    ),
  );
}

export function showRequests() {
  const list = h("ol", { id: "requests", class: "requests" });
  let newest = null;
  const fill = () => {
    if (newest === (sent[0]?.number ?? 0)) return;
    newest = sent[0]?.number ?? 0;
    const shown = sent.filter(({ method }) => !isChangesOnly || method !== "GET");
    list.replaceChildren(...shown.map(drawn));
    if (list.firstChild) list.firstChild.firstChild.open = true;
    none.hidden = shown.length > 0;
  };
  const none = empty("Nothing was sent yet", "Look at a user, or do something to one.");
  const only = h("input", { type: "checkbox", checked: isChangesOnly, onchange: () => { isChangesOnly = only.checked; newest = null; fill(); } });
  const line = told();
  const end = button("Let the session expire", async () => {
    await expire();
    tell(line, ["Done: the next answer is 401. See it as ", h("a", { href: customerHref() }, "Customer"), " and in ", h("a", { href: supportHref() }, "Support"), "."]);
  });
  follow(list, { second: fill });
  return h(
    "section",
    {},
    h("div", { class: "heading" }, h("div", {}, h("h1", {}, "Requests"), h("p", { class: "muted" }, "Everything that was sent since the page was loaded, as you would send it yourself.")), h("div", { class: "beside" }, end, line)),
    h("label", { class: "check" }, only, "Only what changes something"),
    h("div", { class: "card" }, list, none),
  );
}
