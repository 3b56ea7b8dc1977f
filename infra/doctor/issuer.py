"""Whether the issuer of the tokens can be reached, and has keys that the API takes."""

from __future__ import annotations

from collections.abc import Iterator

from chalicelib.api.issuer_keys import fetch_keys
from chalicelib.settings import TokenSettings
from infra import issuer_check
from infra.doctor import template
from infra.doctor.finding import Finding, bad, fine, unknown
from infra.doctor.site import Site


def keys(site: Site, fetch: issuer_check.Fetch = fetch_keys) -> Iterator[Finding]:
    """Fetches the keys as the authorizer will, from this machine."""
    if not site.parameters.get("TokenIssuer"):
        yield unknown("issuer", "there is no TokenIssuer to ask")
        return
    try:
        settings = settings_of(site)
    except ValueError as error:
        yield bad("issuer", str(error), f"Correct it under [{site.stage}] in infra/parameters.toml")
        return
    found = issuer_check.look(settings, fetch)
    if found.document is not None:
        yield fine("issuer", found.says)
    else:
        yield bad(
            "issuer",
            f"{found.says}. Without keys the API answers 503",
            f"{found.fix} Where the API alone can reach it, see that it does: "
            f"{site.make('token-check')}",
        )


def settings_of(site: Site) -> TokenSettings:
    """What the authorizer will be told. Raises ValueError for what it would refuse."""
    return TokenSettings.read(
        {
            "STAGE": site.stage,
            "TOKEN_ISSUER": site.parameters["TokenIssuer"],
            # It is not looked at here.
            "TOKEN_AUDIENCE": site.parameters.get("TokenAudience") or "any",
            "TOKEN_JWKS_URL": template.parameter(site, "TokenJwksUrl"),
        }
    )
