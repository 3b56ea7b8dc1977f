// The requests sent to the API and to the local stack, and each as a line of curl.

const MOST = 40;

export const sent = []; // newest first: {number, method, url, headers, body, by, status, ms}

export function record(request) {
  sent.unshift({ ...request, number: (sent[0]?.number ?? 0) + 1 });
  sent.splice(MOST);
}

// Quoted for a shell.
const quoted = (text) => (/^[\w:/.@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);

// The path as in docs/api.md: without the stage, and without the emulator's prefix.
export const pathOf = ({ url }) => url.pathname.replace(/^.*?\/v1(?=\/)/, "") + url.search;

// The request, with a token of `who` if it is for the API.
export function curl({ method, url, headers, body }, who) {
  const token = who && `-H "Authorization: Bearer $(make -s token USER_ID=${quoted(who.user_id)}${who.isUser ? "" : ` SCOPE=${who.scope}`})"`;
  return [
    `curl${method === "GET" ? "" : ` -X ${method}`} ${quoted(url.href)}`,
    ...(token ? [token] : []),
    ...Object.entries(headers).map(([name, value]) => `-H ${quoted(`${name}: ${value}`)}`),
    ...(body === undefined ? [] : [`-d ${quoted(JSON.stringify(body))}`]),
  ].join(" \\\n  ");
}
