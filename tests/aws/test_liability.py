"""The credits that were outstanding at an instant: all of them, once, and what they had cost."""

import csv
import io
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest

from chalicelib.domain.batches import Source
from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.instants import format_instant
from chalicelib.domain.prices import Price
from chalicelib.operations import purchases
from chalicelib.operations.purchases import Purchase, Refund
from infra import reach
from infra.commands.liability import (
    Liability,
    Row,
    _as_json,
    _show,
    _told_of_faults,
    count,
    main,
    parse_at,
)
from tests.aws.damage import damage_entry, damage_subscription, having, without
from tests.aws.test_mails import use
from tests.aws.world import World, at, client
from tests.unit.test_what_if_answers import rows_of

MIDNIGHT = "2026-01-31T23:00:00Z"  # the 1st of February in Paris

Printed = Callable[..., Any]


@pytest.fixture
def printed(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Printed:
    """What the command prints for an instant; it must end with this status."""
    found = reach.Reach(world.stage, world.services, {}, {}, client)
    monkeypatch.setattr(reach, "reach", lambda *_: found)

    def run(instant: str, form: str = "--json", status: int = 0) -> Any:
        capsys.readouterr()  # what the world's own functions have logged
        assert main([instant, form]) == status
        said = capsys.readouterr()
        assert status or "error" not in said.err
        return json.loads(said.out) if form == "--json" else (said.out, said.err)

    return run


def buy(world: World, user_id: str, payment: str, amount: int, **more: Any) -> None:
    purchases.buy(world.services, Purchase(user_id, amount, payment, **more), actor="till")


@pytest.fixture
def shop(world: World) -> World:
    """Two users: one was allocated 100 credits and bought 300 for 9.00, and used 150 and 1/3."""
    world.subscribe("1", plan="starter")
    world.subscribe("2", plan="pro")
    world.allocate_at(MIDNIGHT)
    world.now = at("2026-02-10T12:00:00Z")
    buy(world, "1", "pi_1", 300, price=Price(900, "EUR"))
    buy(world, "2", "pi_2", 10, price=Price(100, "JPY"), expires_in_days=30)
    buy(world, "2", "pi_3", 7)
    use(world, 200, "a", "1")
    return world


def test_all_credits_are_counted_by_source_plan_and_month_with_what_was_paid_for_them(
    shop: World, printed: Printed
) -> None:
    found = printed("2026-02-10T12:00:00Z")
    assert found == {
        "at": "2026-02-10T12:00:00Z",
        "users": 2,
        "credits": 717,
        "paid": {"EUR": 600, "JPY": 100},
        "unrecovered": 0,
        "rows": [
            row("plan", "pro", None, 500),
            row("purchase", "pro", None, 7),
            row("purchase", "pro", "2026-03", 10, 100, "JPY"),
            row("purchase", "starter", None, 200, 600, "EUR"),
        ],
        "unreadable": [],
    }
    balances = (shop.services.ledger.account(user_id).ledger_balance for user_id in "12")
    assert found["credits"] == sum(balances)


def row(
    source: str,
    plan: str | None,
    expires: str | None,
    amount: int,
    paid: int | None = None,
    currency: str | None = None,
) -> dict[str, object]:
    values = (source, plan, expires, amount, paid, currency)
    names = ("source", "plan", "expires", "credits", "paid", "currency")
    return dict(zip(names, values, strict=True))


def test_a_past_instant_knows_nothing_of_what_came_later(shop: World, printed: Printed) -> None:
    before = printed("2026-02-10T11:59:59.999Z")
    assert (before["credits"], before["paid"]) == (600, {})
    shop.now += timedelta(days=1)
    purchases.refund(shop.services, Refund("pi_1", 150, "Half"), actor="till")
    assert printed("2026-02-10T12:00:00Z")["paid"] == {"EUR": 600, "JPY": 100}
    assert printed("2026-02-11T12:00:00Z")["paid"] == {"EUR": 150, "JPY": 100}
    assert printed("2026-01-31T24:00Z")["credits"] == 600
    shop.now = at("2026-02-20T12:00:00Z")
    shop.subscribe("3", eligible_from="2026-02-01")
    shop.allocate_at(MIDNIGHT)
    assert shop.history("3")[-1].effective_at < at("2026-02-02T00:00:00Z")
    for day, users in ((19, 2), (20, 3)):  # by when it was posted, not since when it counts
        assert printed(f"2026-02-{day}T12:00Z")["users"] == users
    assert printed("2026-01-31T22:59Z") == {
        "at": "2026-01-31T22:59:00Z",
        "users": 0,
        "credits": 0,
        "paid": {},
        "unrecovered": 0,
        "rows": [],
        "unreadable": [],
    }


def test_what_was_refunded_and_could_not_be_taken_back_is_told(
    shop: World, printed: Printed
) -> None:
    for in_all in (250, 300):  # 100 were used
        shop.now += timedelta(days=1)
        purchases.refund(shop.services, Refund("pi_1", in_all, "All"), actor="till")
    found = [printed(f"2026-02-{day}T12:00Z")["unrecovered"] for day in (10, 11, 12)]
    assert found == [0, 50, 100]
    buy(shop, "1", "pi_4", 30, price=Price(300, "EUR"))
    buy(shop, "1", "pi_5", 10, price=Price(50, "EUR"))
    assert printed("2026-02-12T12:00Z")["paid"] == {"EUR": 350, "JPY": 100}
    use(shop, 40, "b", "1")
    purchases.refund(shop.services, Refund("pi_4", 30, "All"), actor="till")
    assert printed("2026-02-12T12:00Z")["unrecovered"] == 130


def test_what_has_expired_and_is_not_booked_out_is_said_to_have(
    shop: World, printed: Printed
) -> None:
    shop.now = at("2026-04-01T00:00:00Z")
    rows = printed("2026-03-31T24:00:00Z")["rows"]
    assert row("purchase", "pro", "expired", 10, 100, "JPY") in rows
    dated = [batch.expires_at for batch in shop.services.ledger.account("2").batches]
    (gone,) = [each for each in dated if each]
    for before, expires in ((timedelta(milliseconds=1), "2026-03"), (timedelta(0), "expired")):
        rows = printed(format_instant(gone - before))["rows"]
        assert row("purchase", "pro", expires, 10, 100, "JPY") in rows


def test_a_third_of_a_price_is_not_lost_by_rounding_each_line(
    world: World, printed: Printed
) -> None:
    for number in range(4):
        world.subscribe(str(number))
        buy(world, str(number), f"pi_{number}", 3, price=Price(1, "EUR"))
        use(world, 1, f"key-{number}", str(number))
    buy(world, "0", "pi_4", 3, price=Price(1, "JPY"))
    use(world, 4, "key-4", "0")
    found = printed("2026-01-15T12:00:00.250Z")
    assert found["paid"] == {"EUR": 2, "JPY": 0}  # of three packs two thirds; of one, one third
    assert found["rows"] == [
        row("purchase", "pro", None, 6, 2, "EUR"),
        row("purchase", "pro", None, 1, 0, "JPY"),
    ]


def test_who_was_erased_or_cannot_be_read_still_has_their_credits_without_a_plan(
    shop: World, printed: Printed
) -> None:
    shop.services.subscriptions.remove("1")
    damage_subscription(without("status"), "2")
    found = printed("2026-02-10T12:00:00Z")
    assert found["credits"] == 717
    assert {each["plan"] for each in found["rows"]} == {None}


def test_a_ledger_that_cannot_be_read_is_named_and_the_others_are_counted(
    shop: World, printed: Printed
) -> None:
    damage_entry(having("body", {"S": "{"}), "1", 1)
    for user_id in ("0", *(others := list("abcde"))):
        shop.subscribe(user_id)
        shop.grant(user_id, 5, f"key-{user_id}")
        damage_entry(having("body", {"S": "{"}), user_id, 1)
    found = printed("2026-02-10T12:00:00Z", status=1)
    assert (found["unreadable"], found["credits"]) == (["0", "1", *others], 517)


def test_more_users_than_are_read_at_once_are_all_counted(world: World, printed: Printed) -> None:
    for number in range(101):
        world.subscribe(str(number), plan="business")
        world.grant(str(number), 1, str(number))
    found = printed("2026-01-15T12:00:00.250Z")
    assert (found["users"], found["rows"]) == (101, [row("adjustment", "business", None, 101)])


@pytest.mark.usefixtures("shop")
def test_a_table_and_csv_say_the_same(printed: Printed) -> None:
    text, said = printed("2026-02-10T12:00Z", "--as-csv")
    rows = [*csv.DictReader(io.StringIO(text))]
    assert rows[-1] == {
        "source": "purchase",
        "plan": "starter",
        "expires": "",
        "credits": "200",
        "paid": "600",
        "currency": "EUR",
    }
    assert said.startswith("Reads the whole ledger, some ")
    assert "read units" in said


LEGACY = Row(None, None, None, None)
SOLD, GONE = (
    Row(Source.PURCHASE, "pro", expires, currency)
    for expires, currency in (("2026-11", "JPY"), ("expired", "EUR"))
)
FOUND = Liability(
    credits=Counter({SOLD: 1_234, LEGACY: 3, GONE: 7}),
    paid=defaultdict(Fraction, {SOLD: Fraction(123_456), GONE: Fraction(5, 3)}),
    balances=1_244,
    users=4_321,
    unrecovered=5_000,
)


def test_people_are_shown_what_is_none_in_words_and_the_sums(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    _show(FOUND, at(MIDNIGHT))
    shown = capsys.readouterr().out
    assert f"Outstanding at {MIDNIGHT}" in shown
    assert rows_of(shown) == [
        ["unknown", "none", "never", "3", "", ""],
        ["purchase", "pro", "2026-11", "1234", "123,456", "JPY"],
        ["purchase", "pro", "expired", "7", "2", "EUR"],
    ]
    assert shown.endswith(
        "1,244 credits of 4,321 users; paid for, in minor units: 2 EUR, 123,456 JPY; refunded and "
        "unrecovered: 5,000\n"
    )
    _show(replace(FOUND, has_plans=False), at(MIDNIGHT))
    assert rows_of(capsys.readouterr().out)[0][1] == "not read"
    _show(replace(FOUND, paid=defaultdict(Fraction, {GONE: Fraction(1, 3)})), at(MIDNIGHT))
    assert [paid for *_, paid, _ in rows_of(capsys.readouterr().out)] == ["", "0", "0"]
    thirds = dict.fromkeys((GONE, GONE._replace(expires="2026-11")), Fraction(2, 3))
    _show(replace(FOUND, paid=defaultdict(Fraction, thirds)), at(MIDNIGHT))
    assert "; paid for, in minor units: 1 EUR, 0 JPY;" in capsys.readouterr().out
    _show(Liability(), at(MIDNIGHT))
    assert "paid for, in minor units: none;" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({}, 0, ""),
        (
            {"unreadable": [str(number) for number in range(6)]},
            1,
            (
                "error: 6 ledgers cannot be read and are not counted, such as those of 0, 1, 2, 3, "
                "4; look at them with make verify\n"
            ),
        ),
        (
            {"balances": 1_245},
            1,
            (
                "error: the last lines say 1,245 credits, and their batches have 1,244; look for "
                "the ledger with make verify ALL=1\n"
            ),
        ),
    ],
)
def test_a_count_that_is_not_whole_or_does_not_add_up_is_a_failure(
    changes: dict[str, Any], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = replace(FOUND, **changes)
    assert _as_json(found, at(MIDNIGHT))["credits"] == 1_244, "what the batches have"
    assert _told_of_faults(found) == status
    assert capsys.readouterr() == ("", said)


def test_it_says_first_what_it_will_read_by_the_size_of_the_table(
    shop: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shop.services.ledger, "size", lambda: (1_234, 8_193))
    count(shop.services, shop.now)
    said = capsys.readouterr().err
    assert "some 1,234 items as DynamoDB counted them" in said
    assert "about 2 read units, and half a unit for each user's plan" in said


@pytest.mark.usefixtures("printed")
def test_the_future_and_what_is_no_instant_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["2026-01-15T12:01Z"]) == 1
    assert "AT: must not be in the future" in capsys.readouterr().err
    assert main(["yesterday"]) == 1
    assert "AT: must be a date and time" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["2026-01-15T12:00Z", "--json", "--as-csv"])
    assert "not allowed with argument" in capsys.readouterr().err


def test_the_end_of_a_day_is_the_beginning_of_the_next() -> None:
    midnight = at("2026-11-01T00:00:00Z")
    for text in ("2026-10-31T24:00Z", "2026-10-31T24:00:00Z", "2026-11-01T00:00Z"):
        assert parse_at("AT", text) == midnight
    assert parse_at("AT", "2026-10-31T24:00+01:00") == midnight - timedelta(hours=1)
    assert parse_at("AT", "2026-10-31T12:24:00Z") == at("2026-10-31T12:24:00Z")
    for text in ("2026-10-31T24:01Z", "2026-10-31T25:00Z", "2026-10-31"):
        with pytest.raises(InvalidInput):
            parse_at("AT", text)
