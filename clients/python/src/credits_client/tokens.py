"""The sources of a client's bearer tokens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote

import httpx

from .errors import NoToken

LONGEST_MARGIN = 60.0
"""How many seconds before its end a token is renewed, at most; usually a tenth of its life."""

UNKNOWN_LIFE = 300.0
"""How many seconds a token is used if its issuer does not say."""


@dataclass
class ClientCredentials:
    """Tokens of an OAuth 2 issuer for a program with a secret (RFC 6749, section 4.4).

    A token is kept until shortly before its end. If many threads or tasks of a client need a new
    one, only one of them requests it. Several clients may share one object.

    ``audience``: the API's name at Auth0 and some others. ``secret_in_body``: for an issuer that
    does not read the secret in the header ``Authorization``.
    """

    token_url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str
    audience: str | None = None
    secret_in_body: bool = False
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    def __post_init__(self) -> None:
        self.renewing = threading.Lock()
        self._token = ""
        self._renew_at = float("-inf")

    def kept(self, refused: str | None = None) -> str | None:
        """The token, if it stays valid for a while and the API has not refused it."""
        is_good = self._token != refused and self.clock() < self._renew_at
        return self._token if is_good else None

    def request(self) -> httpx.Request:
        """The request to the issuer for a token."""
        form = {"grant_type": "client_credentials", "scope": self.scope}
        if self.audience is not None:
            form["audience"] = self.audience
        headers = {"Accept": "application/json"}
        if self.secret_in_body:
            form |= {"client_id": self.client_id, "client_secret": self.client_secret}
            return httpx.Request("POST", self.token_url, data=form, headers=headers)
        # Both are form-encoded first (RFC 6749, section 2.3.1).
        names = (quote(self.client_id, safe=""), quote(self.client_secret, safe=""))
        asked = httpx.Request("POST", self.token_url, data=form, headers=headers)
        return next(httpx.BasicAuth(*names).auth_flow(asked))

    def keep(self, response: httpx.Response) -> str:
        """The token of an answer, kept from now on. Raises `NoToken`."""
        try:
            found = response.json()
        except ValueError:
            found = None
        found = found if isinstance(found, dict) else {}
        if not response.is_success:
            is_passing = response.status_code == 429 or response.status_code >= 500
            why = found.get("error", "no reason given")
            raise NoToken(
                f"{self.token_url} answered {response.status_code} ({why}) to client "
                f"{self.client_id}",
                is_passing=is_passing,
            )
        token, seconds = found.get("access_token"), found.get("expires_in", UNKNOWN_LIFE)
        try:
            life = float(seconds)
        except (TypeError, ValueError):
            life = UNKNOWN_LIFE
        if not isinstance(token, str) or not token:
            raise NoToken(f"{self.token_url} answered without an access_token")
        self._token = token
        self._renew_at = self.clock() + life - min(LONGEST_MARGIN, life / 10)
        return token
