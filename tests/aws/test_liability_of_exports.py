"""What was outstanding, from an export of the ledger: what the table says, and no table is read."""

import errno
import gzip
import io
import json
import random
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from chalicelib.domain.prices import Price
from chalicelib.operations import purchases
from chalicelib.operations.purchases import Purchase, Refund
from chalicelib.store.wire.client import Client
from infra import reach
from infra.commands.liability import _standings, main
from infra.imports.table_export import ExportError, find
from tests.aws.damage import damage_entry, damage_subscription, having, without
from tests.aws.exports import (
    ACCOUNT,
    BUCKET,
    NAMES,
    PREFIX,
    Files,
    export_of,
    items_of,
    line_of,
    upload,
    write,
)
from tests.aws.repair import Ran, Terminal
from tests.aws.test_mails import use
from tests.aws.world import REGION, World, at, client

AT = "2026-02-20T00:00:00Z"
FIRST, _, LAST = (f"data/{name}.json.gz" for name in NAMES)

ITEMS = [
    {"user_id": {"S": f"operation#{number}"}, "entry": {"S": "operation"}} for number in range(4)
]
"""What an export can have of which nothing depends on what it is."""

INSTANTS = (
    "2026-01-31T22:59Z",
    "2026-01-31T24:00Z",
    "2026-02-10T11:59:59.999Z",
    "2026-02-10T12:00Z",
    "2026-02-11T12:00Z",
    "2026-02-12T12:00Z",
    "2026-02-14T12:00Z",
    "2026-02-15T12:00Z",
    AT,
)


@pytest.fixture
def shop(world: World) -> World:
    """Allocations, purchases, refunds that were corrected, an expiry, somebody erased."""
    world.subscribe("1", plan="starter")
    world.subscribe("2", plan="pro")
    world.subscribe("3", plan="business", billing_interval="monthly")
    world.allocate_at("2026-01-31T23:00:00Z")
    world.now = at("2026-02-10T12:00:00Z")
    for user_id, payment, amount, more in (
        ("1", "pi_1", 300, {"price": Price(900, "EUR")}),
        ("2", "pi_2", 10, {"price": Price(100, "JPY"), "expires_in_days": 30}),
        ("2", "pi_3", 7, {}),
        ("3", "pi_4", 7, {"price": Price(1, "USD"), "expires_in_days": 2}),
    ):
        bought = Purchase(user_id, amount, payment, **more)
        purchases.buy(world.services, bought, actor="till")
    use(world, 200, "a", "1")
    for in_all in (150, 300, 200):
        world.now += timedelta(days=1)
        purchases.refund(world.services, Refund("pi_1", in_all, "Some"), actor="till")
    use(world, 5, "b", "2")
    world.expire_at("2026-02-13T23:00:00Z")
    world.now = at("2026-02-14T12:00:00Z")
    assert any(world.services.ledger.erase("3"))
    world.subscribe("3", status="cancelled")
    world.now = at(AT)
    return world


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, Any]]:
    """All calls to AWS: service, operation and parameters."""
    made: list[tuple[str, str, Any]] = []
    call: Any = BaseClient.__dict__["_make_api_call"]

    def recorded(self: Any, operation: str, parameters: Any) -> Any:
        made.append((self.meta.service_model.service_name, operation, parameters))
        return call(self, operation, parameters)

    monkeypatch.setattr(BaseClient, "_make_api_call", recorded)
    by_wire = Client.call

    def recorded_by_wire(self: Client, operation: str, parameters: Any) -> Any:
        made.append(("dynamodb", operation, parameters))
        return by_wire(self, operation, parameters)

    monkeypatch.setattr(Client, "call", recorded_by_wire)
    return made


@pytest.fixture
def ask(world: World, terminal: Terminal) -> Callable[..., Ran]:
    """Runs the command, at the instant that the exports of this file are of."""
    world.now = at(AT)

    def run(*words: str) -> Ran:
        return terminal.run(main, *words)

    return run


Ask = Callable[..., Ran]


# --- What it says ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("form", ["--json", "--as-csv"])
def test_exports_in_s3_say_the_same_as_the_tables_at_any_instant(ask: Ask, form: str) -> None:
    ledger = upload(export_of("ledger", AT))
    subscriptions = upload(export_of("subscriptions", AT), "subscriptions/AWSDynamoDB/1-a")
    answers = set()
    for instant in INSTANTS:
        scanned = ask(instant, form)
        read = ask(instant, form, "--export", ledger, "--subscriptions", subscriptions)
        assert (read.status, read.printed) == (scanned.status, scanned.printed) == (0, read.printed)
        answers.add(read.printed)
    assert len(answers) >= 6


