"""Checks that the issuer of tokens can be reached, and has keys that the API accepts."""

from __future__ import annotations

from collections.abc import Iterator

from chalicelib.api.issuer_keys import fetch_keys
from chalicelib.settings import TokenSettings
from infra.doctor import issuer_check, template
from infra.doctor.finding import Finding, bad, fine, unknown, warning
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


def scopes(site: Site) -> Iterator[Finding]:
    """Whether a client could get a privileged scope just by asking the issuer for it."""
    if not site.parameters.get("TokenIssuer"):
        yield unknown("scopes", "there is no TokenIssuer")
        return
    try:
        found = issuer_check.to_be_had(settings_of(site))
    except ValueError as error:
        yield bad("scopes", str(error), f"Correct it under [{site.stage}] in infra/parameters.toml")
        return
    if not found:
        yield fine(
            "scopes",
            "no scope of a backend, of billing or of an admin is read from what a client asks for",
        )
        return
    yield warning(
        "scopes",
        f"any user who asks the issuer may have {' and '.join(found)}: TokenScopeClaims is "
        f"{template.parameter(site, 'TokenScopeClaims')}",
        "Name a claim in TokenScopeClaims that the issuer's administrator fills: "
        "docs/deploying.md#who-may-become-an-admin",
    )


def settings_of(site: Site) -> TokenSettings:
    """The authorizer's settings after a deployment. Raises ValueError for invalid settings."""
    return TokenSettings.read(
        {
            "STAGE": site.stage,
            "TOKEN_ISSUER": site.parameters["TokenIssuer"],
            # No check here uses it.
            "TOKEN_AUDIENCE": site.parameters.get("TokenAudience") or "any",
            "TOKEN_JWKS_URL": template.parameter(site, "TokenJwksUrl"),
            "TOKEN_SCOPE_CLAIMS": template.parameter(site, "TokenScopeClaims"),
            "TOKEN_SCOPE_NAMES": template.parameter(site, "TokenScopeNames"),
        }
    )
