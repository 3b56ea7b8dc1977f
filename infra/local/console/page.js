// Shared by all parts of the page: makes elements, writes numbers and times, shows messages.

/** An element with properties and children; a text is never read as HTML. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const find = (selector) => document.querySelector(selector);

/** Tells screen readers what has happened. */
export function say(text) {
  find("#said").textContent = text;
}

/** Shows what went wrong, until something goes right. */
export function complain(text) {
  find("#trouble").textContent = text;
}

export const count = (number) => number.toLocaleString("en");
export const credits = (number) => `${count(number)} ${Math.abs(number) === 1 ? "credit" : "credits"}`;
export const signed = (number) => `${number > 0 ? "+" : number < 0 ? "−" : "±"}${count(Math.abs(number))}`;

function formatter(timeZone, parts) {
  try {
    return new Intl.DateTimeFormat("en-GB", { timeZone, ...parts });
  } catch {
    return new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", ...parts }); // a name the browser does not know
  }
}

const LONG_DAY = { weekday: "long", day: "numeric", month: "long", year: "numeric" };
const SHORT = { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" };

/** `Friday 1 January 2027`, of a local date such as 2027-01-01. */
export const longDay = (date) => formatter("UTC", LONG_DAY).format(new Date(`${date}T00:00:00Z`)).replace(",", "");
/** `31 December`, of a local date. */
export const day = (date) =>
  formatter("UTC", { day: "numeric", month: "long" }).format(new Date(`${date}T00:00:00Z`));
/** `1 Jan, 05:00`, where the timezone is. */
export const moment = (instant, zone) => formatter(zone, SHORT).format(new Date(instant));
/** `Thu 31 December 2026 at 04:45:10`, where the timezone is. */
export const clock = (instant, zone) =>
  formatter(zone, {
    weekday: "short", day: "numeric", month: "long", year: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit",
  }).format(new Date(instant)).replace(",", "");
/** `January 2027`, of a month such as 2027-01. */
export const month = (period) =>
  formatter("UTC", { month: "long", year: "numeric" }).format(new Date(`${period}-01T00:00:00Z`));
/** `2026-12-31`, the date at an instant where the timezone is. */
export const localDate = (instant, zone) =>
  new Intl.DateTimeFormat("en-CA", { timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit" }).format(
    new Date(instant),
  );

/** The local date some days after another. */
export function plusDays(date, days) {
  const moved = new Date(`${date}T00:00:00Z`);
  moved.setUTCDate(moved.getUTCDate() + days);
  return moved.toISOString().slice(0, 10);
}

export const daysBetween = (first, second) => Math.round((Date.parse(second) - Date.parse(first)) / 86_400_000);

/** The place of a timezone: `New York` of America/New_York. */
export const place = (zone) => zone.split("/").at(-1).replaceAll("_", " ");