@pytest.mark.usefixtures("shop")
def test_folders_say_the_same_and_what_they_are_called_does_not_matter(
    ask: Ask, tmp_path: Path
) -> None:
    ledger = write(export_of("ledger", AT), tmp_path / "a copy")
    subscriptions = write(export_of("subscriptions", AT), tmp_path / "plans")
    read = ask(AT, "--export", f"{ledger}/", "--subscriptions", subscriptions)
    assert read.status == 0
    assert read.printed == ask(AT).printed
    assert (
        read.printed
        == ask(
            AT, "--export", f"{ledger}/manifest-summary.json", "--subscriptions", subscriptions
        ).printed
    )


@pytest.mark.usefixtures("shop")
def test_the_order_of_the_items_does_not_matter() -> None:
    items = items_of("ledger")
    for instant in map(at, ("2026-02-12T12:00:00Z", AT)):
        found = _standings(iter(items), instant)
        assert {user_id: each.refunds for user_id, each in found.items() if each.refunds}
        for order in (items[::-1], *(random.Random(n).sample(items, len(items)) for n in range(9))):
            assert _standings(iter(order), instant) == found


def test_an_export_of_a_later_instant_says_the_same_of_the_earlier_one(
    shop: World, ask: Ask
) -> None:
    before = ask(AT, "--json").facts
    shop.now += timedelta(days=3)
    shop.grant("1", 5, "later")
    shop.subscribe("4")
    shop.grant("4", 5, "new")
    ledger = upload(export_of("ledger", "2026-02-23T00:00:00.123Z"))
    read = ask(AT, "--json", "--export", ledger).facts
    assert [{**row, "plan": None} for row in read["rows"]] == read["rows"]
    assert read["credits"] == before["credits"]
    assert read["users"] == before["users"] == 3
    assert ask("2026-02-23T00:00Z", "--json", "--export", ledger).facts["users"] == 4


@pytest.mark.usefixtures("shop")
def test_without_an_export_of_the_subscriptions_no_plan_is_counted_by_and_it_says_so(
    ask: Ask,
) -> None:
    ledger = upload(export_of("ledger", AT))
    read = ask(AT, "--json", "--export", ledger)
    scanned = ask(AT, "--json").facts
    sums = ("at", "users", "credits", "paid", "unrecovered", "unreadable")
    assert [read.facts[name] for name in sums] == [scanned[name] for name in sums]
    assert {row["plan"] for row in read.facts["rows"]} == {None}
    assert "name an export of the table credits-dev-subscriptions: SUBSCRIPTIONS=" in read.said
    shown = ask(AT, "--export", ledger).printed
    assert "not read" in shown
    assert "none" not in shown


@pytest.mark.usefixtures("shop")
def test_damaged_lines_and_subscriptions_are_those_that_the_tables_have(ask: Ask) -> None:
    damage_entry(having("body", {"S": "{"}), "2", 2)
    damage_entry(without("body"), "1", 1)
    damage_subscription(without("status"), "3")
    ledger = upload(export_of("ledger", AT))
    subscriptions = upload(export_of("subscriptions", AT), "subscriptions/AWSDynamoDB/1-a")
    words = ("--export", f"{ledger}/manifest-summary.json", "--subscriptions", f"{subscriptions}//")
    read = ask(AT, "--json", *words)
    scanned = ask(AT, "--json")
    assert read.facts == scanned.facts
    assert read.facts["unreadable"] == ["1", "2"]
    assert (read.status, scanned.status) == (1, 1)
    assert "2 ledgers cannot be read and are not counted, such as those of 1, 2;" in read.said


@pytest.mark.usefixtures("shop")
def test_an_export_that_says_nothing_of_its_kind_is_a_full_one_and_files_may_be_empty(
    ask: Ask, tmp_path: Path
) -> None:
    files = export_of("ledger", AT)
    summary = json.loads(files["manifest-summary.json"])
    del summary["exportType"]
    empty = f"data/{'e' * 26}.json.gz"
    files |= {
        "manifest-summary.json": json.dumps(summary).encode(),
        "manifest-files.json": files["manifest-files.json"]
        + b"\n"
        + line_of(empty, b"", 0).encode(),
        empty: b"",
    }
    read = ask(AT, "--json", "--export", write(files, tmp_path / "e"))
    assert read.facts["credits"] == ask(AT, "--json").facts["credits"]


