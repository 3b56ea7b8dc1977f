"""A promotion is tried, approved by its digest, and granted to each user once."""

import re
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from chalicelib.domain.errors import Contention
from infra.commands.grant import main
from infra.deployment import stage_services
from infra.imports import promotions, receivers
from infra.imports.csv_file import CheckedFile, UnreadableFileError
from infra.imports.importing import catalogue
from infra.imports.promotions import COLUMNS, Promotion
from tests.aws.damage import damage_subscription, without
from tests.aws.repair import Ran, Terminal
from tests.aws.test_mails import use
from tests.aws.world import World, at, client
from tests.unit.test_examples import of
from tests.unit.test_pages import ROOT

HEADER = ",".join(COLUMNS.all)
ROWS = (
    "1,100,Autumn,30,,,",
    "2,250,Autumn,30,20,promotion,false",
    "3,40,A word of thanks,never,,adjustment,TRUE",
)
NAME = "d9b987820cb21a0679fdde3103d9cc8a6c54436cbbdb5ba69a68aa51b5f9c654"
ADA = "arn:aws:sts::123456789012:assumed-role/Admin/ada"


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_services, "THREADS", 1)


@pytest.fixture
def three(world: World) -> World:
    world.now = at("2026-11-30T12:00:00Z")
    for user_id in ("1", "2", "3"):
        world.subscribe(user_id)
    return world


Grant = Callable[..., Ran]


@pytest.fixture
def grant(three: World, terminal: Terminal, tmp_path: Path) -> Grant:
    """Runs the command, by default on the file with the three rows, in Ada's name."""
    file = tmp_path / "promo.csv"

    def run(
        *words: str, rows: tuple[str, ...] = ROWS, header: str = HEADER, by: str = "ada"
    ) -> Ran:
        file.write_text("\n".join((header, *rows, "")))
        return terminal.run(main, str(file), "--approved-by", by, *words)

    assert three is terminal.world
    return run


def digest_of(ran: Ran) -> tuple[str, str]:
    """The option with the digest that a dry run has printed."""
    assert ran.status == 0, ran.said
    return "--digest", ran.printed.strip()


def stored(world: World) -> list[str]:
    items = client("dynamodb").scan(TableName=world.settings.ledger_table)["Items"]
    return sorted(map(str, items))


def granted(world: World) -> dict[str, list[tuple[int, str, str]]]:
    """By user: amount, description and actor of every entry; each ledger must verify."""
    return {
        user_id: [(line.amount, line.description, line.actor) for line in world.history(user_id)]
        for user_id in ("1", "2", "3")
    }


ONCE = {
    "1": [(100, "Autumn", "ada")],
    "2": [(250, "Autumn", "ada")],
    "3": [(40, "A word of thanks", "ada")],
}


# --- To try -------------------------------------------------------------------------------------


def test_a_dry_run_shows_the_sums_by_their_terms_and_a_digest_and_writes_nothing(
    three: World, grant: Grant
) -> None:
    before = stored(three)
    ran = grant()
    assert ran.status == 0
    rows = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in ran.said.splitlines()
        if line.startswith("│")
    ]
    assert rows == [
        ["1", "250", "250", "after 30 days", "Autumn", "promotion", "20", "no"],
        ["1", "100", "100", "after 30 days", "Autumn", "promotion", "50", "yes"],
        ["1", "40", "40", "never", "A word of thanks", "adjustment", "50", "yes"],
    ]
    # Three transactions of two items, and two of the three expire.
    assert "390 credits for 3 users, in about 14 write units." in ran.said
    assert "Nothing was granted yet" in ran.said
    assert re.fullmatch(r"[0-9a-f]{64}\n", ran.printed)
    assert f"APPROVED_BY=ada DIGEST={ran.printed.strip()}" in ran.said
    assert stored(three) == before


def test_grants_on_the_same_terms_are_one_line(grant: Grant) -> None:
    rows = ("1,1000,Autumn [/b],30,,,", "2,2000,Autumn [/b],30,50,promotion,true", "3,9,x,1,0,,")
    said = grant(rows=rows).said
    assert re.search(r"2 │ +3,000 │ 1,000 to 2,000 │ after 30 days │ Autumn \[/b\] │", said)
    assert re.search(r"1 │ +9 │ +9 │ after 1 days +│ x +│ promotion │ +0 │ yes", said)
    said = grant(rows=("1,5,as much,1,,,", "2,5,a gift,1,,,")).said
    assert said.index("a gift") < said.index("as much")


