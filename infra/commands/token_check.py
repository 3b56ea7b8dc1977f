"""Explains why a stage accepts or refuses a token: every check of its authorizer, with advice.

    make token-check STAGE=prod TOKEN=eyJ...      (or with the token on standard input)

The checks are the authorizer's own code, with the settings of the deployed function. Only the keys
are fetched from this machine. The token comes in the environment or on standard input, because
every user of a machine can read its command lines. It is never printed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TextIO, TypeVar

import jwt

from chalicelib.api.authorizer import (
    CLAIM_CHECKS,
    LARGEST_TOKEN,
    InvalidToken,
    Refusal,
    TokenChecker,
    claim_of,
    header_of,
    verified_claims,
)
from chalicelib.api.issuer_keys import (
    IssuerKey,
    IssuerKeys,
    Json,
    fetch_keys,
)
from chalicelib.domain.fields import shown
from chalicelib.domain.instants import format_instant
from chalicelib.settings import TokenSettings
from infra import session
from infra.arguments import add_stage
from infra.doctor import issuer_check
from infra.faults import FAULTS
from infra.local import stacks
from infra.reach import reach

_PREFIX = re.compile(r"\s*(authorization\s*:)?\s*(bearer\s)?", re.IGNORECASE)
_NOTHING_GIVEN = (
    "there is no token. make token-check STAGE=prod TOKEN=eyJ..., or give it on standard input: "
    "make token-check STAGE=prod < token.txt"
)
_NOT_MADE = "cannot be checked without the ones before"
_LONGEST = 200

CHECKS = ("keys", "form", "key", "signature", *CLAIM_CHECKS, "caller", "user", "scopes")
"""The checks, in the authorizer's order."""

Found = TypeVar("Found")


@dataclass(frozen=True)
class Finding:
    """The result of one check. ``ok`` is None if it could not be made."""

    check: str
    ok: bool | None
    says: str
    fix: str = ""


@dataclass(frozen=True)
class Report:
    """Every check of a token, and what the authorizer would pass on: nothing if it refuses."""

    accepted: bool
    findings: list[Finding]
    context: dict[str, str] = field(default_factory=dict)


def examine(
    token: str,
    settings: TokenSettings,
    fetch: Callable[[TokenSettings], Json],
    now: Callable[[], float] = time.time,
) -> Report:
    """Runs the authorizer's checks on a token one by one, and goes on after a failure."""
    findings: list[Finding] = []

    def tried(check: str, make: Callable[[], Found], says: Callable[[Found], str]) -> Found | None:
        try:
            found = make()
        except InvalidToken as refusal:
            findings.append(Finding(check, ok=False, says=str(refusal), fix=_FIXES[refusal.code]))
            return None
        findings.append(Finding(check, ok=True, says=says(found)))
        return found

    document, says, fix = issuer_check.look(settings, fetch)
    findings.append(Finding("keys", document is not None, says, fix))
    checker = TokenChecker(settings, IssuerKeys(lambda: document or {}), now)
    key: IssuerKey | None = None
    claims: Json | None = None
    header = tried("form", lambda: header_of(token), _named)
    if header is not None and document is not None:
        key = tried("key", lambda: checker.key_of(header), lambda found: shown(found.id))
    if key is not None:
        claims = tried("signature", lambda: verified_claims(token, key), lambda _: "right")
    if header is not None:
        # Other mistakes of a token are worth knowing even if its signature is not verified.
        read = _unverified(token) if claims is None else claims
        for name, check in CLAIM_CHECKS.items():
            tried(name, partial(check, settings, read, now()), str)
        tried("caller", lambda: checker.caller(read), str)
        tried("user", lambda: checker.user_id(read), lambda found: found or _no_user(settings))
        tried(
            "scopes",
            lambda: " ".join(checker.scopes(read)),
            lambda found: f"{found}{_for_asking(settings, read)}" or _no_scopes(settings, read),
        )
    made = {finding.check: finding for finding in findings}
    in_order = [made.get(check, Finding(check, None, _NOT_MADE)) for check in CHECKS]
    is_accepted = all(finding.ok for finding in in_order)
    # The authorizer as a whole decides.
    return Report(is_accepted, in_order, checker.check(token) if is_accepted else {})


def _unverified(token: str) -> Json:
    try:
        claims: Json = jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError:
        return {}
    return claims


def _named(header: Json) -> str:
    return ", ".join(f"{name} is {shown(header.get(name))}" for name in ("alg", "kid"))


def _no_user(settings: TokenSettings) -> str:
    return f"none: there is no {settings.user_claim}, as in the token of a backend or an admin"


def _no_scopes(settings: TokenSettings, claims: Json) -> str:
    found = "; ".join(
        f"{name} is {shown(claim_of(claims, name), _LONGEST)}" for name in settings.scope_claims
    )
    return (
        f"none of ours, so most routes answer 403: {found}. Have the issuer grant them, or say in "
        "TokenScopeClaims where they are and in TokenScopeNames what they are called"
    )


