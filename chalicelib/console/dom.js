// Elements, dates and numbers for every part of the page. Text never becomes markup.

export const $ = (selector, within = document) => within.querySelector(selector);

// h("button", {class: "main", onclick: f}, "Save", child): an element. Null children are left out.
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [property, to] of Object.entries(value)) element.style.setProperty(property, to);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Where a dialog announces something. Everything outside an open dialog is inert: nobody hears it.
export const said = () => h("p", { class: "said unseen", role: "status" });

// Announces something to people who cannot see that the page has changed.
export function say(words) {
  const place = [...document.querySelectorAll("dialog[open] > .said"), $("#said")][0];
  place.textContent = "";
  setTimeout(() => { place.textContent = words; }, 50);
}

let count = 0;
export const newId = () => `i${(count += 1)}`;

// --- Numbers and dates ---------------------------------------------------------------------------

const whole = new Intl.NumberFormat("en");
export const number = (value) => whole.format(value).replace("-", "−");
export const credits = (amount) => `${number(amount)} ${Math.abs(amount) === 1 ? "credit" : "credits"}`;
export const signed = (amount) => (amount > 0 ? `+${number(amount)}` : number(amount));

// How many decimals the minor unit of a currency stands for, where it is not a hundredth. As Stripe counts
// (docs.stripe.com/currencies): what browsers know of currencies is another list, without cents for some that have them.
const DECIMALS = Object.fromEntries([
  ..."BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF".split(" ").map((currency) => [currency, 0]),
  ..."BHD JOD KWD OMR TND".split(" ").map((currency) => [currency, 3]),
]);

// A price, given in minor units, such as cents.
export function money({ amount, currency }) {
  const decimals = DECIMALS[currency] ?? 2;
  const shown = { style: "currency", currency, minimumFractionDigits: decimals, maximumFractionDigits: decimals };
  return new Intl.NumberFormat("en", shown).format(amount / 10 ** decimals);
}

function formatted(instant, zone, options) {
  try {
    return new Intl.DateTimeFormat("en-GB", { timeZone: zone, ...options }).format(new Date(instant));
  } catch {
    // A zone that this browser does not know.
    return new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", ...options }).format(new Date(instant));
  }
}

