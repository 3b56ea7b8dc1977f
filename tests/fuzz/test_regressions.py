"""Inputs that once came to something else than a valid value or an error of our own."""

from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest

from infra.local.console import server
from tests.fuzz.handlers import staged
from tests.fuzz.hunt import TARGETS
from tests.fuzz.target import attempt

SETTINGS = {"STAGE": "prod", "AWS_REGION": "x"}
NESTED = "[" * 5_000
LONG = "9" * 5_000
ODDLY_NAMED = {f"x{place}": 1 for place in range(3_000)}
MIDNIGHT = '"midnight":"2026-02-02T23:00:00Z","as_of":"2026-02-02T23:00:00Z"'
SWEEP = f'{{"kind":"expiry","timezone":"Europe/Paris",{MIDNIGHT}'
BOUNCE_OF_NOBODY = (
    '{"eventType":"Bounce","mail":{"tags":{"user":[""]}},'
    '"bounce":{"bounceType":"Permanent","bouncedRecipients":[]}}'
)

CURSOR = "Europe/Paris 00 zzz"
EDITED_BETWEEN_MILLISECONDS = (
    '{"schema":1,"version":3,"edited_at":0.5,"kind":"admin","subject":"ada","changes":[],'
    '"correlation_id":null}'
)

REGRESSIONS: list[tuple[str, Any]] = [
    # Each field that nobody asked for was named, with a list of those that are known: the answer
    # was thirty times as long as the request, and at some size longer than Lambda answers.
    ("subscription", ODDLY_NAMED),
    ("event: manual-allocate", ODDLY_NAMED),
    ("event: allocation tick", ODDLY_NAMED),
    # A RecursionError is no ValueError.
    ("SNS: mail event", NESTED),
    ("key set of the issuer", NESTED),
    ("line of a function's log", '{"a":' * 5_000),
    ("plans.toml", f"a = {NESTED}"),
    ("parameters.toml", f"a = {NESTED}"),
    # Python reads no number of more than 4,300 digits, and says so with a ValueError of its own.
    ("plans.toml", f"[[plans]]\nmonthly_credits = {LONG}"),
    ("parameters.toml", f"[dev]\na = {LONG}"),
    ("parameters.toml", "dev = 1"),
    ("parameters.toml", "\ud800"),
    # Divided by nothing, by less than nothing, or not a number: a pace that nobody can keep.
    ("settings", SETTINGS | {"MAIL_SENDERS": "0"}),
    ("settings", SETTINGS | {"MAIL_SENDERS": "-" + "9" * 400}),
    ("settings", SETTINGS | {"MAILS_A_SECOND": "NaN"}),
    ("settings", SETTINGS | {"MAILS_A_SECOND": "-1"}),
    ("settings", SETTINGS | {"MAIL_RETRY_SECONDS": "-1"}),
    # DynamoDB refuses a query between two keys of which the second comes first: the message failed
    # as if DynamoDB were down.
    ("queue: sweeps", f'{SWEEP},"first_midnight":"2026-02-03T23:00:00Z"}}'),
    (
        "queue: sweeps",
        f'{SWEEP},"first_midnight":"2026-02-02T23:00:00Z","range":"0","cursor":"{CURSOR}"}}',
    ),
    # The tag names a user of no letters, whom DynamoDB does not look for.
    ("SNS: mail event", BOUNCE_OF_NOBODY),
    # The refusal repeated half a character, and could not be sent: 500.
    (
        "route: POST /api/credits/reverse",
        {
            "caller": "admin",
            "headers": {"Idempotency-Key": "7"},
            "body": r'{"user_id":"42","transaction_id":"\ud800","reason":"Broken"}',
        },
    ),
    # The refusal was as long as the setting.
    ("settings", SETTINGS | {"RETRY_SECONDS": "x" * 40_000}),
    # Half a millisecond is an instant that is written otherwise than it was read.
    ("record of an edit", EDITED_BETWEEN_MILLISECONDS),
    # Where a sample begins follows from the id, whatever it is.
    ("event: audit", {"id": "\ud800", "detail-type": ""}),
]

ACCEPTED = {"line of a function's log", "event: audit"}
"""Those of them in which nothing is wrong."""


@pytest.mark.parametrize(
    ("target", "given"),
    REGRESSIONS,
    ids=[f"{place} {target}" for place, (target, _) in enumerate(REGRESSIONS)],
)
def test_what_once_failed_is_answered(target: str, given: Any) -> None:
    with staged():
        assert attempt(TARGETS[target], given) is (target in ACCEPTED)


def test_a_request_of_the_page_that_is_nested_too_deep_is_refused() -> None:
    headers = {"Content-Length": str(len(NESTED)), "Content-Type": "application/json"}
    request: Any = SimpleNamespace(headers=headers, rfile=BytesIO(NESTED.encode()))
    assert server._Handler._post(request).status == 400