def test_of_many_kinds_of_grants_the_largest_are_shown(
    grant: Grant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.commands.grant.MOST_SHOWN", 1)
    said = grant().said
    assert "... and 2 more kinds of grants" in said
    assert "A word of thanks" not in said
    monkeypatch.setattr("infra.commands.grant.MOST_SHOWN", 3)
    assert "more kinds" not in grant().said


def test_who_has_lately_been_given_as_much_is_warned_of(three: World, grant: Grant) -> None:
    """Somebody adds a row to a file that was run: all would be granted it again."""
    grant(*digest_of(grant()))
    assert "were granted the same amount" not in grant().said, "they are granted nothing more"
    three.grant("1", 100, "a", source="promotion")
    use(three, 90, "b", "1")
    three.grant("3", 41, "c", source="promotion")
    rows = (*ROWS[:2], ROWS[2].replace("40", "41"))
    said = grant(rows=rows).said
    assert "2 of 3 users were granted the same amount within 30 days (line 2, batch 1-1)" in said
    three.now = at("2026-12-30T12:00:00Z")
    assert "were granted the same amount" not in grant(rows=rows).said


def test_what_grants_nothing_is_refused(grant: Grant) -> None:
    ran = grant(rows=())
    assert (ran.status, ran.printed) == (1, "")
    assert "promo.csv: grants nothing: it has no rows" in ran.said


# --- To run -------------------------------------------------------------------------------------


def test_what_was_approved_is_granted_on_its_terms(three: World, grant: Grant) -> None:
    option, digest = digest_of(grant())
    assert grant(option, f"{digest[:-1]}{int(digest[-1], 16) ^ 1:x}").status == 1
    assert stored(three) == []
    ran = grant(option, digest)
    assert (ran.status, ran.printed) == (0, "")
    assert "3 granted, 0 granted before." in ran.said
    assert granted(three) == ONCE
    (first,), (second,), (third,) = (three.history(user_id) for user_id in ("1", "2", "3"))
    batches = [entry.granted_batch for entry in (first, second, third)]
    assert [
        (batch.source, batch.priority, batch.expires_at) for batch in batches if batch is not None
    ] == [
        # 30 days, and the rest of the day in Paris.
        ("promotion", 50, at("2026-12-30T23:00:00Z")),
        ("promotion", 20, at("2026-12-30T23:00:00Z")),
        ("adjustment", 50, None),
    ]
    assert [entry.silent for entry in (first, second, third)] == [False, True, False]
    # Under another caller, a run that an earlier release began would grant everything again.
    assert first.operation == f"manual#command/grant#{NAME}-1"


def test_a_second_run_changes_nothing(three: World, grant: Grant) -> None:
    approved = digest_of(grant())
    grant(*approved)
    after = stored(three)
    three.now = at("2027-06-01T12:00:00Z")
    three.services.subscriptions.remove("3")
    ran = grant(*approved)
    assert (ran.status, "0 granted, 3 granted before." in ran.said) == (0, True)
    assert stored(three) == after
    ran = grant()
    assert "3 of them have been granted this already, and get nothing more." in ran.said


@pytest.mark.parametrize(
    "changed",
    [
        {"rows": (*ROWS[:2], ROWS[2].replace("40", "41"))},
        {"rows": (*ROWS[:2], ROWS[2].replace("A word of", "Many"))},
        {"rows": (*ROWS[:2], ROWS[2].replace("never", "1"))},
        {"rows": (*ROWS[:2], ROWS[2].replace(",,adj", ",51,adj"))},
        {"rows": (*ROWS[:2], ROWS[2].replace("adjustment", ""))},
        {"rows": (*ROWS[:2], ROWS[2].replace("TRUE", "false"))},
        {"rows": (*ROWS[:2], f"4{ROWS[2][1:]}")},
        {"rows": ROWS[:2]},
        {"by": "bob"},
    ],
)
def test_nothing_but_what_was_approved_is_granted(
    three: World, grant: Grant, changed: dict[str, Any]
) -> None:
    three.subscribe("4")
    ran = grant(*digest_of(grant()), **changed)
    assert (ran.status, ran.printed) == (1, "")
    assert "promo.csv: is not what was approved: DIGEST is not that of this file" in ran.said
    assert not re.search(r"[0-9a-f]{64}", ran.said), "who has not looked could go on with it"
    assert "Nothing was granted. Look at it again" in ran.said
    assert stored(three) == []


def test_a_bad_row_that_was_added_to_what_was_approved_stops_it(three: World, grant: Grant) -> None:
    """The good rows alone are what was approved."""
    for approved in (digest_of(grant()), ("--digest", "0" * 64)):
        ran = grant(*approved, rows=(*ROWS, "4,0,Autumn,30,,,"))
        assert (ran.status, "1 of 4 rows are wrong. Nothing was granted." in ran.said) == (1, True)
        assert stored(three) == []
    approved = digest_of(grant())
    assert grant(*approved).status == 0
    ran = grant(*approved, rows=(*ROWS, "4,0,Autumn,30,,,"))
    assert "1 of 4 rows are wrong. Nothing was granted." in ran.said, "it has no more to grant"


@pytest.mark.parametrize("digest", ["", "3f", "0" * 65, "g" * 64, "A" * 64])
def test_what_is_no_digest_is_refused(three: World, grant: Grant, digest: str) -> None:
    ran = grant("--digest", digest)
    assert (ran.status, "must be the 64 digits that the command printed" in ran.said) == (1, True)
    assert stored(three) == []


@pytest.mark.parametrize("name", ["", "system", "(Erased)", "x" * 501])
def test_nobody_approves_in_a_name_of_the_ledger_or_in_none(
    three: World, grant: Grant, name: str
) -> None:
    ran = grant(by=name)
    assert (ran.status, "--approved-by" in ran.said) == (1, True)
    assert stored(three) == []


def test_a_file_that_says_the_same_is_the_same_promotion(three: World, grant: Grant) -> None:
    """Whatever the order of its rows and columns, and what a spreadsheet writes around them."""
    approved = digest_of(grant())
    header = "Description;Amount;Expires in days;User ID;source;notify;priority"
    same = (
        "",
        "A word of thanks;40;never;3;adjustment;true;50",
        " Autumn ;250;30;2;;FALSE;20",
        "Autumn;100;30;1;promotion;;",
    )
    assert digest_of(grant(header=header, rows=same)) == approved
    assert grant(*approved).status == 0
    ran = grant(*approved, header=header, rows=same)
    assert "0 granted, 3 granted before." in ran.said
    assert granted(three) == ONCE


def test_the_name_of_a_promotion_never_changes() -> None:
    """Under another name, a run that an earlier release began would grant everything again."""
    text = "\n".join((HEADER, *ROWS))
    alone = Promotion({}, "ada").file.check_alone(text, catalogue(), at("2026-11-30T12:00:00Z"))
    good = alone.good
    promotion = Promotion.of(good, "ada")
    assert promotion.key_of(promotion.grants[2]) == f"{NAME}-1"
    assert Promotion.of(good, "bob").name == promotion.name
    assert promotion.digest("prod", "1") != promotion.digest("prod1", "")


# --- By the person who approved it ---------------------------------------------------------------


@pytest.fixture
def on_aws(terminal: Terminal) -> Terminal:
    terminal.account, terminal.caller = "123456789012", ADA
    return terminal


@pytest.mark.parametrize(
    ("account", "caller", "stage"),
    [
        ("123456789012", ADA.replace("ada", "bob"), "dev"),
        ("123456789012", "arn:aws:iam::123456789012:user/ada", "dev"),
        ("210987654321", ADA, "dev"),
        ("123456789012", ADA, "prod"),
    ],
)
def test_a_digest_is_good_for_one_person_in_one_place(
    three: World, grant: Grant, on_aws: Terminal, account: str, caller: str, stage: str
) -> None:
    tried = grant("--stage", "dev")
    assert f"ada and stage dev in account 123456789012 and eu-west-1, as {ADA}," in tried.said
    assert f"APPROVED_BY=ada STAGE=dev DIGEST={tried.printed.strip()}" in tried.said
    approved = digest_of(tried)
    text = "\n".join((HEADER, *ROWS))
    alone = Promotion({}, "ada").file.check_alone(text, catalogue(), three.now)
    place = ("dev", "123456789012", "eu-west-1", ADA)
    assert approved[1] == Promotion.of(alone.good, "ada").digest(*place)
    said = grant("--stage", "dev", "--region", "eu-west-1", by="the 'd").said
    assert """APPROVED_BY='the '"'"'d' STAGE=dev REGION=eu-west-1 DIGEST=""" in said
    on_aws.account, on_aws.caller = account, caller
    ran = grant("--stage", stage, *approved)
    assert (ran.status, "is not what was approved" in ran.said) == (1, True)
    assert f"as {caller}. Nothing was granted. Look" in ran.said
    assert stored(three) == []
    on_aws.account, on_aws.caller = "123456789012", ADA
    assert grant("--stage", "dev", *approved).status == 0


@pytest.mark.parametrize(
    "session", ["botocore-session-1764500000", "1764500000123456789", ""], ids=str
)
def test_a_session_that_is_nobodys_approves_nothing(
    grant: Grant, on_aws: Terminal, session: str
) -> None:
    on_aws.caller = f"arn:aws:sts::123456789012:assumed-role/Admin/{session}" if session else ""
    ran = grant("--stage", "dev")
    assert (ran.status, ran.printed) == (1, "")
    assert "role_session_name = ada" in ran.said


def test_another_who_approves_the_same_file_grants_nobody_twice(three: World, grant: Grant) -> None:
    of_bob = digest_of(grant(by="bob"))
    grant(*digest_of(grant()))
    for words in ((), of_bob):
        ran = grant(*words, by="bob")
        assert (ran.status, ran.printed) == (1, "")
        assert "was granted this before, approved by ada (transaction 1-1)" in ran.said
        assert "3 of 3 rows are wrong. Nothing was granted." in ran.said
    assert granted(three) == ONCE


def test_what_one_has_begun_another_does_not_finish(
    three: World, grant: Grant, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_ada, of_bob = digest_of(grant()), digest_of(grant(by="bob"))
    with monkeypatch.context() as patched:
        patched.setattr(three.services.ledger, "perform", only_for("1", three))
        assert grant(*of_ada).status == 1
    ran = grant(*of_bob, by="bob")
    assert (ran.status, "1 of 3 rows are wrong. Nothing was granted." in ran.said) == (1, True)
    assert grant(*of_ada).status == 0
    assert granted(three) == ONCE


def only_for(user_id: str, world: World) -> Callable[..., Any]:
    """In place of what writes entries: everybody else is busy."""
    perform = world.services.ledger.perform

    def performed(of: str, *given: Any, **more: Any) -> Any:
        if of != user_id:
            raise Contention(f"the ledger of user {of} is written too often at the moment")
        return perform(of, *given, **more)

    return performed


# --- Mistakes in a file -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        ("2,0,Autumn,30,,,", "amount", "must be a whole number from 1"),
        ("2,-5,Autumn,30,,,", "amount", "must be a whole number from 1"),
        ('2,"1,000",Autumn,30,,,', "amount", "has thousands separators"),
        ("2,,Autumn,30,,,", "amount", "is required"),
        ("2,1000000,Autumn,30,,,", "amount", "must be at most"),
        (",100,Autumn,30,,,", "user_id", "is required"),
        ("a b,100,Autumn,30,,,", "user_id", "must be 1 to 128"),
        ("1.2E+17,100,Autumn,30,,,", "user_id", "is a number that a spreadsheet has shortened"),
        ("9,100,Autumn,30,,,", "user_id", "there is no user 9; import their subscription first"),
        ("2,100,,30,,,", "description", "is required"),
        (f"2,100,{'x' * 501},30,,,", "description", "must be at most 500 characters"),
        ("2,100,NULL,30,,,", "description", "leave it empty"),
        ("2,100,Autumn,,,,", "expires_in_days", "is required"),
        ("2,100,Autumn,0,,,", "expires_in_days", "from 1 to 3650; is 0 (int), or the word never"),
        ("2,100,Autumn,3651,,,", "expires_in_days", "or the word never"),
        ("2,100,Autumn,NEVER,,,", "expires_in_days", "or the word never"),
        ("2,100,Autumn,30,101,,", "priority", "from 0 to 100"),
        ("2,100,Autumn,30,,purchase,", "source", "must be adjustment or promotion"),
        ("2,100,Autumn,30,,gift,", "source", "must be one of"),
        ("2,100,Autumn,30,,,yes", "notify", "must be true or false; is 'yes'"),
        ("2,100,Autumn,30", "priority", "the row ends before this column"),
        ("2,100,Autumn,30,,,,x", "column 8", "the header names no such column"),
    ],
)
def test_each_bad_row_is_reported_with_its_line_and_nothing_is_approved(
    three: World, grant: Grant, row: str, field: str, reason: str
) -> None:
    text = "\n".join((HEADER, ROWS[0], row))
    (problem,) = check(three, text).problems
    assert (problem.line, problem.field) == (3, field)
    assert reason in problem.reason
    ran = grant(rows=(ROWS[0], row))
    assert (ran.status, ran.printed) == (1, "")
    assert "1 of 2 rows are wrong. Nothing was granted." in ran.said
    assert stored(three) == []


