// The frame of the page: who is signed in, where they are, and what is shown.
//
// An area is a part of the page for some people: {name, start, pages, routes}. If there are several,
// each has a tab.

import { $, button, h, say, trouble, waiting } from "./dom.js";
import { get, onExpired } from "./api.js";
import { draftOf, openAction } from "./actions.js";
import * as session from "./session.js";

let areas;
let me = null; // {caller, user_id, scopes}
let shown = "";

export async function run(among) {
  areas = among;
  onExpired(sessionEnded);
  // The part of the address after # is the route: it is not for links within the page.
  $(".skip").addEventListener("click", (event) => { event.preventDefault(); $("#main").focus(); });
  await begin();
  document.documentElement.dataset.ready = "true";
}

async function begin() {
  const { product, stage } = session.settings;
  $("#product").textContent = product;
  if (stage !== "prod") $("#stage").textContent = stage;
  const draft = session.takeDraft();
  try {
    if (!(await session.completeSignIn())) return showSignIn();
    $("#main").replaceChildren(waiting());
    me = await get("console/session");
  } catch (error) {
    return showSignIn(error, draft);
  }
  const who = session.name() || me.caller;
  if (!me.scopes.some((scope) => scope !== "credits:use")) return showNothing(who);
  $("#bar").hidden = false;
  $("#me").replaceChildren(...session.corner(who, me.scopes));
  addEventListener("hashchange", show);
  await show();
  if (draft) openAction(draft);
}

// The present route: {area, page, view}, if there is one.
function found() {
  for (const area of areas) {
    for (const [pattern, page, view] of area.routes) {
      const match = location.hash.match(pattern);
      if (match) return { area, page, view: () => view(me, ...match.slice(1)) };
    }
  }
  return null;
}

const links = (all, here) => all.map(([href, words]) => h("a", { href, "aria-current": words === here ? "page" : null }, words));

async function show() {
  if (!session.token()) return showSignIn();
  const start = areas[0].start(me);
  if (!location.hash.startsWith("#/") || location.hash === "#/") history.replaceState(null, "", start);
  const here = found();
  const area = here?.area ?? areas[0];
  const view = here ? here.view() : h("section", {}, h("h1", {}, "There is no such page"), h("p", {}, h("a", { href: start }, "To the start")));
  if (areas.length > 1) $("#areas").replaceChildren(...links(areas.map((each) => [each.start(me), each.name]), here?.area.name));
  $("#nav").replaceChildren(...links(area.pages(me), here?.page));
  const main = $("#main");
  const place = location.hash.split("?")[0].split("/").slice(0, 3).join("/");
  const isMove = shown && shown !== place;
  shown = place;
  main.replaceChildren(view);
  const title = $("h1", main)?.textContent ?? here?.page ?? "Console";
  document.title = `${title} · ${session.settings.product}`;
  if (isMove) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
    say(title);
  }
}

const page = (...parts) => h("section", { class: "welcome" }, ...parts);

function showSignIn(error = null, draft = null) {
  const { title, words, small } = session.welcome;
  $("#bar").hidden = true;
  document.title = `Sign in · ${session.settings.product}`;
  const start = button("Sign in", async () => {
    start.disabled = true;
    try {
      if (await session.signIn(draft)) await begin();
    } catch (problem) {
      showSignIn(problem, draft);
    }
  }, { class: "main large" });
  $("#main").replaceChildren(
    page(
      h("img", { src: "console/icon.svg", alt: "", width: 48, height: 48 }),
      h("h1", {}, title),
      h("p", {}, words),
      error ? trouble(error) : null,
      start,
      h("p", { class: "small" }, small),
    ),
  );
  $("#main").focus();
}

function showNothing(who) {
  $("#main").replaceChildren(
    page(
      h("h1", {}, "You have no part in this"),
      h("p", {}, `You are signed in as ${who}, and your token has none of our scopes. Ask the person who manages your accounts for credits:admin.`),
      button("Sign out", session.signOut),
    ),
  );
}

// The token has expired in the middle of something. Typed text is kept.
function sessionEnded() {
  if ($("#expired")) return;
  const draft = draftOf();
  const words = !draft
    ? "You come back to this page."
    : draft.isUnknown
      ? "Whether your last request was done is not known yet. You come back to it, and can send it again: it is done once."
      : "What you typed is kept: it is here again when you are back. Nothing was done.";
  const said = h("div", {});
  const again = button("Sign in again", async () => {
    try {
      // After the issuer, the person comes back on a new page.
      if (!(await session.signIn(draft))) return;
    } catch (error) {
      said.replaceChildren(trouble(error));
      return;
    }
    dialog.remove();
    for (const open of document.querySelectorAll("dialog[open]")) open.close();
    await show();
    if (draft) openAction(draft);
  }, { class: "main" });
  const dialog = h(
    "dialog",
    { id: "expired", "aria-labelledby": "expired-title" },
    h("h2", { id: "expired-title" }, "Your session has ended"),
    h("p", {}, words),
    said,
    h("div", { class: "buttons" }, again),
  );
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  document.body.append(dialog);
  dialog.showModal();
}
