"""Checks that the issuer of tokens has keys that the API accepts, and explains the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlsplit

from chalicelib.api.authorizer import TokenChecker
from chalicelib.api.issuer_keys import FETCH_FAULTS, IssuerKeys, Json, usable_keys
from chalicelib.api.principal import Scope
from chalicelib.domain.fields import shown
from chalicelib.settings import TokenSettings

Fetch = Callable[[TokenSettings], Json]
"""Fetches the issuer's key set, as `issuer_keys.fetch_keys` does. Raises `FETCH_FAULTS`."""


class Keys(NamedTuple):
    """The issuer's key set, None if it is out of reach; what to say about it, and what to do."""

    document: Json | None
    says: str
    fix: str = ""


def look(settings: TokenSettings, fetch: Fetch) -> Keys:
    """Fetches the keys as the authorizer does, from this machine."""
    try:
        document = fetch(settings)
        keys = usable_keys(document)
    except FETCH_FAULTS as error:
        where = (
            settings.jwks_url or f"{settings.issuer.rstrip('/')}/.well-known/openid-configuration"
        )
        why = str(error) or type(error).__name__
        if isinstance(error, KeyError):
            why = f"there is no {error} in what it answers"
        return Keys(
            None,
            f"the issuer cannot be reached, or has no keys for us: {why}",
            f"Look at {where}. If the issuer says it is another, set TokenIssuer to that; if its "
            "keys are elsewhere, set TokenJwksUrl.",
        )
    named = ", ".join(f"{shown(key.id)} for {' or '.join(key.algorithms)}" for key in keys.keys)
    left_out = "".join(f"; {shown(name)} is left out: {why}" for name, why in keys.left_out)
    return Keys(document, f"the issuer has {named}{left_out}")


# --- How scopes are granted -----------------------------------------------------------------------

ASKED_FOR = ("scope", "scp")
"""The claims with the scopes that a client asked for and its issuer granted (RFC 8693, 4.2; Okta
and Entra ID say `scp`)."""

PRIVILEGED = frozenset({Scope.BACKEND, Scope.BILLING, Scope.ADMIN})
"""The scopes that nobody may get just by asking."""

GENEROUS = ("auth0.com", "okta.com", "oktapreview.com", "login.microsoftonline.com")
"""The hosts of issuers that grant a scope to every client that asks, unless an administrator turns
that off: docs/deploying.md says how, for each of them."""


def asked_for(settings: TokenSettings, claims: Json) -> list[Scope]:
    """The privileged scopes of a token that its client got just by asking."""
    claims_asked = tuple(name for name in settings.scope_claims if name in ASKED_FOR)
    checker = TokenChecker(settings._replace(scope_claims=claims_asked), IssuerKeys(dict))
    return [scope for scope in checker.scopes(claims) if scope in PRIVILEGED]


def to_be_had(settings: TokenSettings) -> list[Scope]:
    """The privileged scopes that any user can get, judging by the settings.

    A generous issuer grants users what they ask for. Every issuer grants them the scopes mapped to
    `*`.
    """
    host = urlsplit(settings.issuer).hostname or ""
    if not any(host == name or host.endswith(f".{name}") for name in GENEROUS):
        return asked_for(settings, {})
    wanted = [name for scope in Scope for name in settings.scope_names.get(scope, {scope.value})]
    return asked_for(settings, dict.fromkeys(ASKED_FOR, wanted))