def check(world: World, text: str) -> CheckedFile:
    alone = Promotion({}, "ada").file.check_alone(text, world.services.catalogue, world.now)
    return Promotion.of(alone.good, "ada").file.check(world.services, text)


def test_everybody_who_would_get_more_than_their_plan_allows_is_named(
    three: World, grant: Grant
) -> None:
    ran = grant(rows=("1,1000000,Autumn,30,,,", ROWS[1], "3,1000000,Autumn,30,,,"))
    assert (ran.status, "2 of 3 rows are wrong. Nothing was granted." in ran.said) == (1, True)
    assert len(re.findall(r"│ [24] +│ amount │ '1000000' │ must be at most", ran.said)) == 2
    assert stored(three) == []


def test_who_is_in_a_file_twice_is_granted_nothing(three: World, grant: Grant) -> None:
    ran = grant(rows=(*ROWS, ROWS[0].replace("Autumn", "Winter")))
    assert (ran.status, ran.printed) == (1, "")
    for words in ("is on line 2, too", "is on line 5, too", "2 of 4 rows are wrong"):
        assert words in ran.said
    assert stored(three) == []


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("user_id,amount,description", "missing: expires_in_days"),
        (f"{HEADER},reason", "unknown: reason"),
    ],
)
def test_a_file_of_other_columns_is_refused(grant: Grant, header: str, said: str) -> None:
    ran = grant(header=header, rows=())
    assert (ran.status, said in ran.said) == (1, True)


