// Signing in: authorization code with PKCE (RFC 7636) at the issuer whose tokens the API accepts.
//
// Tokens live in this module's memory and nowhere else: after reloading the page, people sign in
// again. For the way to the issuer and back the browser stores the state of the sign-in, which is
// removed as soon as it is read.

import { $, button, h } from "./dom.js";

export const settings = JSON.parse($("meta[name=console]").content);
export const home = new URL("console", new URL(".", location.href)).href;

const UNDER_WAY = "credits-console-sign-in";
const DRAFT = "credits-console-draft";

let held = null; // {token, endsAt, name, idToken}

// The page's texts: before the person is known, in its corner afterwards, and if no answer comes.
export const welcome = {
  title: `${settings.product} console`,
  words: "For the people who answer users. Sign in with your account.",
  small: `Stage ${settings.stage} · ${new URL(settings.issuer).host}`,
};
export const corner = (who, scopes) => [h("span", { class: "who", title: scopes.join(" ") }, who), button("Sign out", signOut, { class: "quiet" })];
export const unreachable = "The API cannot be reached. Is there a network?";

export const token = () => held?.token ?? null;
export const name = () => held?.name ?? "";

// A mistake of the page, or of the issuer: nobody is signed in.
export class NotSignedIn extends Error {
  title = "You could not be signed in";
}

const base64url = (bytes) =>
  btoa(String.fromCharCode(...new Uint8Array(bytes))).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)));

// Goes to the issuer. `draft` is an unsent form, which is restored afterwards.
export async function signIn(draft = null) {
  if (!settings.authorization_endpoint || !settings.token_endpoint) {
    throw new NotSignedIn("The issuer does not say where people sign in, or does not answer. Reload this page in a minute.");
  }
  const kept = { state: random(), nonce: random(), verifier: random(), hash: location.hash };
  sessionStorage.setItem(UNDER_WAY, JSON.stringify(kept));
  if (draft) sessionStorage.setItem(DRAFT, JSON.stringify(draft));
  const challenge = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(kept.verifier));
  const url = new URL(settings.authorization_endpoint);
  const asked = {
    response_type: "code",
    client_id: settings.client_id,
    redirect_uri: home,
    scope: settings.scope,
    state: kept.state,
    nonce: kept.nonce,
    code_challenge: base64url(challenge),
    code_challenge_method: "S256",
    ...(settings.audience ? { audience: settings.audience } : {}),
  };
  for (const [field, value] of Object.entries(asked)) url.searchParams.set(field, value);
  location.assign(url);
}

// The unsent form from before the sign-in; it can be read once.
export function takeDraft() {
  const draft = sessionStorage.getItem(DRAFT);
  sessionStorage.removeItem(DRAFT);
  return draft ? JSON.parse(draft) : null;
}

// Completes a sign-in if the issuer has just sent the person back. False if nothing is under way.
export async function completeSignIn() {
  const query = new URLSearchParams(location.search);
  const kept = JSON.parse(sessionStorage.getItem(UNDER_WAY) ?? "null");
  sessionStorage.removeItem(UNDER_WAY);
  if (!query.has("state")) return false;
  // The code leaves the address before anything else happens.
  history.replaceState(null, "", `${home}${kept?.hash ?? ""}`);
  if (!kept || query.get("state") !== kept.state) {
    throw new NotSignedIn("The answer belongs to no sign-in that this page began. Sign in again.");
  }
  if (query.has("iss") && query.get("iss") !== settings.issuer) {
    throw new NotSignedIn("Another issuer has answered. Sign in again.");
  }
  if (query.has("error")) {
    throw new NotSignedIn(query.get("error_description") ?? query.get("error"));
  }
  await exchange(query.get("code"), kept);
  return true;
}

async function exchange(code, kept) {
  let answer;
  try {
    answer = await fetch(settings.token_endpoint, {
      method: "POST",
      body: new URLSearchParams({
        grant_type: "authorization_code",
        code,
        redirect_uri: home,
        client_id: settings.client_id,
        code_verifier: kept.verifier,
      }),
      credentials: "omit",
      signal: AbortSignal.timeout(20_000),
    });
  } catch {
    throw new NotSignedIn("The issuer did not answer, or does not let this page ask (CORS). Sign in again.");
  }
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok || !told.access_token) {
    throw new NotSignedIn(told.error_description ?? told.error ?? `The issuer answered ${answer.status}.`);
  }
  const claims = told.id_token ? claimsOf(told.id_token) : {};
  const audience = [claims.aud].flat();
  // OpenID Connect Core, 3.1.3.7. The id token came straight from the issuer, over TLS.
  if (told.id_token && (claims.nonce !== kept.nonce || claims.iss !== settings.issuer || !audience.includes(settings.client_id))) {
    throw new NotSignedIn("The issuer's answer is for another sign-in. Sign in again.");
  }
  held = {
    token: told.access_token,
    idToken: told.id_token,
    name: claims.name ?? claims.email ?? claims.preferred_username ?? claims.sub ?? "",
  };
}

function claimsOf(jwt) {
  const payload = jwt.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
  return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(payload), (letter) => letter.charCodeAt(0))));
}

// The API no longer accepts the token, so it is of no use.
export function forget() {
  held = null;
}

export function signOut() {
  const idToken = held?.idToken;
  forget();
  sessionStorage.clear();
  const ending = settings.end_session_endpoint;
  if (!ending) return location.replace(home);
  const url = new URL(ending);
  if (idToken) url.searchParams.set("id_token_hint", idToken);
  url.searchParams.set("client_id", settings.client_id);
  url.searchParams.set("post_logout_redirect_uri", home);
  location.assign(url);
}