const DAY = { day: "numeric", month: "short", year: "numeric" };
export const day = (instant, zone = "UTC") => formatted(instant, zone, DAY);
export const moment = (instant, zone = "UTC") =>
  formatted(instant, zone, { ...DAY, hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
// A local date, such as that of the next credits, is the same in every zone.
export const localDay = (date) => day(`${date}T12:00:00Z`);
// The last day on which credits can be used: they end at a midnight, exclusively.
export const lastDay = (instant, zone) => day(new Date(new Date(instant) - 1).toISOString(), zone);

// The local date, as 2026-12-31.
export const isoDay = (instant, zone) => formatted(instant, zone, { year: "numeric", month: "2-digit", day: "2-digit" }).split("/").reverse().join("-");

// The instant at which a zone's clocks show a time, given as if it were UTC: the first guess may be off
// by the zone's distance from UTC.
export function instantAt(shown, zone) {
  const local = (time) => Date.parse(`${formatted(time, zone, { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }).replace(/(\d+)\/(\d+)\/(\d+), /, "$3-$2-$1T")}Z`);
  let time = shown;
  for (let round = 0; round < 2; round += 1) time += shown - local(time);
  return new Date(time).toISOString();
}

// The instant at which a local day ends.
export const endOfDay = (date, zone) => instantAt(Date.parse(`${date}T00:00:00Z`) + 86_400_000, zone);

export function when(instant, zone) {
  return h("time", { datetime: instant, title: `${moment(instant)} UTC` }, moment(instant, zone));
}

// The present time of the stack. A local stack's clock can be ahead of this machine's.
export const clock = { now: () => Date.now() };

const CITIES = /^(Africa|America|Antarctica|Arctic|Asia|Atlantic|Australia|Europe|Indian|Pacific)\//;
// The city of a timezone: New York of America/New_York. Zones without a city have misleading names:
// Etc/GMT-14 is 14 hours ahead of Greenwich.
export const city = (zone) => (CITIES.test(zone) ? zone.split("/").at(-1).replaceAll("_", " ") : null);
export function offset(zone, instant = clock.now()) {
  const [, sign, hours, minutes] = formatted(instant, zone, { timeZoneName: "longOffset" }).match(/([+-])(\d\d):(\d\d)/) ?? [];
  return Number(hours) || Number(minutes) ? `UTC${sign.replace("-", "−")}${Number(hours)}${minutes === "00" ? "" : `:${minutes}`}` : "UTC";
}
// A timezone's name: "Kiritimati (UTC+14)", and without a city "UTC+14".
export const place = (zone, instant) => (city(zone) ? `${city(zone)} (${offset(zone, instant)})` : offset(zone, instant));

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
export function fromNow(instant, now = clock.now()) {
  const seconds = (new Date(instant) - now) / 1000;
  for (const [unit, size] of [["year", 31557600], ["month", 2629800], ["day", 86400], ["hour", 3600], ["minute", 60]]) {
    if (Math.abs(seconds) >= size * (unit === "day" ? 1 : 1.5)) return relative.format(Math.trunc(seconds / size), unit);
  }
  return "now";
}

// --- Small parts ---------------------------------------------------------------------------------

export const button = (words, onclick, more = {}) => h("button", { type: "button", onclick, ...more }, words);
export const badge = (words, tone = "") => h("span", { class: `badge ${tone}` }, words);
export const human = (word) => word.replaceAll("_", " ").replace(/^./, (letter) => letter.toUpperCase());

export function card(title, ...children) {
  const id = newId();
  return h("section", { class: "card", "aria-labelledby": id }, h("h2", { id }, title), ...children);
}

export function field(label, input, hint = null) {
  input.id ||= newId();
  const about = hint && h("small", { id: `${input.id}-hint` }, hint);
  if (about) input.setAttribute("aria-describedby", about.id);
  return h("div", { class: "field" }, h("label", { for: input.id }, label), input, about);
}

export function select(name, options, value, more = {}) {
  const element = h("select", { name, ...more }, options.map(([key, words]) => h("option", { value: key }, words)));
  element.value = value ?? "";
  return element;
}

// An email address; it breaks before its @ if there is no room.
export const address = (email) => email.split(/(?=@)/).flatMap((part, index) => (index ? [h("wbr"), part] : part));

export const facts = (pairs) =>
  h("dl", { class: "facts" }, pairs.filter(Boolean).map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value ?? "–"))));

export const empty = (title, words) => h("div", { class: "empty" }, h("strong", {}, title), words ? h("p", {}, words) : null);

// Shown until an answer has come.
export const waiting = (lines = 3) =>
  h("div", { class: "waiting", "aria-busy": "true" }, h("span", { class: "unseen" }, "Loading"), Array.from({ length: lines }, () => h("i")));

// What went wrong, in words, and what to do next.
export function trouble(error, again) {
  return h(
    "div",
    { class: "trouble", role: "alert" },
    h("div", {}, h("strong", {}, error.title ?? "Something went wrong"), h("p", {}, error.message)),
    again ? button("Try again", again) : null,
  );
}

// Begins a request whose answer fills an element. Returns whether it is still the newest one: an older,
// slower answer must not replace it.
const newest = new WeakMap();
export function asking(element) {
  const mark = {};
  newest.set(element, mark);
  return () => newest.get(element) === mark;
}

// A list in pages: `load(cursor)` returns {rows, next}.
export function paged(body, load, { none, label }) {
  const more = h("div", { class: "more" });
  const run = async (cursor) => {
    more.replaceChildren(waiting(cursor ? 1 : 4));
    try {
      const { rows, next } = await load(cursor);
      body.append(...rows);
      const again = next ? button("Show more", () => run(next)) : null;
      const isBare = !body.children.length;
      more.replaceChildren(...[again, isBare && !next ? none : null].filter(Boolean));
      // A page can be empty without being the last.
      if (isBare && next) more.prepend(h("p", {}, "Nothing found yet; there is more to search."));
      if (cursor) say(`${body.children.length} ${label} are shown.`);
      if (cursor && rows[0]) (rows[0].querySelector("a, button") ?? rows[0]).focus?.();
    } catch (error) {
      more.replaceChildren(trouble(error, () => run(cursor)));
    }
  };
  run(null);
  return more;
}