@pytest.mark.parametrize(("limit", "most"), [("MOST_USERS", 2), ("MOST_CREDITS", 389)])
def test_a_file_that_asks_for_too_much_is_refused(
    three: World, grant: Grant, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    assert (promotions.MOST_USERS, promotions.MOST_CREDITS) == (100_000, 1_000_000_000)
    monkeypatch.setattr(promotions, limit, most + 1)
    assert grant().status == 0
    monkeypatch.setattr(promotions, limit, most)
    ran = grant()
    assert (ran.status, ran.printed) == (1, "")
    assert "asks for 390 credits for 3 users; the most allowed are" in ran.said
    with pytest.raises(UnreadableFileError, match="split the file"):
        check(three, "\n".join((HEADER, *ROWS)))


def test_who_has_too_many_batches_or_cannot_be_read_is_named(
    three: World, grant: Grant, monkeypatch: pytest.MonkeyPatch
) -> None:
    three.grant("1", 5, "a")
    monkeypatch.setattr(receivers, "MOST_OPEN_BATCHES", 1)
    damage_subscription(without("timezone"), "2")
    ran = grant()
    assert (ran.status, "2 of 3 rows are wrong" in ran.said) == (1, True)
    assert "user 1 has 1 open credit batches, and the file has 1 more" in ran.said
    assert "what is stored cannot be read" in ran.said


# --- Killed, and repeated -----------------------------------------------------------------------


class Died(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("is_answer_lost", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("place", range(3))
def test_a_run_that_is_killed_at_a_write_and_repeated_ends_the_same(
    three: World,
    grant: Grant,
    monkeypatch: pytest.MonkeyPatch,
    place: int,
    is_answer_lost: bool,  # noqa: FBT001 - one of two kinds
) -> None:
    approved = digest_of(grant())
    call, writes = three.services.dynamodb.call, count()
    is_dead = False

    def dies(operation: str, parameters: dict[str, Any]) -> Any:
        nonlocal is_dead
        was_dead, is_dead = (
            is_dead,
            is_dead or (operation == "ExecuteTransaction" and next(writes) == place),
        )
        if is_dead and (was_dead or not is_answer_lost):
            raise Died
        answer = call(operation, parameters)
        if is_dead:
            raise Died
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(three.services.dynamodb, "call", dies)
        with pytest.raises(Died):
            grant(*approved)
    three.services = three.restarted()
    three.now = at("2026-12-01T09:00:00Z")
    ran = grant(*approved)
    done = place + is_answer_lost
    assert (ran.status, f"{3 - done} granted, {done} granted before." in ran.said) == (0, True)
    assert granted(three) == ONCE


def test_ctrl_c_says_that_the_same_command_finishes_it(
    three: World, grant: Grant, monkeypatch: pytest.MonkeyPatch
) -> None:
    approved = digest_of(grant())

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(three.services.ledger, "perform", interrupted)
        ran = grant(*approved)
    assert (ran.status, "Run the same command again to finish it" in ran.said) == (130, True)
    assert grant(*approved).status == 0
    assert granted(three) == ONCE


def test_a_row_that_fails_is_named_and_the_same_command_grants_it(
    three: World, grant: Grant, monkeypatch: pytest.MonkeyPatch
) -> None:
    approved = digest_of(grant())
    with monkeypatch.context() as patched:
        patched.setattr(three.services.ledger, "perform", only_for("2", three))
        ran = grant(*approved)
    assert (ran.status, "1 granted, 0 granted before." in ran.said) == (1, True)
    assert "the ledger of user 1 is written too often" in ran.said
    assert "the ledger of user 3 is written too often" in ran.said
    assert "These were not granted. Run the same command again" in ran.said
    assert "\n1 of them have been granted this already" in grant().said
    assert grant(*approved).status == 0
    assert granted(three) == ONCE


def test_who_is_gone_before_a_run_begins_stops_it_and_in_its_midst_stops_nobody_else(
    three: World, grant: Grant, monkeypatch: pytest.MonkeyPatch
) -> None:
    approved = digest_of(grant())
    three.services.subscriptions.remove("2")
    ran = grant(*approved)
    assert (ran.status, "1 of 3 rows are wrong. Nothing was granted." in ran.said) == (1, True)
    assert stored(three) == []
    three.subscribe("2")

    with monkeypatch.context() as patched:
        patched.setattr(three.services.ledger, "perform", only_for("1", three))
        assert grant(*approved).status == 1
    three.services.subscriptions.remove("2")
    tried = grant()
    assert (tried.status, tried.printed) == (1, "")
    ran = grant(*approved)
    assert (ran.status, "1 granted, 1 granted before." in ran.said) == (1, True)
    assert "there is no user 2" in ran.said
    assert "These were not granted" not in ran.said, "the wrong row was tried"
    assert granted(three) == {**ONCE, "2": []}


# --- The page -----------------------------------------------------------------------------------


def test_the_example_of_the_page_is_what_the_command_says(
    three: World, terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "promotions.md").read_text("utf-8")
    (file,) = of("docs/promotions.md", "csv")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "118")
    Path("promo.csv").write_text(file)
    tried = terminal.run(main, "promo.csv", "--approved-by", "ada")
    ran = terminal.run(main, "promo.csv", "--approved-by", "ada", *digest_of(tried))
    assert ran.status == 0
    assert len(three.history("1")) == 1
    for said in (tried.said, tried.printed, ran.said):
        for line in filter(None, map(str.rstrip, said.splitlines())):
            # The page leaves bars of progress out.
            assert line in page or "0:00:00" in line, line


def test_a_life_of_thousands_of_days_is_shown_so(grant: Grant) -> None:
    assert "│ after 1,500 days │" in grant(rows=("1,5,Autumn,1500,,,",)).said
