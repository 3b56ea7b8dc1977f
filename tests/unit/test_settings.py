"""What a function reads from its environment: every variable is its own setting, within bounds."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalicelib.product import Product
from chalicelib.services import Services
from chalicelib.settings import (
    ConsoleSettings,
    Settings,
    TokenSettings,
    allowed_origins,
    written_metrics,
)

NEEDED = {"STAGE": "prod", "AWS_REGION": "eu-west-1"}


def test_every_setting_comes_from_its_own_variable() -> None:
    found = Settings.read(
        NEEDED
        | {
            "LEDGER_TABLE": "the ledger",
            "SUBSCRIPTIONS_TABLE": "the subscriptions",
            "EDITS_TABLE": "the edits",
            "MAILS_TABLE": "the mails",
            "SWEEPS_QUEUE_URL": "https://sweeps",
            "ALLOCATIONS_QUEUE_URL": "https://allocations",
            "EXPIRIES_QUEUE_URL": "https://expiries",
            "NOTIFICATIONS_QUEUE_URL": "https://notifications",
            "CHECKS_QUEUE_URL": "https://checks",
            "REPORTS_BUCKET": "the reports",
            "ANCHORS_BUCKET": "the anchors",
            "MAIL_FROM": "credits@example.com",
            "PRODUCT_NAME": "Lighthouse",
            "PRODUCT_URL": "https://app.example.com",
            "PRODUCT_LOGO_URL": "https://example.com/logo.png",
            "PRODUCT_ADDRESS": "Harbour Street 1",
            "PRODUCT_SUPPORT": "help@example.com",
            "MAIL_CONFIGURATION_SET": "the set",
            "MAILS_A_SECOND": "14",
            "MAIL_SENDERS": "4",
            "MAIL_RETRY_SECONDS": "11",
            "RETRY_SECONDS": "91",
            "EXPIRING_SOON_DAYS": "5",
            "UNSUBSCRIBE_URL": "https://api.example.com/v1/api/unsubscribe",
            "UNSUBSCRIBE_SECRET": "the secret",
            "EVENTS_QUEUE_URL": "https://events",
            "EVENT_BUS": "the bus",
            "LOW_BALANCE": "20",
            "STRIPE_TABLE": "what is known of Stripe",
            "STRIPE_SECRET": "Stripe's secret",
            "QUEUE_URLS": "https://one https://two",
            "CLOCK_FILE": "clock.txt",
            "SHADOW_UNTIL": "2026-12-31T10:00:00Z",
        }
    )
    assert found._asdict() == {
        "stage": "prod",
        "region": "eu-west-1",
        "ledger_table": "the ledger",
        "subscriptions_table": "the subscriptions",
        "edits_table": "the edits",
        "mails_table": "the mails",
        "sweeps_queue_url": "https://sweeps",
        "allocations_queue_url": "https://allocations",
        "expiries_queue_url": "https://expiries",
        "notifications_queue_url": "https://notifications",
        "checks_queue_url": "https://checks",
        "reports_bucket": "the reports",
        "anchors_bucket": "the anchors",
        "mail_from": "credits@example.com",
        "product": Product(
            name="Lighthouse",
            url="https://app.example.com",
            logo_url="https://example.com/logo.png",
            address="Harbour Street 1",
            support="help@example.com",
        ),
        "mail_configuration_set": "the set",
        "mails_a_second": 3.5,
        "mail_retry_seconds": 11,
        "retry_seconds": 91,
        "expiring_soon_days": 5,
        "unsubscribe_url": "https://api.example.com/v1/api/unsubscribe",
        "unsubscribe_secret": "the secret",
        "events_queue_url": "https://events",
        "event_bus": "the bus",
        "low_balance": 20,
        "stripe_table": "what is known of Stripe",
        "stripe_secret": "Stripe's secret",
        "queue_urls": ("https://one", "https://two"),
        "clock_file": "clock.txt",
        "shadow_until": datetime(2026, 12, 31, 10, tzinfo=UTC),
    }


def test_a_setting_that_is_not_given_has_its_default() -> None:
    found = Settings.read(NEEDED)
    assert (found.mails_a_second, found.mail_retry_seconds) == (0, 10)
    assert (found.retry_seconds, found.expiring_soon_days) == (90, 3)
    assert (found.unsubscribe_url, found.clock_file, found.is_local) == ("", "", False)
    assert (found.product, found.low_balance, found.queue_urls) == (Product(), 0, ())
    assert not found._replace(stage="other").is_quiet(datetime.min.replace(tzinfo=UTC))


@pytest.mark.parametrize(
    ("read", "name"),
    [
        *((Settings.read, name) for name in NEEDED),
        *((TokenSettings.read, name) for name in ("STAGE", "TOKEN_ISSUER", "TOKEN_AUDIENCE")),
    ],
)
def test_a_setting_that_every_stage_needs_is_missed_by_its_name(
    read: Callable[[dict[str, str]], object], name: str
) -> None:
    there = NEEDED | {"TOKEN_ISSUER": "https://i", "TOKEN_AUDIENCE": "a"}
    assert read(there)
    with pytest.raises(KeyError, match=f"^'{name}'$"):
        read({other: text for other, text in there.items() if other != name})


def test_what_is_empty_is_as_what_is_not_given() -> None:
    numbers = ("MAILS_A_SECOND", "MAIL_SENDERS", "RETRY_SECONDS", "LOW_BALANCE", "SHADOW_UNTIL")
    assert Settings.read(NEEDED | dict.fromkeys(numbers, "")) == Settings.read(NEEDED)
    tokens = NEEDED | {"TOKEN_ISSUER": "https://i", "TOKEN_AUDIENCE": "a"}
    claims = ("TOKEN_AUDIENCE_CLAIM", "TOKEN_USER_CLAIM", "TOKEN_SCOPE_CLAIMS")
    empty = dict.fromkeys((*claims, "TOKEN_JWKS_URL", "TOKEN_SCOPE_NAMES"), "")
    found = TokenSettings.read(tokens | empty)
    assert found == TokenSettings.read(tokens)
    assert (found.audience_claim, found.user_claim) == ("aud", "sub")
    console = {"CONSOLE_CLIENT_ID": "c", "TOKEN_AUDIENCE": "a"}
    empty["CONSOLE_SCOPE"] = ""
    assert ConsoleSettings.read(console | empty) == ConsoleSettings.read(console)


@pytest.mark.parametrize(
    ("shadow", "quiet", "loud"),
    [
        ("", None, datetime(1970, 1, 1, tzinfo=UTC)),
        ("off", None, datetime(1970, 1, 1, tzinfo=UTC)),
        ("on", datetime(2999, 12, 31, tzinfo=UTC), None),
        (
            "2026-12-31T10:00:00Z",
            datetime(2026, 12, 31, 10, tzinfo=UTC) - timedelta(milliseconds=1),
            datetime(2026, 12, 31, 10, tzinfo=UTC),
        ),
        (
            "2026-12-31T10:00:00.500+02:00",
            datetime(2026, 12, 31, 8, tzinfo=UTC),
            datetime(2026, 12, 31, 8, 0, 0, 500_000, tzinfo=UTC),
        ),
    ],
)
def test_nobody_is_told_of_what_was_posted_while_the_stage_was_a_shadow(
    shadow: str, quiet: datetime | None, loud: datetime | None
) -> None:
    found = Settings.read(NEEDED | {"SHADOW_UNTIL": shadow})
    assert quiet is None or found.is_quiet(quiet)
    assert loud is None or not found.is_quiet(loud)


@pytest.mark.parametrize("wrong", ["yes", "ON", "2026-12-31", "2026-12-31T10:00:00", "tomorrow"])
def test_a_stage_that_may_or_may_not_be_a_shadow_does_not_begin(wrong: str) -> None:
    with pytest.raises(
        ValueError, match=f"^SHADOW_UNTIL must be on, off or an instant .* is {wrong}$"
    ):
        Settings.read(NEEDED | {"SHADOW_UNTIL": wrong})


@pytest.mark.parametrize(
    ("name", "field", "least", "most"),
    [
        ("MAIL_RETRY_SECONDS", "mail_retry_seconds", 1, 400),
        ("RETRY_SECONDS", "retry_seconds", 1, 360),
        ("LOW_BALANCE", "low_balance", 0, 1_000_000),
        ("EXPIRING_SOON_DAYS", "expiring_soon_days", 0, 60),
        ("MAILS_A_SECOND", "mails_a_second", 0, 1_000_000),
    ],
)
def test_a_number_is_within_its_bounds_and_these_are_allowed(
    name: str, field: str, least: int, most: int
) -> None:
    for value in (least, most):
        assert getattr(Settings.read(NEEDED | {name: str(value)}), field) == value
    for wrong in (least - 1, most + 1, "many", "nan"):
        with pytest.raises(ValueError, match=f"^{name} must be a number from {least}"):
            Settings.read(NEEDED | {name: str(wrong)})


@pytest.mark.parametrize("senders", ["0", "1001", "1.5"])
def test_there_are_some_senders_of_emails(senders: str) -> None:
    assert Settings.read(NEEDED | {"MAILS_A_SECOND": "5", "MAIL_SENDERS": "1000"})
    with pytest.raises(ValueError, match=f"^MAIL_SENDERS must be .* from 1 to 1000; is {senders}$"):
        Settings.read(NEEDED | {"MAIL_SENDERS": senders})


def test_on_the_emulator_links_in_emails_lead_to_it() -> None:
    found = Settings.read(
        NEEDED
        | {
            "STAGE": "local",
            "AWS_ENDPOINT_URL": "http://localhost:4566",
            "UNSUBSCRIBE_URL": "/restapis/1/local/_user_request_/api/unsubscribe",
        }
    )
    assert found.unsubscribe_url == (
        "http://localhost:4566/restapis/1/local/_user_request_/api/unsubscribe"
    )
    assert found.is_local


def test_every_service_is_made_of_its_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {
        "ledger": "LEDGER_TABLE",
        "subscriptions": "SUBSCRIPTIONS_TABLE",
        "edits": "EDITS_TABLE",
        "stripe": "STRIPE_TABLE",
        "mail_records": "MAILS_TABLE",
    }
    others = {
        "STRIPE_SECRET": "s" * 32,
        "UNSUBSCRIBE_SECRET": "u" * 32,
        "UNSUBSCRIBE_URL": "https://end.example.com",
    }
    found = Settings.read(NEEDED | others | {name: name for name in tables.values()})
    connected: list[tuple[object, ...]] = []
    monkeypatch.setattr("chalicelib.store.database.connect", lambda *of: connected.append(of))
    monkeypatch.setattr("chalicelib.aws.read_secret", lambda region, name: f"{region} {name}")
    services = Services(found, threads=3)
    assert {name: getattr(services, name)._table for name in tables} == tables
    assert connected == [("eu-west-1", 3)], "all share one client"
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert next(services.stripe_secret.values(now)) == f"eu-west-1 {'s' * 32}"
    links = services.unsubscribe_links
    assert links._key.decode() == f"eu-west-1 {'u' * 32}"
    assert links.link("1", None).startswith("https://end.example.com?token=")
    given: Any = object()
    assert Services(found, dynamodb=given).dynamodb is given
    assert (services.threads, Services(found).threads) == (3, 8)


def test_metrics_and_origins_are_lists_and_none_of_metrics_is_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for text, metrics, origins in (
        ("", None, set()),
        ("a b,c", {"a", "b", "c"}, {"a", "b", "c"}),
    ):
        monkeypatch.setenv("METRICS", text)
        monkeypatch.setenv("ALLOWED_ORIGINS", text)
        # Not as the process has them: as it reads them.
        assert written_metrics.__wrapped__() == metrics
        assert allowed_origins.__wrapped__() == origins


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"TOKEN_ISSUER": f"http://{'i' * 90}"}, f"TOKEN_ISSUER .*; is http://{'i' * 73}"),
        (
            {"TOKEN_JWKS_URL": "http://keys"},
            "TOKEN_JWKS_URL must be an https:// .*; is http://keys",
        ),
        (
            {"STAGE": "local", "TOKEN_JWKS_URL": "ftp://keys"},
            "TOKEN_JWKS_URL must be an https:// .*; is ftp://keys",
        ),
        ({"TOKEN_ISSUER": ""}, "TOKEN_ISSUER and TOKEN_AUDIENCE must be set"),
        ({"TOKEN_AUDIENCE": " , "}, "TOKEN_ISSUER and TOKEN_AUDIENCE must be set"),
        (
            {"TOKEN_SCOPE_NAMES": f"a=b {'x' * 90}"},
            f"TOKEN_SCOPE_NAMES .* pairs; {'x' * 80} is not",
        ),
        ({"TOKEN_SCOPE_NAMES": "a="}, "TOKEN_SCOPE_NAMES .* pairs; a= is not"),
    ],
)
def test_a_setting_of_tokens_that_is_wrong_is_named_and_quoted_in_short(
    wrong: dict[str, str], said: str
) -> None:
    right = {"STAGE": "prod", "TOKEN_ISSUER": "https://i", "TOKEN_AUDIENCE": "a"}
    assert TokenSettings.read(right).scope_claims == ("scope", "scp")
    with pytest.raises(ValueError, match=f"^{said}$"):
        TokenSettings.read(right | wrong)


def test_every_setting_of_tokens_comes_from_its_own_variable() -> None:
    found = TokenSettings.read(
        {
            "STAGE": "prod",
            "TOKEN_ISSUER": "https://issuer.example.com/",
            "TOKEN_AUDIENCE": "one, two",
            "TOKEN_AUDIENCE_CLAIM": "client_id",
            "TOKEN_JWKS_URL": "https://keys.example.com/jwks",
            "TOKEN_USER_CLAIM": "uid",
            "TOKEN_SCOPE_CLAIMS": "groups roles",
            "TOKEN_SCOPE_NAMES": "credits:read=* credits:admin=ops,credits:admin=support=eu",
            "LANE_KEYS": "creditsprod",
        }
    )
    assert found._asdict() == {
        "issuer": "https://issuer.example.com/",
        "audiences": ("one", "two"),
        "audience_claim": "client_id",
        "jwks_url": "https://keys.example.com/jwks",
        "user_claim": "uid",
        "scope_claims": ("groups", "roles"),
        "scope_names": {
            "credits:read": frozenset({"*"}),
            "credits:admin": frozenset({"ops", "support=eu"}),
        },
        "is_local": False,
        "lane_keys": "creditsprod",
    }


def test_a_stage_has_a_console_only_if_it_names_its_client() -> None:
    assert ConsoleSettings.read({}) is None
    assert ConsoleSettings.read({"CONSOLE_CLIENT_ID": "", "CONSOLE_SCOPE": "openid"}) is None


def test_the_console_asks_for_the_first_audience_where_tokens_name_one() -> None:
    there = {"CONSOLE_CLIENT_ID": "the-client", "TOKEN_AUDIENCE": "https://a, https://b"}
    assert ConsoleSettings.read(there) == ConsoleSettings(
        "the-client", "openid", "https://a", "Credits"
    )
    # Cognito's tokens name their client: to ask for an audience would mean nothing.
    by_client = {**there, "TOKEN_AUDIENCE_CLAIM": "client_id", "PRODUCT_NAME": "Acme"}
    assert ConsoleSettings.read(by_client) == ConsoleSettings("the-client", "openid", "", "Acme")