# --- What it reads --------------------------------------------------------------------------------


@pytest.mark.usefixtures("shop")
def test_nothing_is_called_but_get_object_of_what_the_export_has(
    ask: Ask, calls: list[tuple[str, str, Any]]
) -> None:
    files = export_of("ledger", "2026-02-20T01:02:03.004Z")
    ledger = upload(files)
    calls.clear()
    read = ask(AT, "--export", ledger)
    assert read.status == 0
    assert {(service, operation) for service, operation, _ in calls} == {("s3", "GetObject")}
    assert {parameters["Bucket"] for _, _, parameters in calls} == {BUCKET}
    keys = [parameters["Key"] for _, _, parameters in calls]
    assert sorted(keys) == sorted(f"{PREFIX}/{name}" for name in files)
    items = len(items_of("ledger"))
    assert read.said.startswith(
        f"Reads {ledger}: {items} items, the table credits-dev-ledger at 2026-02-20T01:02:03.004Z"
        ".\n"
    )
    assert "\nReads no table: 0 read units.\n" in read.said


@pytest.mark.usefixtures("shop")
def test_a_folder_is_read_without_any_call(
    ask: Ask, calls: list[tuple[str, str, Any]], tmp_path: Path
) -> None:
    ledger = write(export_of("ledger", AT), tmp_path / "export")
    calls.clear()
    assert ask(AT, "--export", ledger).status == 0
    assert calls == []


# --- The table ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("yes", 0), ("n", 1), ("", 1)])
def test_at_a_terminal_the_table_is_read_only_after_a_yes(
    answer: str, status: int, ask: Ask, terminal: Terminal, calls: list[tuple[str, str, Any]]
) -> None:
    terminal.answer = answer
    calls.clear()
    ran = ask(AT, "--json")
    assert ran.status == status
    assert "read units" in ran.said.partition("Go on? [y/N]")[0]
    assert ("Declined: nothing was read." in ran.said) is bool(status)
    assert bool(ran.printed) is not bool(status)
    assert ("Scan" in {operation for _, operation, _ in calls}) is not bool(status)


def test_nobody_is_asked_who_said_yes_or_reads_an_export(ask: Ask, terminal: Terminal) -> None:
    ledger = upload(export_of("ledger", AT, []))
    terminal.answer = "n"
    for words in (["--yes"], ["--export", ledger]):
        ran = ask(AT, *words)
        assert ran.status == 0
        assert "Go on?" not in ran.said
    assert re.search(r"^Reading the export ━+ 0/0 ", ran.said, re.MULTILINE)


# --- What it refuses ------------------------------------------------------------------------------

LEDGER = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/credits-dev-ledger"

HOW = (
    "\nTo make one, of now: aws dynamodb export-table-to-point-in-time "
    "--export-format DYNAMODB_JSON --s3-bucket BUCKET --table-arn $(aws dynamodb describe-table "
    "--table-name credits-dev-ledger --query Table.TableArn --output text)\n"
)


def refused(ran: Ran) -> str:
    """Why a command did not count anything, and that it said nothing else."""
    assert ran.status == 1
    assert ran.printed == ""
    return ran.said.partition("error: ")[2]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"exportType": "INCREMENTAL_EXPORT"}, "is an incremental export (INCREMENTAL_EXPORT), wh"),
        ({"exportFromTime": "2026-02-19T00:00:00Z"}, "is an incremental export"),
        ({"outputFormat": "ION"}, "is in the form ION, and only DYNAMODB_JSON is read"),
        ({"exportTime": "2026-02-19T23:59:59.999Z"}, "has what was written until 2026-02-19T23:59"),
        ({"exportTime": "yesterday"}, "has a manifest-summary.json that cannot be read: exportTim"),
        ({"itemCount": -1}, "has a manifest-summary.json that cannot be read: itemCount is nega"),
        ({"itemCount": "9"}, "has a manifest-summary.json that cannot be read: itemCount is no w"),
        ({"itemCount": 99}, "has 99 items, and its files have 4"),
        ({"itemCount": 3}, "has 3 items, and its files have 4"),
        ({"tableArn": "credits-dev-ledger"}, "tableArn is no ARN of a table"),
        ({"tableArn": f"{LEDGER}/export/1-a"}, "tableArn is no ARN of a table"),
        ({"tableArn": None}, "has a manifest-summary.json that cannot be read: tableArn is no tex"),
        (
            {"tableArn": f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/credits-prod-ledger"},
            "is of the table credits-prod-ledger in account 123456789012, region eu-west-1, and s",
        ),
    ],
)
def test_an_export_that_is_not_what_is_needed_is_refused_with_the_way_to_make_one(
    changes: dict[str, Any], why: str, ask: Ask
) -> None:
    ledger = upload(export_of("ledger", AT, ITEMS, **changes))
    said = refused(ask(AT, "--export", ledger))
    assert said.startswith(f"EXPORT: {ledger} ")
    assert why in said
    assert said.endswith(HOW)


