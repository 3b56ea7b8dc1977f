// Requests to the API: with the token, a time limit, and errors that say the next step.

import { $, say } from "./dom.js";
import * as session from "./session.js";

const PATIENCE = 30_000; // a route has 29 seconds
export const SLOW = 5_000;

// A refusal: a problem as defined by RFC 9457.
export class Problem extends Error {
  constructor(status, problem, requestId) {
    super(inWords(status, problem, requestId));
    this.status = status;
    this.code = problem.code;
    this.errors = problem.errors ?? [];
    this.problem = problem;
    this.title = TITLES[status] ?? "The API refused";
  }
}

const TITLES = {
  401: "Your session has ended",
  402: "There are not enough credits",
  403: "You may not do this",
  404: "There is no such thing",
  409: "Somebody else was faster",
  412: "Somebody else has changed it",
  429: "Too many requests",
  500: "The API failed",
  503: "The API is not available",
};

function inWords(status, problem, requestId) {
  const fields = (problem.errors ?? []).map((error) => `${error.field}: ${error.message}`).join("; ");
  const words = fields || problem.detail || `The API answered ${status}.`;
  const next = status >= 500 && requestId ? ` The log has it as ${requestId}.` : "";
  return words.replace(/^./, (letter) => letter.toUpperCase()).replace(/([^.])$/, "$1.") + next;
}

// No answer came, so nobody knows whether the request was done.
export class Lost extends Error {
  title = "No answer came";
}

let expired = () => {};
// Called when the API no longer accepts the token.
export const onExpired = (handler) => { expired = handler; };

let sent = () => {};
// Listeners for each request, called when its answer has come: {method, url, headers, body, by, status, ms}.
export const onSent = (handler) => { sent = handler; };

let waiting = 0;

// `by`: somebody else's token, {token()}, whose end the caller handles. `quiet`: nobody waits for it.
export async function ask(method, path, { body, key, match, isNew, by, quiet } = {}) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (key) headers["Idempotency-Key"] = key;
  if (match) headers["If-Match"] = match;
  if (isNew) headers["If-None-Match"] = "*";
  const url = new URL(path, session.home);
  const token = (by ?? session).token();
  const slow = setTimeout(() => { if (!quiet) say("The API is slow. Still waiting."); }, SLOW);
  const count = quiet ? 0 : 1;
  $("#progress").hidden = !(waiting += count);
  const began = performance.now();
  const tell = (status) => { if (!quiet) sent({ method, url, headers, body, by, status, ms: performance.now() - began }); };
  let answer, text;
  try {
    answer = await fetch(url, {
      method,
      headers: { Authorization: `Bearer ${token}`, ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "omit",
      cache: "no-store",
      signal: AbortSignal.timeout(PATIENCE),
    });
    text = await answer.text();
  } catch (error) {
    tell("no answer");
    throw new Lost(
      error.name === "TimeoutError"
        ? "The API has not answered for 30 seconds."
        : navigator.onLine === false ? "This computer has no network." : session.unreachable,
    );
  } finally {
    clearTimeout(slow);
    $("#progress").hidden = !(waiting -= count);
  }
  tell(answer.status);
  const found = parsed(text);
  if (answer.ok) return { body: found, headers: answer.headers, status: answer.status };
  const problem = new Problem(answer.status, found, answer.headers.get("X-Request-Id"));
  // Other requests under way have already reported it, and there may be a new token by now.
  if (answer.status === 401 && token === session.token()) {
    session.forget();
    expired();
  }
  throw problem;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

export const get = async (path, query = {}, more = {}) => {
  const asked = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== ""));
  return (await ask("GET", asked.size ? `${path}?${asked}` : path, more)).body;
};

export const userPath = (userId) => `api/subscriptions/${encodeURIComponent(userId)}`;
