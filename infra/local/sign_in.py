"""Sign-in at the local issuer: OAuth 2.0 authorization code with PKCE (RFC 6749, 4.1; RFC 7636).

There is one client, the console of the local stack. It is public: it has no secret, and proves by
its verifier that it is the page that began the sign-in. This is a toy: the person at the browser
chooses who they are and what they may do. Everything that the console sends is checked as strictly
as by a real issuer. Listening and signing is the work of `tokens.py`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from types import MappingProxyType
from urllib.parse import parse_qsl, urlencode, urlsplit

from chalicelib.api.principal import Scope, caller_of
from chalicelib.domain.errors import InvalidInput
from infra.local.client_credentials import AUDIENCE, Refused

PATH = "/authorize"
CLIENT_ID = "console"
SCOPE = f"openid {Scope.ADMIN}"
"""The scope that the console of the local stack requests."""

CODE_SECONDS = 60
"""How long a code can be exchanged: RFC 6749 recommends at most ten minutes."""

METADATA: Mapping[str, object] = {
    "response_types_supported": ["code"],
    "code_challenge_methods_supported": ["S256"],
    "authorization_response_iss_parameter_supported": True,
}
"""Its part of the discovery document."""

_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_LONGEST_TEXT = 512
_MOST_FIELDS = 20
_MOST_CODES = 100

_FIELDS = (
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
)


class BadRequest(Exception):
    """A request with an unknown client or address, so nobody is redirected."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A page's request to sign in the person in front of it."""

    redirect_uri: str
    state: str
    nonce: str
    challenge: str
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The sign-in that a code stands for."""

    subject: str
    scope: str
    nonce: str


@dataclass(frozen=True, slots=True)
class _Code:
    asked: Asked
    signed_in: SignedIn
    ends_at: float


class SignIn:
    """The requests and the codes of one issuer."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._codes: dict[str, _Code] = {}
        self.redirect_uris: frozenset[str] = frozenset()
        """The exact addresses to which people may be sent back."""

    @property
    def origins(self) -> frozenset[str]:
        """The origins of those pages: only they may exchange a code."""
        return frozenset(_origin(uri) for uri in self.redirect_uris)

    def asked(self, query: str) -> Asked:
        """Reads a request to `PATH`.

        Raises `BadRequest` if nobody may be sent back, otherwise `Refused`.
        """
        fields = _once(query)
        if fields.get("client_id") != CLIENT_ID:
            raise BadRequest(f"client_id must be {CLIENT_ID}")
        redirect_uri = fields.get("redirect_uri", "")
        if redirect_uri not in self.redirect_uris:
            known = " or ".join(sorted(self.redirect_uris)) or "none yet"
            raise BadRequest(f"redirect_uri must be, to the letter, {known}")
        if fields.get("response_type") != "code":
            raise Refused("unsupported_response_type", "response_type must be code")
        state = fields.get("state", "")
        if not state:
            raise Refused("invalid_request", "state is missing: it ties the answer to the page")
        if fields.get("code_challenge_method") != "S256":
            raise Refused("invalid_request", "code_challenge_method must be S256")
        challenge = fields.get("code_challenge", "")
        if not _CHALLENGE.fullmatch(challenge):
            raise Refused("invalid_request", "code_challenge must be a SHA-256 in base64url")
        scopes = tuple(fields.get("scope", "").split())
        if not scopes or not {"openid", *Scope}.issuperset(scopes):
            raise Refused("invalid_scope", f"scope must be some of openid, {', '.join(Scope)}")
        if "openid" in scopes and not fields.get("nonce"):
            raise Refused("invalid_request", "nonce is missing: it ties the id token to the page")
        return Asked(redirect_uri, state, fields.get("nonce", ""), challenge, scopes)

    def where_to_refuse(self, query: str, refused: Refused) -> str:
        """The address to which a page's refusal is sent (RFC 6749, section 4.1.2.1)."""
        fields = dict(parse_qsl(query, max_num_fields=_MOST_FIELDS))
        told = {"error": refused.error, "error_description": refused.description}
        if fields.get("state"):
            told["state"] = fields["state"]
        return f"{fields['redirect_uri']}?{urlencode(told)}"

    def answered(self, query: str, form: str, issuer: str) -> str:
        """The address to return to with the person's choice. Raises `BadRequest` and `Refused`."""
        asked = self.asked(query)
        chosen = parse_qsl(form, max_num_fields=_MOST_FIELDS)
        if ("deny", "1") in chosen:
            raise Refused("access_denied", "the person declined")
        subject = next((value for name, value in chosen if name == "subject"), "").strip()
        try:
            caller_of("subject", subject)
        except InvalidInput as error:
            raise BadRequest(str(error)) from error
        scopes = [value for name, value in chosen if name == "scope" and value in set(Scope)]
        kept = [*(["openid"] if "openid" in asked.scopes else []), *scopes]
        code = secrets.token_urlsafe(32)
        now = self._now()
        with self._lock:
            self._codes = {name: it for name, it in self._codes.items() if it.ends_at > now}
            if len(self._codes) >= _MOST_CODES:
                raise Refused("temporarily_unavailable", "too many sign-ins are under way")
            self._codes[code] = _Code(
                asked, SignedIn(subject, " ".join(kept), asked.nonce), now + CODE_SECONDS
            )
        return (
            f"{asked.redirect_uri}?{urlencode({'code': code, 'state': asked.state, 'iss': issuer})}"
        )

    def exchange(self, form: Mapping[str, str]) -> SignedIn:
        """The sign-in of a code. Raises `Refused`; a code is gone after the first try."""
        for name in ("code", "redirect_uri", "client_id", "code_verifier"):
            if not form.get(name):
                raise Refused("invalid_request", f"{name} is missing")
        with self._lock:
            found = self._codes.pop(form["code"], None)
        if form["client_id"] != CLIENT_ID or form.get("client_secret"):
            raise Refused("invalid_client", "there is no such client, or it has no secret", 401)
        if found is None or found.ends_at <= self._now():
            raise Refused("invalid_grant", "the code is unknown, used or too old: sign in again")
        if form["redirect_uri"] != found.asked.redirect_uri:
            raise Refused("invalid_grant", "redirect_uri differs from the one of the sign-in")
        verifier = form["code_verifier"]
        is_right = _VERIFIER.fullmatch(verifier) and hmac.compare_digest(
            challenge_of(verifier), found.asked.challenge
        )
        if not is_right:
            raise Refused("invalid_grant", "code_verifier does not fit the code_challenge")
        return found.signed_in


