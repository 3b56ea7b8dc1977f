// Calls the public API, as any page would, and the local stack: tokens, clock, queues, outbox.

export const OPS = { user_id: "ops", scope: "credits:admin" };
const USER_SCOPE = "credits:read credits:use";

let base = "";
const tokens = new Map(); // by user id and scope
let listener = () => {};

/** The address of the API, and the listener for each request to show. */
export function connect(address, told) {
  base = address;
  listener = told;
}

/** A refusal of the API, or of the local stack, in words. */
export class Refusal extends Error {
  constructor(problem) {
    super((problem.errors ?? []).map((wrong) => `${wrong.field} ${wrong.message}`).join("; ") || problem.detail);
    this.status = problem.status;
    this.code = problem.code;
  }
}

/** Asks the local stack. */
export async function local(path, body) {
  const asked = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, asked);
  const document = await answer.json();
  if (!answer.ok) throw new Refusal({ ...document, status: answer.status });
  return document;
}

/** The same, and shows the request. */
export async function localAction(path, body) {
  const line = [
    `curl -X POST ${location.origin}${path}`,
    `-H "Content-Type: application/json"`,
    `-d ${quoted(JSON.stringify(body))}`,
  ];
  return told("POST", path, line, () => local(path, body));
}

/** Makes a token for a user; with `seconds` below 0 it has expired. */
export async function signIn(who, seconds) {
  const asked = { ...who, ...(seconds === undefined ? {} : { seconds }) };
  const { access_token } = await local("/local/token", asked);
  tokens.set(`${who.user_id} ${who.scope}`, access_token);
}

export const userOf = (user_id) => ({ user_id, scope: USER_SCOPE });

/** Sends a request to the API. With `isNew` the API refuses it if the thing exists. A `quiet` request only keeps the page up to date and is not shown. */
export async function call(who, method, path, { body, key, isNew, quiet } = {}) {
  const name = `${who.user_id} ${who.scope}`;
  if (!tokens.has(name)) await signIn(who);
  const headers = { Authorization: `Bearer ${tokens.get(name)}` };
  if (key) headers["Idempotency-Key"] = key;
  if (isNew) headers["If-None-Match"] = "*";
  if (body) headers["Content-Type"] = "application/json";
  const send = async () => {
    const answer = await fetch(base + path, { method, headers, body: body && JSON.stringify(body) });
    const document = await answer.json();
    if (!answer.ok) throw new Refusal(document);
    return document;
  };
  if (quiet) return send();
  const scope = who.scope === USER_SCOPE ? "" : ` SCOPE="${who.scope}"`;
  const line = [
    `curl${method === "GET" ? "" : ` -X ${method}`} ${quoted(base + path)}`,
    `-H "Authorization: Bearer $(make -s token USER_ID=${quoted(who.user_id)}${scope})"`,
    ...(key ? [`-H "Idempotency-Key: ${key}"`] : []),
    ...(isNew ? [`-H "If-None-Match: *"`] : []),
    ...(body ? [`-H "Content-Type: application/json"`, `-d ${quoted(JSON.stringify(body))}`] : []),
  ];
  return told(method, path, line, send);
}

async function told(method, path, line, send) {
  const began = performance.now();
  const tell = (status) =>
    listener({ method, path, status, milliseconds: performance.now() - began, curl: line.join(" \\\n  ") });
  try {
    const document = await send();
    tell("done");
    return document;
  } catch (error) {
    tell(error instanceof Refusal ? `${error.status} ${error.code ?? ""}`.trim() : "no answer");
    throw error;
  }
}

/** For a shell. */
const quoted = (text) => (/^[\w:/.@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);
