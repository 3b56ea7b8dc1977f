"""Tokens of the local issuer for a backend: OAuth 2.0 client credentials (RFC 6749, section 4.4).

A program requests a token here as it does from its issuer in production: only the address, the id
and the secret differ. There is one client. Its secret is public: everybody can read it here, and it
only opens a local stack. Listening and signing is the work of `tokens.py`.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote_plus

from chalicelib.api.principal import Scope

PATH = "/oauth/token"
CLIENT_ID = "backend"
CLIENT_SECRET = "local-secret"  # noqa: S105 - of the local stack alone, and in its documentation
AUDIENCE = "credits"
SCOPES = (Scope.BACKEND, Scope.BILLING)
"""The scopes that the client may request: those of a product's backend, without manual adjustments.
"""

SECONDS = 3600
METADATA: Mapping[str, object] = {
    "grant_types_supported": ["client_credentials", "authorization_code"],
    "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
    "scopes_supported": list(SCOPES),
}
"""Its part of the discovery document (RFC 8414, section 2)."""

_FORM = "application/x-www-form-urlencoded"
_MOST_FIELDS = 20


class Refused(Exception):
    """No token, and why: ``error`` is a code of RFC 6749, section 5.2. It quotes no secret."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description
        self.status = status


def granted(form: Mapping[str, str], authorization: str | None) -> str:
    """The scopes that a request is granted, separated by spaces. Raises `Refused`."""
    _authenticate(form, authorization)
    grant = form.get("grant_type")
    if grant is None:
        raise Refused("invalid_request", "grant_type is missing: send client_credentials")
    if grant != "client_credentials":
        raise Refused("unsupported_grant_type", "grant_type must be client_credentials")
    if form.get("audience", AUDIENCE) != AUDIENCE:
        raise Refused("invalid_request", f"audience must be {AUDIENCE}, or left out")
    asked = form.get("scope", " ".join(SCOPES)).split()
    if not asked or not set(SCOPES).issuperset(asked):
        raise Refused("invalid_scope", f"scope must be some of {' and '.join(SCOPES)}")
    return " ".join(scope for scope in SCOPES if scope in asked)


def form_of(content_type: str, body: bytes) -> dict[str, str]:
    """The fields of a request; a field without a value counts as left out (section 3.2).

    Raises `Refused`.
    """
    if content_type.partition(";")[0].strip().lower() != _FORM:
        raise Refused("invalid_request", f"Content-Type must be {_FORM}")
    try:
        fields = parse_qsl(body.decode("ascii"), errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise Refused(
            "invalid_request", f"the body must be a form of at most {_MOST_FIELDS} fields"
        ) from None
    form = dict(fields)
    if len(form) != len(fields):
        raise Refused("invalid_request", "a field comes twice")
    return form


def _authenticate(form: Mapping[str, str], authorization: str | None) -> None:
    """Checks the client's secret, in the header or in the body but not both (section 2.3)."""
    client_id, secret = form.get("client_id"), form.get("client_secret")
    if authorization is not None:
        if secret is not None:
            raise Refused("invalid_request", "send the secret in the header or in the body")
        named, secret = _basic(authorization)
        if client_id not in {None, named}:
            raise Refused("invalid_request", "client_id differs from the one in the header")
        client_id = named
    if client_id is None or secret is None:
        raise Refused("invalid_client", "client_id and client_secret are missing", 401)
    is_right = hmac.compare_digest(secret.encode(), CLIENT_SECRET.encode())
    if client_id != CLIENT_ID or not is_right:
        raise Refused("invalid_client", "there is no such client, or its secret is another", 401)


def _basic(authorization: str) -> tuple[str, str]:
    """The client's id and secret in a header ``Authorization: Basic``, each form-encoded."""
    scheme, _, text = authorization.strip().partition(" ")
    try:
        client_id, colon, secret = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        colon = ""
    if scheme.lower() != "basic" or not colon:
        raise Refused("invalid_client", "the header must be Authorization: Basic id:secret", 401)
    return unquote_plus(client_id), unquote_plus(secret)
