"""What if? The real tables of a stage, read and replayed under other plans; nothing is written."""

import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from rich.progress import Progress

from chalicelib.domain.errors import CreditsError
from chalicelib.operations import on_request, purchases
from chalicelib.operations.purchases import Purchase
from infra import reach
from infra.commands import whatif
from infra.deployment import packaging
from infra.whatif import sources
from infra.whatif.past import Past
from tests.aws.damage import damage_entry, having
from tests.aws.exports import export_of, items_of, write
from tests.aws.test_mails import use
from tests.aws.world import World, at, client

Asked = Callable[..., Any]

TODAY = (packaging.ROOT / packaging.PLANS).read_text("utf-8")


@pytest.fixture
def spring(world: World) -> World:
    """Three months of three users: 1 is on starter and uses 80 in April, 2 is on pro, 3 leaves."""
    world.now = at("2026-01-20T12:00:00Z")
    world.subscribe("1", plan="starter")
    world.subscribe("2")
    world.subscribe("3", plan="starter", timezone="America/New_York")
    for month, hour in ((2, "01-31T23"), (3, "02-28T23"), (4, "03-31T22")):
        world.expire_at(f"2026-{hour}:00:00Z")
        world.allocate_at(f"2026-{hour}:00:00Z")
        world.expire_at(f"2026-{month:02}-01T05:00:00Z")
        world.allocate_at(f"2026-{month:02}-01T05:00:00Z")
    world.now = at("2026-04-10T12:00:00Z")
    use(world, 80, "a", "1")
    purchases.buy(world.services, Purchase("2", 40, "pi_1"), actor="till")
    world.subscribe("3", status="cancelled")
    world.now = at("2026-04-11T12:00:00Z")
    number = world.services.ledger.account("1").next_number - 1
    on_request.reverse_usage(
        world.services, "1", f"1-{number}", 5, "Failed", caller="shop", key="b"
    )
    world.now = at("2026-05-20T12:00:00Z")
    return world


