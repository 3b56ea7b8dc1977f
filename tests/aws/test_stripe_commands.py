"""make stripe and make stripe-secret, against the webhook over moto."""

import io
import json
import sys
from typing import Any

import pytest

from chalicelib.domain.errors import Unreadable
from chalicelib.store.stripe import Wait
from infra import reach
from infra.commands import stripe, stripe_secret
from infra.repair import erase, export
from tests.aws.repair import Terminal
from tests.aws.test_stripe import Events, checkout, events, payment, shop, subscription
from tests.aws.world import World, at, client
from tests.stripe.endpoint import deliver
from tests.unit.test_what_if_answers import rows_of

__all__ = ["events", "shop"]

NAME = "credits-dev-stripe-webhook"
SECRET = f"whsec_{'n' * 32}"


@pytest.fixture(autouse=True)
def _reached(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    found = reach.Reach(shop.stage, shop.services, {}, {}, client)
    monkeypatch.setattr(reach, "reach", lambda *_: found)


def waiting(capsys: pytest.CaptureFixture[str]) -> Any:
    capsys.readouterr()  # the webhook's own log
    status = stripe.main(["--json"])
    found = json.loads(capsys.readouterr().out)
    assert status == (1 if found else 0)
    return found


def test_what_waits_is_listed_with_its_reason_until_it_is_done(
    shop: World, events: Events, capsys: pytest.CaptureFixture[str]
) -> None:
    nameless = subscription(metadata={})
    event = events.of("customer.subscription.created", nameless)
    assert deliver(shop, event).status == 409
    assert waiting(capsys) == [
        {
            "object": "sub_1",
            "event": "customer.subscription.created",
            "why": "nothing says which user customer cus_1 is: metadata.user_id is missing",
            "since": "2026-01-15T12:01:00Z",
            "latest": "2026-01-15T12:01:00Z",
        }
    ]
    assert stripe.main([]) == 1
    said = capsys.readouterr().out
    assert "Waiting (1)" in said
    assert "sub_1" in said
    assert "stripe events resend" in said
    deliver(shop, events.of("checkout.session.completed", checkout(mode="subscription")))
    assert deliver(shop, event).status == 200
    capsys.readouterr()
    assert stripe.main([]) == 0
    assert capsys.readouterr().out == "Nothing waits: all Stripe events are done.\n"


def test_what_waits_for_the_longest_is_listed_first(
    shop: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, then = at("2026-01-14T12:00:00.5Z"), at("2026-01-15T12:00:00Z")
    waits = [
        Wait("sub_2", "b.updated", "why [/2]", then, at("2026-01-16T12:00:00Z")),
        Wait("sub_3", "c.updated", "why 3", first, then),
        Wait("sub_1", "a.updated", "why 1", then, then),
    ]
    monkeypatch.setattr(shop.services.stripe, "waiting", lambda: iter(waits))
    monkeypatch.setenv("COLUMNS", "200")
    assert [(each["object"], each["since"], each["latest"]) for each in waiting(capsys)] == [
        ("sub_3", "2026-01-14T12:00:00.500Z", "2026-01-15T12:00:00Z"),
        ("sub_1", "2026-01-15T12:00:00Z", "2026-01-15T12:00:00Z"),
        ("sub_2", "2026-01-15T12:00:00Z", "2026-01-16T12:00:00Z"),
    ]
    assert stripe.main([]) == 1
    shown = capsys.readouterr().out
    assert "Waiting (3)" in shown
    assert rows_of(shown) == [
        ["sub_3", "c.updated", "why 3", "2026-01-14T12:00:00Z"],
        ["sub_1", "a.updated", "why 1", "2026-01-15T12:00:00Z"],
        ["sub_2", "b.updated", "why [/2]", "2026-01-15T12:00:00Z"],
    ]


def test_what_cannot_be_listed_is_an_error(
    shop: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def damaged() -> Any:
        raise Unreadable("stripe", "sub_1", "since is missing")

    monkeypatch.setattr(shop.services.stripe, "waiting", damaged)
    assert stripe.main([]) == 1
    assert capsys.readouterr() == ("", "error: stripe of sub_1: since is missing\n")
    shop.services.settings = shop.settings._replace(stripe_table="")
    assert stripe.main(["--stage", "prod"]) == 1
    said = "error: stage prod has no table of Stripe's: deploy it\n"
    assert capsys.readouterr() == ("", said)


def test_who_sits_at_a_terminal_types_the_secret_unseen_and_it_is_that_of_the_stage(
    shop: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = reach.Reach("prod", shop.services, {}, {}, client)
    monkeypatch.setattr(reach, "reach", lambda *where: {("prod", "eu-west-3"): found}[where])
    words = ["--stage", "prod", "--region", "eu-west-3"]
    monkeypatch.setattr(sys, "stdin", keyboard := io.StringIO("seen by all\n"))
    monkeypatch.setattr(keyboard, "isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda prompt: SECRET if "whsec_" in prompt else "")
    assert stripe_secret.main(words) == 1
    said = capsys.readouterr()
    assert (said.out, said.err.startswith("error: ")) == ("", True), "there is no such secret yet"
    client("secretsmanager").create_secret(Name=NAME.replace("dev", "prod"), SecretString="old")
    assert stripe_secret.main(words) == 0
    said = capsys.readouterr()
    assert said.out == "The webhook of stage prod checks with this secret in five seconds.\n"


@pytest.mark.parametrize("typed", [f"{SECRET}\n", f"  {SECRET} \n", f"{SECRET}\nmore\n"])
def test_the_secret_is_put_in_its_place(
    typed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secrets = client("secretsmanager")
    secrets.create_secret(Name=NAME, SecretString="generated")
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert stripe_secret.main([]) == 0
    assert secrets.get_secret_value(SecretId=NAME)["SecretString"] == SECRET
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err


@pytest.mark.parametrize("typed", ["", "sk_live_123456789012345678901234\n", "whsec_short\n"])
def test_what_is_no_signing_secret_is_not_put_there(
    typed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secrets = client("secretsmanager")
    secrets.create_secret(Name=NAME, SecretString="generated")
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert stripe_secret.main([]) == 1
    assert secrets.get_secret_value(SecretId=NAME)["SecretString"] == "generated"
    said = capsys.readouterr().err
    assert said.startswith("error: that is no signing secret: it begins with whsec_.")
    assert typed.strip() not in said or not typed.strip()


def test_who_is_erased_is_forgotten_as_a_customer(
    shop: World, events: Events, terminal: Terminal
) -> None:
    shop.subscribe()
    deliver(shop, events.of("payment_intent.succeeded", payment()))
    assert shop.services.stripe.customer("cus_1").user_id == "1"
    told = terminal.run(export.main, "--user-id", "1")
    assert json.loads(told.printed)["stripe_customers"] == [
        {"about": "customer#cus_1", "part": "-", "user_id": "1", "version": 1}
    ]
    ran = terminal.run(erase.main, "--user-id", "1", "--yes", "--json")
    assert (ran.status, ran.facts["customers_removed"]) == (0, 1)
    assert shop.services.stripe.customer("cus_1").user_id is None
