// The frame of the page: who is signed in, where they are, and what they may see.

import { $, button, h, say, trouble, waiting } from "./dom.js";
import { get, onExpired } from "./api.js";
import { completeSignIn, name, settings, signIn, signOut, takeDraft, token } from "./session.js";
import { draftOf, openAction } from "./actions.js";
import { showMonth } from "./month.js";
import { showPeople } from "./people.js";
import { showPerson } from "./person.js";

export const SCOPES = { admin: "credits:admin", backend: "credits:backend", billing: "credits:billing", read: "credits:read" };

let me = null; // {caller, user_id, scopes}

// What somebody with these scopes may do. The API decides; the page only hides what it would refuse.
function rights(scopes) {
  const has = (scope) => scopes.includes(SCOPES[scope]);
  const works = has("admin") || has("backend");
  return {
    others: works || has("billing"),
    lists: has("admin"),
    edits: has("admin"),
    support: has("admin"),
    grants: has("admin"),
    reverses: works,
    refunds: has("admin") || has("billing"),
    releases: works,
    subscribes: works || has("billing"),
    months: has("admin"),
  };
}

const ROUTES = [
  [/^#\/users$/, () => showPeople(me.may), "Users"],
  [/^#\/users\/([^/?]+)(?:\/(history|emails|edits))?$/, (id, tab) => showPerson(decodeURIComponent(id), tab ?? "overview", me.may), "Users"],
  [/^#\/months(?:\/(\d{4}-\d{2}))?$/, (period) => showMonth(period), "Operations"],
];

function nav() {
  const here = ROUTES.find(([route]) => route.test(location.hash))?.[2];
  const links = [me.may.others ? ["#/users", "Users"] : null, me.may.months ? ["#/months", "Operations"] : null].filter(Boolean);
  $("#nav").replaceChildren(
    ...links.map(([href, words]) => h("a", { href, "aria-current": here === words ? "page" : null }, words)),
  );
}

let shown = "";
async function show() {
  if (!token()) return showSignIn();
  const start = me.may.others ? "#/users" : `#/users/${encodeURIComponent(me.user_id ?? "")}`;
  if (!location.hash.startsWith("#/")) history.replaceState(null, "", start);
  const found = ROUTES.map(([route, view]) => [location.hash.match(route), view]).find(([match]) => match);
  nav();
  const main = $("#main");
  const isMove = shown !== location.hash.split("/").slice(0, 3).join("/");
  shown = location.hash.split("/").slice(0, 3).join("/");
  const view = found ? found[1](...found[0].slice(1)) : h("section", {}, h("h1", {}, "There is no such page"), h("p", {}, h("a", { href: start }, "To the start")));
  main.replaceChildren(view);
  const title = $("h1", main)?.textContent ?? "Console";
  document.title = `${title} · ${settings.product}`;
  if (isMove) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
    say(title);
  }
}

function showSignIn(error = null, draft = null) {
  $("#bar").hidden = true;
  document.title = `Sign in · ${settings.product}`;
  const start = button("Sign in", async () => {
    start.disabled = true;
    try {
      await signIn(draft);
    } catch (problem) {
      showSignIn(problem, draft);
    }
  }, { class: "main large" });
  $("#main").replaceChildren(
    h(
      "section",
      { class: "welcome" },
      h("img", { src: "console/icon.svg", alt: "", width: 48, height: 48 }),
      h("h1", {}, `${settings.product} console`),
      h("p", {}, "For the people who answer users. Sign in with your account."),
      error ? trouble(error) : null,
      start,
      h("p", { class: "small" }, `Stage ${settings.stage} · ${new URL(settings.issuer).host}`),
    ),
  );
  $("#main").focus();
}

// The token has run out in the middle of something. What was typed comes along.
onExpired(() => {
  if ($("#expired")) return;
  const draft = draftOf();
  const again = button("Sign in again", () => signIn(draft), { class: "main" });
  const words = !draft
    ? "You come back to this page."
    : draft.isUnknown
      ? "Whether your last request was done is not known yet. You come back to it, and can send it again: it is done once."
      : "What you typed is kept: it is here again when you are back. Nothing was done.";
  const dialog = h(
    "dialog",
    { id: "expired", "aria-labelledby": "expired-title" },
    h("h2", { id: "expired-title" }, "Your session has ended"),
    h("p", {}, words),
    h("div", { class: "buttons" }, again),
  );
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  document.body.append(dialog);
  dialog.showModal();
});

async function begin() {
  const main = $("#main");
  $("#product").textContent = settings.product;
  if (settings.stage !== "prod") $("#stage").textContent = settings.stage;
  const draft = takeDraft();
  try {
    if (!(await completeSignIn())) return showSignIn();
    main.replaceChildren(waiting());
    me = await get("console/session");
  } catch (error) {
    return showSignIn(error, draft);
  }
  me.may = rights(me.scopes);
  if (!me.may.others && !me.scopes.includes(SCOPES.read)) return showNothing();
  $("#bar").hidden = false;
  $("#me").replaceChildren(
    h("span", { class: "who", title: me.scopes.join(" ") }, name() || me.caller),
    button("Sign out", signOut, { class: "quiet" }),
  );
  addEventListener("hashchange", show);
  await show();
  if (draft) openAction(draft);
}

function showNothing() {
  $("#main").replaceChildren(
    h(
      "section",
      { class: "welcome" },
      h("h1", {}, "You have no part in this"),
      h("p", {}, `You are signed in as ${name() || me.caller}, and your token has none of our scopes. Ask whoever manages your accounts for credits:admin.`),
      button("Sign out", signOut),
    ),
  );
}

begin().finally(() => { document.documentElement.dataset.ready = "true"; });
