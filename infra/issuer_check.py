"""Whether the issuer of the tokens has keys that the API takes, in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from chalicelib.api.issuer_keys import FETCH_FAULTS, Json, usable_keys
from chalicelib.domain.fields import shown
from chalicelib.settings import TokenSettings

Fetch = Callable[[TokenSettings], Json]
"""What gets the issuer's key set; `issuer_keys.fetch_keys` does. Raises `FETCH_FAULTS`."""


class Keys(NamedTuple):
    """The issuer's key set, None when it cannot be had; what is to be said of it, and done."""

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