@pytest.mark.parametrize(
    ("changes", "status"),
    [({}, 0), ({"account": "210987654321"}, 1), ({"region": "eu-west-3"}, 1)],
)
def test_a_table_of_the_same_name_in_another_account_or_region_is_another(
    changes: dict[str, str],
    status: int,
    world: World,
    ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = reach.Reach("dev", world.services, {}, {}, client, ACCOUNT)
    monkeypatch.setattr(reach, "reach", lambda *_: here)
    of = {"region": REGION, "account": ACCOUNT, **changes}
    arn = f"arn:aws:dynamodb:{of['region']}:{of['account']}:table/credits-dev-ledger"
    ran = ask(AT, "--export", upload(export_of("ledger", AT, ITEMS, tableArn=arn)))
    assert ran.status == status
    if status:
        assert (
            f"is of the table credits-dev-ledger in account {of['account']}, region {of['region']},"
            " and stage dev has credits-dev-ledger in account 123456789012, region eu-west-1\n"
        ) in refused(ran)


def test_an_export_of_the_other_table_is_refused_and_named_by_its_option(ask: Ask) -> None:
    ledger = upload(export_of("ledger", AT, ITEMS))
    said = refused(ask(AT, "--export", ledger, "--subscriptions", ledger))
    assert said.startswith(f"SUBSCRIPTIONS: {ledger} is of the table credits-dev-ledger ")
    assert "--table-name credits-dev-subscriptions" in said


@pytest.mark.parametrize(
    "where", ["", "/", "s3://", "s3://exports", "s3://exports/", "s3://A/b", "https://a/b"]
)
def test_what_names_no_place_is_refused(where: str, ask: Ask) -> None:
    said = refused(ask(AT, "--export", where))
    assert said.startswith("EXPORT: must be s3://bucket/prefix/AWSDynamoDB/id or a folder; is ")


@pytest.mark.parametrize(
    "where", ["s3://exports/other", f"s3://exports/{PREFIX}/data", "s3://not-here/e", "s3://no/e"]
)
def test_a_place_without_an_export_is_refused(where: str, ask: Ask) -> None:
    upload(export_of("ledger", AT, ITEMS))
    said = refused(ask(AT, "--export", where))
    if where == "s3://no/e":
        assert said.startswith("EXPORT: must be s3://")  # no bucket's name is so short
    else:
        assert said == f"EXPORT: there is no {where}/manifest-summary.json{HOW}"


def test_a_folder_without_an_export_is_refused(ask: Ask, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        said = refused(ask(AT, "--export", str(folder)))
        assert said == f"EXPORT: {folder}/manifest-summary.json: No such file or directory{HOW}"
    (tmp_path / "manifest-summary.json").mkdir()
    assert "manifest-summary.json: Is a directory" in refused(ask(AT, "--export", str(tmp_path)))


MAY_NOT = (
    "EXPORT: S3 does not give you {}: it is not there, or you lack s3:GetObject, or kms:Decrypt "
    "for its key (An error "
)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        # S3 answers with a number where its answer has no body.
        ("AccessDenied", MAY_NOT),
        ("403", MAY_NOT),
        ("404", f"EXPORT: there is no {{}}{HOW}"),
        ("SlowDown", "An error occurred (SlowDown) when calling the GetObject operation: no"),
    ],
)
def test_an_answer_of_s3_is_told_with_the_right_that_lacks_or_passed_on(
    code: str, said: str, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = upload(export_of("ledger", AT, ITEMS))

    def refuse(*_: object, **__: object) -> Any:
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, "GetObject")

    monkeypatch.setattr(client("s3"), "get_object", refuse)
    told = refused(ask(AT, "--export", ledger))
    assert told.startswith(said.format(f"{ledger}/manifest-summary.json"))
    assert ("To make one" in told) is (code != "SlowDown")