@pytest.fixture
def ask(
    spring: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Asked:
    """What the command answers about some plans; it must end with this status."""
    found = reach.Reach(spring.stage, spring.services, {}, {}, client)
    monkeypatch.setattr(reach, "reach", lambda *_: found)
    monkeypatch.setattr(whatif, "FOLDER", tmp_path / "what-if")

    def run(plans: str = TODAY, *words: str, status: int = 0) -> Any:
        file = tmp_path / "new-plans.toml"
        file.write_text(plans)
        asked = ["--plans", str(file), "--from", "2026-02", "--to", "2026-04", *words]
        assert whatif.main(asked) == status
        said = capsys.readouterr()
        return (json.loads(said.out), said.err) if "--json" in words else (said.out, said.err)

    return run


def lower(amount: int) -> str:
    return TODAY.replace("monthly_credits = 100", f"monthly_credits = {amount}")


def sums(answer: Any, side: str, plan: str) -> dict[str, int]:
    rows = [row for row in answer["rows"] if row["plan"] == plan]
    found = {name: sum(row[side][name] for row in rows) for name in rows[0][side]}
    return found | {"left": rows[-1][side]["left"]}


def test_with_todays_plans_the_answer_is_what_was_for_everybody(ask: Asked) -> None:
    answer, said = ask(TODAY, "--json")
    assert [row["was"] for row in answer["rows"]] == [row["would"] for row in answer["rows"]]
    assert (answer["users"], answer["changed"], answer["differing"]) == (3, 0, 0)
    assert (answer["unknown"], answer["not_repeated"], answer["left_out"]) == (0, 0, 0)
    assert (answer["from"], answer["to"]) == ("2026-02", "2026-04")
    assert sums(answer, "was", "starter") == {
        "granted": 600,
        "other": 0,
        "spent": 75,
        "expired": 525,
        "refused": 0,
        "left": 0,
    }
    assert "the replay is the ledger, to the credit, of 3 of them" in said


def test_other_plans_are_answered_beside_what_was_and_who_loses_is_named(ask: Asked) -> None:
    answer, said = ask(lower(60), "--json")
    would = sums(answer, "would", "starter")
    assert (would["granted"], would["spent"], would["refused"]) == (360, 0, 80)
    assert sums(answer, "would", "pro") == sums(answer, "was", "pro")
    assert answer["gain"] == []
    assert answer["lose"] == [
        {"credits": -75, "user_id": "1", "plan": "starter", "had": 75, "would_have": 0}
    ]
    assert (answer["not_repeated"], answer["differing"]) == (1, 0)
    assert "1 request could not be asked again" in said


def test_it_says_first_what_it_reads_and_writes_into_no_table(ask: Asked) -> None:
    tables = ("ledger", "subscriptions", "edits", "mails", "stripe")
    before = {table: items_of(table) for table in tables}
    _, said = ask(lower(60))
    assert said.startswith("Reads the subscriptions, edits and ledgers of about 3 users, and write")
    assert "read units" in said.splitlines()[0]
    assert {table: items_of(table) for table in tables} == before


def test_a_sample_is_asked_about_unless_all_are_wanted(
    ask: Asked, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sources, "SAMPLE", 2)
    words = exported(tmp_path / "exports")
    for more in ((), words):
        assert ask(TODAY, "--json", *more)[0]["users"] == 2
        assert ask(TODAY, "--json", "--users", "all", *more)[0]["users"] == 3


@pytest.mark.parametrize(("answer", "words", "status"), [("n", (), 1), ("n", ("--yes",), 0)])
def test_at_a_terminal_the_tables_are_read_only_after_a_yes(
    answer: str, words: tuple[str, ...], status: int, ask: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyboard = io.StringIO(f"{answer}\n")
    monkeypatch.setattr(keyboard, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", keyboard)
    shown, said = ask(TODAY, *words, status=status)
    assert ("Declined: nothing was read." in said, bool(shown)) == (bool(status), not status)


def test_people_get_tables_and_a_page_with_pictures(ask: Asked, tmp_path: Path) -> None:
    shown, said = ask(lower(60))
    assert "By plan" in shown
    assert "Who would lose most" in shown
    file = tmp_path / "what-if" / "dev-2026-02-2026-04.html"
    assert f"The same with pictures: {file}" in said
    page = file.read_text("utf-8")
    assert page.count("<svg") == 5  # nobody gains
    assert "<script" not in page
    assert "1,860 credits would have been granted by the plans and not 2,100" in page
    assert "prefers-color-scheme: dark" in page
    assert [each.name for each in file.parent.iterdir()] == [file.name]


def test_a_run_that_was_interrupted_goes_on_and_comes_to_the_same(
    ask: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = ask(lower(60), "--json")
    monkeypatch.setattr(sources, "USERS_AT_ONCE", 1)
    read, users = sources.Tables._read, []

    def interrupted(tables: sources.Tables, user_id: str) -> Past | CreditsError:
        users.append(user_id)
        if len(users) == 3:
            raise KeyboardInterrupt
        return read(tables, user_id)

    monkeypatch.setattr(sources.Tables, "_read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ask(lower(60), "--json")
    again, said = ask(lower(60), "--json")
    assert "Goes on after 2 of 3 users" in said
    assert "of about 1 users" in said
    assert (len(users), users[3:]) == (4, [users[2]])
    assert again == whole


def test_another_question_does_not_go_on_with_the_answer_to_this_one(
    ask: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sources.Tables, "_read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ask(lower(60))
    for plans, more in ((lower(61), ()), (lower(60), ("--users", "all"))):
        assert "Goes on" not in ask(plans, *more)[1]
    assert "Goes on after 0 of 3 users" in ask(lower(60))[1]


def test_who_cannot_be_read_is_left_out_and_named(ask: Asked) -> None:
    damage_entry(having("body", {"S": "{}"}), "2")
    answer, said = ask(TODAY, "--json", "--users", "all")
    assert (answer["users"], answer["left_out"]) == (2, 1)
    assert "Left out: 1 user whose past cannot be read: 2: " in said
    assert "2: " in answer["named"]["left_out"][0]
    for user_id in "13":
        damage_entry(having("body", {"S": "{}"}), user_id)
    assert ask(TODAY, "--json", status=1)[0]["users"] == 0


def test_plans_without_one_that_users_were_on_are_refused(ask: Asked) -> None:
    table = "".join(TODAY.partition('[[plans]]\nid = "business"')[:1])
    _, said = ask(table, status=1)
    assert "PLANS: has no plan 'business', and users were on it: keep its table" in said


def test_a_month_that_is_not_over_everywhere_is_refused(ask: Asked, spring: World) -> None:
    spring.now = at("2026-05-01T11:59:59Z")
    _, said = ask(status=1)
    assert "TO: must be a month that is over everywhere: 2026-03 or before" in said
    spring.now = at("2026-05-01T12:00:00Z")
    ask()


# --- From exports ---------------------------------------------------------------------------------

DAY = "2026-05-20T12:00:00Z"
TABLES = {"export": "ledger", "subscriptions": "subscriptions", "edits": "edits"}


def exported(folder: Path, **when: str) -> list[str]:
    """Exports of the three tables, in new folders, and the words that name them."""
    words = []
    for name, table in TABLES.items():
        files = export_of(table, when.get(name, DAY))
        words += [f"--{name}", write(files, folder / name)]
    return words


def test_exports_are_answered_as_the_tables_are_and_take_no_units(
    ask: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = ask(lower(60), "--json")
    words = exported(tmp_path / "exports")
    assert ask(lower(60), "--json", *words)[0] == whole
    # In parts, each of which is read by itself.
    monkeypatch.setattr(sources, "ITEMS_AT_ONCE", 1)
    answer, said = ask(lower(60), "--json", "--users", "all", *words)
    assert answer == whole
    assert "Each 3 times: 0 read units." in said


def test_a_past_is_the_same_from_the_tables_and_from_exports(spring: World, tmp_path: Path) -> None:
    number = spring.services.ledger.account("1").next_number - 2
    ask = ("1", f"1-{number}", 7, "Failed")
    on_request.reverse_usage(spring.services, *ask, caller="shop", key="c")
    here = reach.Reach(spring.stage, spring.services, {}, {}, client)
    places = exported(tmp_path / "exports")[1::2]
    exports = sources.find_exports(here, (places[0], places[1], places[2]), at(DAY), is_sample=True)
    for source in (sources.Tables(here, is_sample=False), exports):
        found = dict(source.pasts(["3", "1"], Progress(disable=True)))
        one, three = found["1"], found["3"]
        assert isinstance(one, Past)
        assert isinstance(three, Past)
        assert [entry.number for entry in one.entries] == [*range(1, number + 3)]
        assert one.given_back == {number: [5, 12]}, "in all, also of what had expired"
        assert three.subscription.status.value == "cancelled"
        assert {edit.version for edit in three.edits} == {1, 2}


def test_what_reading_takes_is_said_by_the_sizes_of_the_tables(
    spring: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = {"Table": {"ItemCount": 5_000, "TableSizeBytes": 1_000_000}}
    aws = SimpleNamespace(describe_table=lambda **_: described)
    services = spring.services
    here = reach.Reach(spring.stage, services, {}, {}, lambda *_, **__: aws, "123456789012")
    monkeypatch.setattr(spring.services.ledger, "size", lambda: (0, 5_000 * 4_097))
    sample, whole = sources.Tables(here, is_sample=True), sources.Tables(here, is_sample=False)
    # To list a fifth of them, 200,000 bytes; then for each two queries, and two of the ledger.
    for tables, to_come, users, units in (
        (sample, None, "1,000", "4,025"),
        (whole, None, "5,000", "20,123"),
        (whole, 10, "10", "40"),
    ):
        said = tables.cost(to_come)
        assert f"of about {users} users, and writes nothing: about {units} read units" in said
        assert "with ledgers of 4,097 bytes, as they are on average" in said
    elsewhere = sources.Tables(replace(here, account="210987654321"), is_sample=True)
    prod = sources.Tables(replace(here, stage="prod"), is_sample=True)
    assert len({str(each) for each in (sample, whole, elsewhere, prod)}) == 4


def test_a_part_of_the_exports_is_read_at_once_and_a_sample_is_always_the_same() -> None:
    def of(items: int, name: str) -> Any:
        summary = SimpleNamespace(items=items)
        users = [{"user_id": {"S": f"u{number}"}} for number in range(1_500)]
        export = SimpleNamespace(summary=summary, read=lambda _: iter(users))
        return Named(export=export, field=name, table=name, name=name)

    tables = of(9_000_000, "ledger"), of(2_000_000, "subscriptions"), of(1_000_000, "edits")
    exports = sources.Exports(*tables, is_sample=False)
    assert exports.at_once == 200_000
    assert exports.cost(None).splitlines() == [
        *("Reads ledger.", "Reads subscriptions.", "Reads edits.", "Each 10 times: 0 read units."),
    ]
    assert "Each 2 times" in exports.cost(200_001)
    assert exports.users() == sorted(f"u{number}" for number in range(1_500))
    sample = replace(exports, is_sample=True)
    assert "Each 1 times" in sample.cost(None)
    found = sample.users()
    assert (len(found), found[:3]) == (1_000, ["u674", "u1004", "u1032"])
    others = [replace(exports, **{name: of(1, "other")}) for name in TABLES.keys() - {"export"}]
    named = {str(each) for each in (exports, sample, replace(exports, ledger=of(1, "x")), *others)}
    assert len(named) == 5


class Named(SimpleNamespace):
    """In place of an export; as text, its name."""

    def __str__(self) -> str:
        return str(self.name)


@pytest.mark.parametrize(
    ("name", "when", "least"),
    [
        ("export", "2026-05-01T11:59:59Z", "2026-05-01T12:00:00Z"),
        ("subscriptions", "2026-05-01T11:59:59Z", "2026-05-01T12:00:00Z"),
        ("edits", "2026-05-20T11:59:59Z", "2026-05-20T12:00:00Z"),
    ],
)
def test_an_export_that_does_not_reach_so_far_is_refused(
    ask: Asked, tmp_path: Path, name: str, when: str, least: str
) -> None:
    _, said = ask(TODAY, *exported(tmp_path / "exports", **{name: when}), status=1)
    place = tmp_path / "exports" / name
    assert f"error: {name.upper()}: {place}" in said
    assert f"{place} has what was written until {when}: name one of {least} or later" in said
