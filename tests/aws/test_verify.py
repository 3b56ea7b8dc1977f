"""The verify command: what a person sees of a right ledger and of one that was tampered with."""

import json

import pytest

from infra import stacks
from infra.verify import main
from tests.aws.world import World, client

NO_ANCHORS = "There are no anchors yet: an end that was cut off or written anew is not found."
NOT_COMPARED = {"gone": [], "anchors": None, "compared": 0}


@pytest.fixture(autouse=True)
def _reaches_the_world(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "services_of", lambda *_: world.services)
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


def test_who_is_not_there_is_not_said_to_be_right(
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


def test_a_user_id_that_cannot_be_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["a#b"]) == 1
    assert "USER_ID: must be 1 to 128" in capsys.readouterr().err


def test_a_zone_and_a_sample_are_verified_with_a_summary(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words in (["--zone", "Europe/Paris"], ["--sample", "10"]):
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