class Breaking:
    """An object of S3 whose connection breaks after its first bytes."""

    def __init__(self, body: Any, error: Exception) -> None:
        self.body = body
        self.error = error
        self.is_begun = False

    def read(self, size: int = -1) -> bytes:
        if self.is_begun:
            raise self.error
        self.is_begun = True
        found: bytes = self.body.read(min(size, 40) if size >= 0 else 40)
        return found

    def close(self) -> None:
        self.body.close()


@pytest.mark.parametrize("file", ["manifest-summary.json", "manifest-files.json", FIRST, LAST])
@pytest.mark.parametrize(
    "error",
    [
        EndpointConnectionError(endpoint_url="https://s3"),
        ReadTimeoutError(endpoint_url="https://s3"),
        ResponseStreamingError(error="reset"),
        IncompleteReadError(actual_bytes=40, expected_bytes=400),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_connection_that_breaks_is_told_as_that_and_not_as_a_damaged_export(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, file: str, error: Exception
) -> None:
    ledger = upload(export_of("ledger", AT, ITEMS))
    get = client("s3").get_object

    def breaking(**asked: Any) -> Any:
        found = get(**asked)
        if asked["Key"].endswith(file):
            found["Body"] = Breaking(found["Body"], error)
            if not file.startswith("data/"):
                found["Body"].is_begun = True
        return found

    monkeypatch.setattr(client("s3"), "get_object", breaking)
    said = refused(ask(AT, "--export", ledger))
    assert str(error) in said
    assert "is not as DynamoDB wrote it" not in said
    assert "To make one" not in said


# --- What is not as it was written ----------------------------------------------------------------


def cut(content: bytes) -> bytes:
    return content[:-9]


def other(content: bytes) -> bytes:
    """The same lines, in another order."""
    return gzip.compress(b"".join(reversed(gzip.decompress(content).splitlines(keepends=True))))


def undeflated(content: bytes) -> bytes:
    return content[:10] + b"\xff" + content[11:]


def bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("file", [FIRST, LAST])
@pytest.mark.parametrize(
    "change",
    [cut, other, bit, undeflated, gzip.decompress, lambda content: content + b"\n", lambda _: b""],
    ids=["truncated", "in another order", "one bit", "a block", "not gzip", "longer", "emptied"],
)
@pytest.mark.parametrize("place", ["s3", "folder"])
def test_a_data_file_that_is_not_as_it_was_written_gives_no_result(
    file: str, change: Callable[[bytes], bytes], place: str, ask: Ask, tmp_path: Path
) -> None:
    files = export_of("ledger", AT, ITEMS)
    files[file] = change(files[file])
    ledger = upload(files) if place == "s3" else write(files, tmp_path / "export")
    said = refused(ask(AT, "--json", "--export", ledger))
    assert said.startswith(f"EXPORT: {ledger}/{file} is not as DynamoDB wrote it (")
    assert "; nothing is counted\nTo make one" in said
    assert "(line 0" not in said


@pytest.mark.parametrize("file", [FIRST, LAST])
def test_a_data_file_that_is_missing_gives_no_result(file: str, ask: Ask, tmp_path: Path) -> None:
    files = export_of("ledger", AT, ITEMS)
    del files[file]
    ledger = upload(files)
    assert refused(ask(AT, "--export", ledger)) == f"EXPORT: there is no {ledger}/{file}{HOW}"
    folder = write(files, tmp_path / "export")
    said = refused(ask(AT, "--export", folder))
    assert said == f"EXPORT: {folder}/{file}: No such file or directory{HOW}"


@pytest.mark.parametrize(
    ("lines", "count", "why"),
    [
        (b'{"Item": {"user_id": {"S": "1"}}}\n', 1, "line 1: entry is missing"),
        (b'{"Item": {"user_id": {"N": "1"}}}\n', 1, "line 1: user_id is not of type S"),
        (b'{"Item": {"user_id": "1"}}\n', 1, "line 1: user_id is malformed"),
        (b'{"Keys": {}}\n', 1, "line 1: Item is missing"),
        (b'{"Item": []}\n', 1, "line 1: Item is no object"),
        (b"[]\n", 1, "line 1: is no object"),
        (b"{\n", 1, "line 1: it is no JSON"),
        (b"[" * 100_000, 1, "line 1: it is no JSON"),
        (b'{"Item": {"user_id": {"S": "1"}, "entry": {"S": "x"}}}\n\n', 2, "line 2: it is no JSON"),
        (b'{"Item": {"user_id": {"S": "1"}, "entry": {"S": "x"}}}\n', 2, "it has 1 items, not 2"),
        (
            b'{"Item": {"user_id": {"S": "1"}, "entry": {"S": "x"}}}\n' * 2,
            1,
            "it has 2 items, not 1",
        ),
    ],
)
def test_a_line_that_is_no_item_gives_no_result(
    lines: bytes, count: int, why: str, ask: Ask, tmp_path: Path
) -> None:
    content = gzip.compress(lines)
    files = export_of("ledger", AT, [], itemCount=count)
    files |= {FIRST: content, "manifest-files.json": line_of(FIRST, content, count).encode()}
    said = refused(ask(AT, "--export", write(files, tmp_path / "export")))
    assert f"/{FIRST} is not as DynamoDB wrote it ({why}); nothing is counted\n" in said


def lose_a_line(listed: bytes) -> bytes:
    return listed.split(b"\n", 1)[1]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lose_a_line, "manifest-files.json is not whole, or of another export"),
        (lambda listed: listed[:-20], "has a manifest-files.json that cannot be read: it is no JS"),
        (lambda listed: listed + listed, "cannot be read: names a file twice"),
        (
            lambda listed: listed + listed.replace(b'"itemCount": ', b'"itemCount": 1'),
            "cannot be read: names a file twice",
        ),
        (lambda listed: listed.replace(b"md5Checksum", b"md5"), "read: md5Checksum is missing"),
        (lambda listed: listed.replace(b"/data/", b"/../"), "dataFileS3Key is no data/<name>.json"),
        (lambda listed: listed.replace(b"/data/", b"/metadata/"), "S3Key is no data/<name>.json"),
        (lambda listed: listed.replace(b"/data/", b"/data/../"), "S3Key is no data/<name>.json.gz"),
        (lambda listed: listed.replace(b".json.gz", b".ion.gz"), "dataFileS3Key is no data/<name"),
        (lambda listed: b"[]\n" + listed, "manifest-files.json that cannot be read: is no object"),
    ],
)
def test_a_list_of_files_that_is_not_whole_gives_no_result(
    change: Callable[[bytes], bytes], why: str, ask: Ask, tmp_path: Path
) -> None:
    files: Files = export_of("ledger", AT, ITEMS)
    files["manifest-files.json"] = change(files["manifest-files.json"])
    folder = write(files, tmp_path / "export")
    said = refused(ask(AT, "--export", folder))
    assert said.startswith(f"EXPORT: {folder} ")
    assert why in said


