"""make stripe and make stripe-secret, against the webhook over moto."""

import io
import json
from typing import Any

import pytest

from infra import reach
from infra.commands import stripe, stripe_secret
from infra.repair import erase, export
from tests.aws.repair import Terminal
from tests.aws.test_stripe import Events, checkout, events, payment, shop, subscription
from tests.aws.world import World, client
from tests.stripe.endpoint import deliver

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
    assert capsys.readouterr().out == "Nothing waits: all that Stripe told of is done.\n"


@pytest.mark.parametrize("typed", [f"{SECRET}\n", f"  {SECRET} \n"])
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
