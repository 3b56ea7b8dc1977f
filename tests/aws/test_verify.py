"""The verify command: what a person sees of a right ledger and of one that was tampered with."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.domain.anchors import user_digest
from chalicelib.domain.errors import LedgerCorrupt
from chalicelib.jobs import audits
from chalicelib.services import Services
from infra import reach
from infra.commands.verify import _show, main
from tests.aws.damage import damage_subscription, without
from tests.aws.world import World, client

NO_ANCHORS = "There are no anchors yet: an end that was cut off or written anew is not found."
NOT_COMPARED: dict[str, object] = {"gone": [], "anchors": None, "compared": 0}


@pytest.fixture(autouse=True)
def _reaches_the_world(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "services_of", lambda *_: world.services)
    world.subscribe("1")
    world.grant("1", 50, "a")
    world.grant("1", -20, "b")


def test_a_right_ledger_is_said_to_be_right(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.subscribe("2")
    assert main(["1", "2"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "right  user 1: 2 entries, balance 30",
        "right  user 2: no entries yet, balance 0",
        NO_ANCHORS,
    ]


def test_a_user_whose_subscription_cannot_be_read_still_has_a_ledger(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.subscribe("2")
    damage_subscription(without("plan"), "2")
    assert main(["2"]) == 0
    assert "right  user 2: no entries yet, balance 0" in capsys.readouterr().out


def test_an_unknown_user_is_not_reported_as_right(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["1", "nobody"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "right  user 1: 2 entries, balance 30",
        "NONE   there is no user nobody: no subscription and no ledger entries",
        NO_ANCHORS,
    ]
    assert main(["1", "nobody", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "verified": 1,
        "wrong": [],
        "unknown": ["nobody"],
        **NOT_COMPARED,
    }
    world.services.subscriptions.remove("1")
    assert main(["1"]) == 0, "the ledger of who was erased stays"


@pytest.mark.parametrize(
    ("words", "whom"),
    [
        (["--zone", "Asia/Tokyo"], "nobody lives in Asia/Tokyo and can receive credits"),
        (["--sample", "10"], "nobody is there"),
    ],
)
def test_nothing_to_verify_is_not_said_to_be_right(
    words: list[str], whom: str, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.services.subscriptions.remove("1")
    for more in ([], ["--json"]):
        assert main([*words, *more]) == 1
        assert capsys.readouterr().err.endswith(f"error: {whom}: nothing was verified\n")


def test_the_first_wrong_line_is_named(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    item = next(item for item in world.lines() if item["entry"]["S"] == "entry#000000000002")
    item["body"]["S"] = item["body"]["S"].replace("Goodwill", "Badwill")
    client("dynamodb").put_item(TableName=world.settings.ledger_table, Item=item)
    assert main(["1"]) == 1
    shown = capsys.readouterr().out
    assert "WRONG  ledger of user 1, entry 2: the hash does not match" in shown


def test_machines_are_told_the_same_as_json(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "verified": 1,
        "wrong": [],
        "unknown": [],
        **NOT_COMPARED,
    }
    item = next(item for item in world.lines() if item["entry"]["S"] == "entry#000000000001")
    item["body"]["S"] = item["body"]["S"].replace("Goodwill", "Badwill")
    client("dynamodb").put_item(TableName=world.settings.ledger_table, Item=item)
    assert main(["--zone", "Europe/Paris", "--json"]) == 1
    (wrong,) = json.loads(capsys.readouterr().out)["wrong"]
    assert (wrong["user_id"], wrong["number"]) == ("1", 1)
    assert wrong["reason"].startswith("the hash does not match")


def test_thousands_are_grouped(capsys: pytest.CaptureFixture[str]) -> None:
    _show(dict.fromkeys(map(str, range(2_000)), LedgerCorrupt("1", 1, "no")), [], names_all=False)
    assert capsys.readouterr().out.endswith("\n2,000 ledgers verified, 2,000 of them wrong\n")


def test_a_user_id_that_cannot_be_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["a#b"]) == 1
    assert "USER_ID: must be 1 to 128" in capsys.readouterr().err


def test_a_zone_and_a_sample_are_verified_with_a_summary(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.subscribe("2", timezone="Asia/Tokyo")
    for words in (["--zone", "Europe/Paris"], ["--sample", "1"]):
        assert main(words) == 0
        assert capsys.readouterr().out.splitlines() == [
            "1 ledgers verified, 0 of them wrong",
            NO_ANCHORS,
        ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "needs one of USER_ID=42, ZONE=..., SAMPLE=1000, ALL=1"),
        (["1", "--sample", "2"], "needs one of"),
        (["--sample", "0"], "SAMPLE: must be a whole number of 1 to 10,000"),
        (["--zone", "Europe/Pari"], "ZONE: "),
    ],
)
def test_what_to_verify_must_be_said_once_and_clearly(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 1
    assert said in capsys.readouterr().err


# --- Anchors ------------------------------------------------------------------------------------


@pytest.fixture
def anchored(world: World) -> None:
    """Both entries of user 1, and one of user 2 and of user 3, are in a digest that is 6 hours old.

    User 3 has no subscription any more.
    """
    for user_id in ("2", "3"):
        world.subscribe(user_id)
        world.grant(user_id, 10, f"c{user_id}")
    world.watch()
    world.services.subscriptions.remove("3")
    world.services.anchors.fold(world.now + timedelta(hours=1))
    world.now += timedelta(hours=7)


def cut_off(world: World, user_id: str, number: int) -> None:
    """The last entry goes, and its marker: what is left is right by itself."""
    for item in world.lines():
        key = {name: item[name] for name in ("user_id", "entry")}
        is_marker = item.get("owner") == {"S": user_id} and item["number"] == {"N": str(number)}
        if is_marker or (item["user_id"]["S"], item["entry"]["S"]) == (
            user_id,
            f"entry#{number:012}",
        ):
            client("dynamodb").delete_item(TableName=world.settings.ledger_table, Key=key)


@pytest.mark.usefixtures("anchored")
def test_it_says_with_which_anchors_it_compared_and_how_old_they_are(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.grant("1", 5, "later")
    world.now += timedelta(days=2)
    assert main(["1"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "right  user 1: 3 entries, balance 35",
        "1 of them compared with the anchors of 2026-01-15T13:00:00.250Z, 54 hours old",
    ]
    assert main(["--all", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "verified": 3,
        "wrong": [],
        "unknown": [],
        "gone": [],
        "anchors": "2026-01-15T13:00:00.250Z",
        "compared": 3,
    }


@pytest.mark.usefixtures("anchored")
@pytest.mark.parametrize("words", [["1"], ["--sample", "9"], ["--zone", "Europe/Paris"], ["--all"]])
def test_an_end_that_was_cut_off_is_found_however_it_is_asked_for(
    words: list[str], world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    cut_off(world, "1", 2)
    assert main(words) == 1
    assert (
        "WRONG  ledger of user 1, entry 2: entries up to 2 were anchored and are gone"
        in capsys.readouterr().out.splitlines()
    )


@pytest.mark.usefixtures("anchored")
def test_an_end_that_was_written_anew_is_found(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    cut_off(world, "1", 2)
    world.grant("1", -1, "forged")
    assert main(["1"]) == 1
    shown = capsys.readouterr().out
    assert "WRONG  ledger of user 1, entry 2: it is not the entry that was anchored" in shown


@pytest.mark.usefixtures("anchored")
def test_a_ledger_that_is_gone_is_found_even_when_its_user_is_gone(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    cut_off(world, "3", 1)
    assert main(["3"]) == 1
    assert "entry 1: entries up to 1 were anchored and are gone" in capsys.readouterr().out
    assert main(["--all"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"GONE   the ledger of the user whose digest is {user_digest('3')}, 1 entries",
        "2 ledgers verified, 1 of them wrong",
        "2 of them compared with the anchors of 2026-01-15T13:00:00.250Z, 6 hours old",
    ]
    assert main(["--all", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["gone"] == [user_digest("3")]
    cut_off(world, "2", 1)
    world.services.subscriptions.remove("2")
    assert main(["--all", "--json"]) == 1
    assert set(json.loads(capsys.readouterr().out)["gone"]) == {user_digest("2"), user_digest("3")}


@pytest.mark.usefixtures("anchored")
def test_earlier_anchors_can_be_asked_for(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """An attacker who can write to both puts the rewritten ledger into a later digest."""
    cut_off(world, "1", 2)
    world.grant("1", -1, "forged")
    world.grant("1", -1, "more")
    world.subscribe("late")
    world.grant("late", 1, "d")
    world.watch()
    world.services.subscriptions.remove("late")
    cut_off(world, "late", 1)
    world.services.anchors.fold(world.now + timedelta(hours=1))
    world.now += timedelta(hours=2)
    assert main(["1"]) == 0
    assert main(["1", "--anchors", "2026-01-15T14:00:00.250Z"]) == 1
    assert main(["1", "--anchors", "2026-01-15T13:00:00.250Z"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == NO_ANCHORS
    for words, gone in ([], [user_digest("late")]), (["--anchors", "2026-01-15T14:00:00.250Z"], []):
        status = main(["--all", "--json", *words])
        assert (status, json.loads(capsys.readouterr().out)["gone"]) == (1, gone)
    assert main(["1", "--anchors", "yesterday"]) == 1
    assert "ANCHORS: " in capsys.readouterr().err


def test_anchors_that_nobody_can_read_are_an_error(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    client("s3").put_object(
        Bucket=world.settings.anchors_bucket, Key="digests/2026-01-15T13:00:00Z.gz", Body=b"none"
    )
    assert main(["1"]) == 1
    assert "the anchors digests/2026-01-15T13:00:00Z.gz cannot be read" in capsys.readouterr().err


def test_everybody_is_every_user_with_a_ledger_or_a_subscription(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.subscribe("2")
    world.services.subscriptions.remove("1")
    assert main(["--all"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "2 ledgers verified, 0 of them wrong"


def test_every_wrong_ledger_is_named_and_counted_and_the_right_ones_are_not(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    for user_id in ("9", "4", "2"):
        world.subscribe(user_id)
        world.grant(user_id, 10, f"of-{user_id}")
    for item in world.lines():
        if item["user_id"]["S"] in ("9", "2") and item["entry"]["S"].startswith("entry#"):
            item["body"]["S"] = item["body"]["S"].replace("Goodwill", "Badwill")
            client("dynamodb").put_item(TableName=world.settings.ledger_table, Item=item)
    assert main(["9", "4", "2"]) == 1
    shown = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in shown[:3]] == [
        "WRONG  ledger of user 9, entry 1",
        "right  user 4",
        "WRONG  ledger of user 2, entry 1",
    ]
    assert main(["--zone", "Europe/Paris"]) == 1
    assert "4 ledgers verified, 2 of them wrong" in capsys.readouterr().out


@pytest.mark.usefixtures("anchored")
def test_a_user_who_comes_while_everybody_is_verified_is_not_reported_as_gone(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That takes long enough for an audit, whose anchors have users who were not listed."""
    find = world.services.anchors.find

    def meanwhile(*arguments: Any) -> Any:
        found = find(*arguments)
        world.now += timedelta(hours=1)
        world.subscribe("late")
        world.grant("late", 5, "late")
        world.watch()
        world.now += timedelta(hours=1)
        world.services.anchors.fold(world.now)
        return found

    monkeypatch.setattr(world.services.anchors, "find", meanwhile)
    assert main(["--all"]) == 0, capsys.readouterr().out


@pytest.mark.usefixtures("anchored")
def test_who_comes_while_everybody_is_listed_is_not_said_to_be_gone(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    users = audits.users_with_ledgers

    def meanwhile(services: Services) -> Iterator[str]:
        yield from list(users(services))
        world.now += timedelta(hours=1)
        world.subscribe("late")
        world.grant("late", 5, "late")
        world.watch()
        world.now += timedelta(hours=1)
        world.services.anchors.fold(world.now)

    monkeypatch.setattr(audits, "users_with_ledgers", meanwhile)
    assert main(["--all"]) == 0, capsys.readouterr().out