class Kept:
    """An export in memory, and all that was opened of it; ``broken``: what the disk lost."""

    def __init__(self, files: Files, broken: str = "") -> None:
        self.files = files
        self.broken = broken
        self.bodies: list[io.BytesIO] = []

    def open(self, name: str) -> io.BytesIO:
        body = (Broken if name == self.broken else io.BytesIO)(self.files[name])
        self.bodies.append(body)
        return body

    def __str__(self) -> str:
        return "here"


class Broken(io.BytesIO):
    """A file that opens, and cannot be read."""

    def read(self, _size: int | None = -1, /) -> bytes:
        raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("", None),
        ("manifest-files.json", "here/manifest-files.json: Input/output error"),
        (
            LAST,
            rf"here/{LAST} is not as DynamoDB wrote it \(.*Input/output error\); nothing is co.*",
        ),
    ],
)
def test_every_file_of_an_export_is_closed_also_if_it_cannot_be_read(
    broken: str, said: str | None
) -> None:
    place = Kept(export_of("ledger", AT, ITEMS), broken)
    if said:
        with pytest.raises(ExportError, match=f"^{said}$"):
            list(find(place).read("user_id"))
    else:
        assert len(list(find(place).read("user_id"))) == len(ITEMS)
    assert [body.closed for body in place.bodies] == [True] * len(place.bodies)