def challenge_of(verifier: str) -> str:
    """The challenge S256 of a verifier (RFC 7636, section 4.2)."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def claims(issuer: str, signed_in: SignedIn, now: int, seconds: int) -> Mapping[str, object]:
    """The claims of the access token."""
    return {
        "iss": issuer,
        "aud": AUDIENCE,
        "sub": signed_in.subject,
        "client_id": CLIENT_ID,
        "scope": signed_in.scope,
        "iat": now,
        "exp": now + seconds,
    }


def id_claims(issuer: str, signed_in: SignedIn, now: int, seconds: int) -> Mapping[str, object]:
    """The claims of the id token: only for the page, so the API does not accept it."""
    return {
        "iss": issuer,
        "aud": CLIENT_ID,
        "sub": signed_in.subject,
        "nonce": signed_in.nonce,
        "iat": now,
        "exp": now + seconds,
    }


def _once(query: str) -> dict[str, str]:
    """The known fields of a request. Raises `BadRequest` for a field that comes twice."""
    try:
        given = parse_qsl(query, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise BadRequest(f"send at most {_MOST_FIELDS} fields, in UTF-8") from None
    fields = dict(given)
    if len(fields) != len(given):
        raise BadRequest("a field comes twice")
    if any(len(fields.get(name, "")) > _LONGEST_TEXT for name in _FIELDS):
        raise BadRequest(f"a field has more than {_LONGEST_TEXT} characters")
    return fields


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


# --- The page -------------------------------------------------------------------------------------

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Local sign-in (a toy)</title>
<style>
:root {{ --line: #d9dce3; --muted: #5b6270; --accent: #4f46e5; --on: #fff;
  --page: #f6f7f9; --card: #fff }}
@media (prefers-color-scheme: dark) {{
  :root {{ --line: #343946; --muted: #a3aab8; --accent: #a5b0ff; --on: #14161c;
    --page: #0f1116; --card: #191c23 }}
}}
body {{ font: 15px/1.5 system-ui, sans-serif; background: var(--page); margin: 0;
  padding: 10vh 1rem }}
main {{ max-width: 25rem; margin: auto; background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; padding: 1.75rem }}
h1 {{ font-size: 1.25rem; margin: 0 0 .25rem }}
p, fieldset span {{ color: var(--muted) }}
p {{ margin: 0 0 1.25rem }}
label.name {{ display: block; font-weight: 600; margin-bottom: .35rem }}
input[type=text] {{ font: inherit; width: 100%; box-sizing: border-box; padding: .55rem .7rem;
  border: 1px solid var(--line); border-radius: 8px; background: transparent; color: inherit }}
fieldset {{ border: 0; padding: 0; margin: 1.25rem 0 }}
legend {{ font-weight: 600; padding: 0; margin-bottom: .35rem }}
fieldset label {{ display: flex; gap: .6rem; padding: .2rem 0 }}
input[type=checkbox] {{ accent-color: var(--accent) }}
button {{ font: inherit; font-weight: 600; padding: .55rem 1rem; border-radius: 8px;
  cursor: pointer; border: 1px solid var(--line); background: transparent; color: inherit }}
button.main {{ background: var(--accent); border-color: var(--accent); color: var(--on);
  margin-right: .5rem }}
:focus-visible {{ outline: 2px solid var(--accent); outline-offset: 2px }}
</style>
</head>
<body>
<main>
<h1>Local sign-in</h1>
<p>A toy of the local stack: say who you are, and it is believed. A deployed stack signs people in
at your own issuer.</p>
<form method="post">
<label class="name" for="subject">Sign in as</label>
<input type="text" id="subject" name="subject" value="ada" required autocomplete="off" autofocus>
<fieldset><legend>You may</legend>
{scopes}
</fieldset>
<button class="main">Sign in</button><button name="deny" value="1" formnovalidate>Decline</button>
</form>
</main>
</body>
</html>
"""

_WHAT = MappingProxyType(
    {
        Scope.READ: "see your own credits",
        Scope.USE: "use your own credits",
        Scope.BACKEND: "see, use and hold anybody's",
        Scope.BILLING: "sell and refund",
        Scope.ADMIN: "all that people of support may do",
    }
)


def page(asked: Asked) -> str:
    """The page on which a person says who they are."""
    rows = [
        f'<label><input type="checkbox" name="scope" value="{scope.value}"'
        f"{' checked' if scope.value in asked.scopes else ''}> "
        f"{scope.value} <span>{escape(what)}</span></label>"
        for scope, what in _WHAT.items()
    ]
    return _PAGE.format(scopes="\n".join(rows))


def policy(asked: Asked) -> str:
    """The policy of the page: its form goes to the issuer, and from there back to the console."""
    return (
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; "
        f"form-action 'self' {_origin(asked.redirect_uri)}"
    )