def _for_asking(settings: TokenSettings, claims: Json) -> str:
    found = [] if settings.is_local else issuer_check.asked_for(settings, claims)
    if not found:
        return ""
    return (
        f"; of these the client asked for {' and '.join(found)}. See that your issuer gives that "
        "to nobody else who asks: docs/deploying.md#who-may-become-an-admin"
    )


_CHANGE = "in infra/parameters.toml, and deploy"

_FIXES = {
    Refusal.NOT_BEARER: "Send the header Authorization: Bearer <token>.",
    Refusal.TOO_LARGE: "Have the issuer leave groups and other long claims out of the token.",
    Refusal.MALFORMED: (
        "Give the whole access token: three parts with dots between. An opaque token (Auth0 gives "
        "one when no audience is asked for) and an encrypted one cannot be checked."
    ),
    Refusal.UNKNOWN_KEY: (
        "Compare iss with TokenIssuer: another issuer, or tenant, has other keys. If the keys are "
        f"elsewhere, set TokenJwksUrl {_CHANGE}."
    ),
    Refusal.WRONG_ALGORITHM: (
        "Have the issuer sign with what it publishes for the key. Tokens that are signed with a "
        "shared secret (HS256) are never taken."
    ),
    Refusal.WRONG_SIGNATURE: (
        "The token was changed, or another key of that id signed it. Get a new one, and give it "
        "whole."
    ),
    Refusal.WRONG_ISSUER: (
        f"If the iss of the token is your issuer, set TokenIssuer to exactly that {_CHANGE}."
    ),
    Refusal.WRONG_AUDIENCE: (
        "Ask your issuer for a token for this API. If the token is for this API, set TokenAudience "
        f"to what it says, or TokenAudienceClaim to where it says it, {_CHANGE}."
    ),
    Refusal.EXPIRED: "Get a new token. For the local stack: make token USER_ID=42",
    Refusal.NOT_YET_VALID: "Compare the issuer's clock with the one above.",
    Refusal.WRONG_SUBJECT: "Have the issuer put who calls into sub.",
    Refusal.WRONG_USER: (
        "Have the issuer put the user id of the subscription into that claim, or name another in "
        f"TokenUserClaim {_CHANGE}; a.b leads to the claim b in the claim a."
    ),
}
"""The advice for each refusal."""


# --- The command ----------------------------------------------------------------------------------


def read_token(environment: Mapping[str, str], stream: TextIO) -> str:
    """The given token, without text that was copied along with it. Raises ValueError."""
    text = environment.get("TOKEN") or ""
    if not text:
        if stream.isatty():
            print("The token, then Ctrl-D:", file=sys.stderr)
        text = stream.read(4 * LARGEST_TOKEN)
    # A terminal breaks long lines, so a copied token can contain line breaks.
    token = "".join(_PREFIX.sub("", text, count=1).split())
    if not token:
        raise ValueError(_NOTHING_GIVEN)
    return token


def settings_of(stage: str, region: str | None) -> TokenSettings:
    """The settings of a stage's authorizer.

    Raises `NotRunningError`, `AwsError`, the errors of AWS, or ValueError for invalid settings.
    """
    at = reach(stage, region)
    found = at.client("lambda").get_function_configuration(FunctionName=at.functions["authorizer"])
    return TokenSettings.read(found["Environment"]["Variables"])


def show(report: Report, stage: str, settings: TokenSettings) -> str:
    """The report for people."""
    clock = format_instant(datetime.fromtimestamp(int(time.time()), UTC))
    marks = {True: "ok", False: "FAILED", None: "-"}
    lines = [
        f"The token, as the authorizer of the stage {stage} sees it.",
        f"The issuer is {settings.issuer}. It is {clock} on this machine.",
        "",
    ]
    for finding in report.findings:
        lines.append(f"  {marks[finding.ok]:<6}  {finding.check:<9}  {finding.says}")
        if finding.fix:
            lines.append(f"{'':19}  -> {finding.fix}")
    first = next((finding for finding in report.findings if finding.ok is False), None)
    lines += ["", f"Refused, for its {first.check}." if first else "Accepted."]
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    """Checks a token; the exit status is 1 when it is refused."""
    parser = argparse.ArgumentParser(
        prog="python -m infra token-check",
        description="Says why a stage accepts or refuses a token. The token comes in the variable "
        "TOKEN of the environment, or on standard input.",
        epilog="make token-check STAGE=prod TOKEN=eyJ...",
    )
    add_stage(parser)
    parser.add_argument("--json", action="store_true", help="print the report as JSON instead")
    # argparse would print an unknown argument, and that can be the token.
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        parser.error("give the token in the variable TOKEN or on standard input, and no other word")
    try:
        token = read_token(os.environ, sys.stdin)
        settings = settings_of(arguments.stage, arguments.region)
    except (
        KeyError,
        ValueError,
        stacks.NotRunningError,
        session.AwsError,
        *FAULTS,
    ) as error:
        print(f"error: {session.words(error)}", file=sys.stderr)
        return 1
    report = examine(token, settings, fetch_keys)
    if arguments.json:
        print(json.dumps({"stage": arguments.stage, "issuer": settings.issuer, **asdict(report)}))
    else:
        print(show(report, arguments.stage, settings))
    return 0 if report.accepted else 1


if __name__ == "__main__":
    sys.exit(main())
