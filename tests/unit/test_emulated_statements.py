"""PartiQL as the emulator authorizes, runs, measures and streams it, without a server."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from ministack.core import iam_actions, iam_evaluator
from ministack.services import dynamodb

from infra.local import emulated_statements

Json = dict[str, Any]

REPLACED = {
    iam_actions: ("dynamodb_transaction_checks",),
    iam_evaluator: ("enforce",),
    dynamodb: (
        "_partiql_insert",
        "_execute_statement",
        "_batch_execute_statement",
        "_execute_transaction",
    ),
}
LEDGER, OTHER = "ledger", "other"
TABLES = "arn:aws:dynamodb:eu-west-1:123456789012:table"
UNITS = {"ReturnConsumedCapacity": "TOTAL"}


@pytest.fixture(autouse=True)
def _strict(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module, names in REPLACED.items():
        for name in names:
            monkeypatch.setattr(module, name, getattr(module, name))
    emulated_statements.make_strict()
    for table in (LEDGER, OTHER):
        create(table)
    yield
    for table in (LEDGER, OTHER):
        dynamodb._delete_table({"TableName": table})


def create(table: str) -> None:
    """A table with an index and a stream."""
    keys = [("id", "part"), ("zone", "due")]
    schemas = [
        [
            {"AttributeName": name, "KeyType": kind}
            for name, kind in zip(names, ("HASH", "RANGE"), strict=True)
        ]
        for names in keys
    ]
    index = {
        "IndexName": "due",
        "KeySchema": schemas[1],
        "Projection": {"ProjectionType": "KEYS_ONLY"},
    }
    status, _, body = dynamodb._create_table(
        {
            "TableName": table,
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [
                {"AttributeName": name, "AttributeType": "S"} for pair in keys for name in pair
            ],
            "KeySchema": schemas[0],
            "GlobalSecondaryIndexes": [index],
            "StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        }
    )
    assert status == 200, body


def statement(words: str, *values: str) -> Json:
    return {"Statement": words, "Parameters": [{"S": value} for value in values]}


def insertion(identity: str, table: str = LEDGER, **more: str) -> Json:
    item = {"id": identity, "part": "1", **more}
    names = ", ".join(f"'{name}': ?" for name in item)
    return statement(f'INSERT INTO "{table}" VALUE {{{names}}}', *item.values())


def change(identity: str, words: str = "SET text = 'neu'", of: str = "") -> Json:
    found = f"WHERE id = ? AND part = ? {of}"
    return statement(f'UPDATE "{LEDGER}" {words} {found}', identity, "1")


def deletion(identity: str) -> Json:
    found = "WHERE id = ? AND part = ?"
    return statement(f'DELETE FROM "{LEDGER}" {found}', identity, "1")  # noqa: S608 - of this file


def run(operation: str, asked: Json) -> tuple[int, Json, Json]:
    status, headers, body = getattr(dynamodb, f"_{operation}")(asked)
    return status, headers, json.loads(body)


def transaction(*statements: Json, **more: Any) -> tuple[int, Json, Json]:
    return run("execute_transaction", {"TransactStatements": list(statements), **more})


def items(table: str = LEDGER) -> dict[str, Json]:
    return {
        item["id"]["S"]: item
        for parts in dynamodb._tables[table]["items"].values()
        for item in parts.values()
    }


def test_each_statement_needs_the_right_to_its_verb_on_its_table_or_index() -> None:
    asked = [
        insertion("a", text="ü"),
        change("a", "SET text = 'x', data.deep = 'y' REMOVE old"),
        change("a", "SET n = m + 1 SET o = 'x'", "RETURNING ALL NEW *"),
        change("a", "SET o = 'x'", "RETURNING MODIFIED OLD *"),
        deletion("a"),
        statement(f'SELECT * FROM "{OTHER}"."due" WHERE zone = ?', "z"),  # noqa: S608 - of this file
    ]

    def checks(action: str, document: object) -> list[tuple[str, str]]:
        body = json.dumps(document).encode()
        found: list[tuple[str, str]] = iam_actions.dynamodb_transaction_checks(
            f"dynamodb:{action}", body, "eu-west-1", "123456789012"
        )
        return found

    rights = [("Insert", ""), ("Update", ""), ("Update", ""), ("Update", ""), ("Delete", "")]
    expected = [(f"dynamodb:PartiQL{verb}", f"{TABLES}/{LEDGER}{of}") for verb, of in rights]
    expected.append(("dynamodb:PartiQLSelect", f"{TABLES}/{OTHER}/index/due"))
    found = checks("BatchExecuteStatement", {"Statements": asked})
    assert found == checks("ExecuteTransaction", {"TransactStatements": asked}) == expected
    assert checks("ExecuteStatement", asked[-1]) == expected[-1:]
    assert [getattr(resource, "conditions", None) for _, resource in found] == [
        {"dynamodb:Attributes": ["id", "part", "text"]},
        {
            "dynamodb:Attributes": ["data", "id", "old", "part", "text"],
            "dynamodb:ReturnValues": "NONE",
        },
        {
            "dynamodb:Attributes": ["id", "m", "n", "o", "part"],
            "dynamodb:ReturnValues": "ALL_NEW",
        },
        {"dynamodb:Attributes": ["id", "o", "part"], "dynamodb:ReturnValues": "UPDATED_OLD"},
        {},
        {},
    ]
    # ministack refuses those that it does not understand, and knows the other operations.
    for document in (statement("HELLO"), {"Statements": "x"}, {}):
        assert checks("ExecuteStatement", document) == []
    put = {"TransactItems": [{"Put": {"TableName": OTHER, "Item": {}}}]}
    assert checks("TransactWriteItems", put) == [("dynamodb:PutItem", f"{TABLES}/{OTHER}")]


def test_conditions_of_rights_see_the_statement_beside_the_request() -> None:
    seen: list[Any] = []

    def known(*asked: Any, **more: Any) -> str:
        seen.append((asked, more))
        return "decided"

    enforce = emulated_statements._seeing_each(known)
    one = emulated_statements._Asked("arn", {"dynamodb:Attributes": ["id"]})
    assert enforce("key", resource_arn=one, service_context={"a": 1, "dynamodb:Attributes": []})
    assert enforce("key", resource_arn=one) == "decided"
    assert enforce("key", resource_arn="other", service_context={"a": 1}) == "decided"
    assert enforce("key") == "decided"
    attributes = {"dynamodb:Attributes": ["id"]}
    assert seen == [
        (("key",), {"resource_arn": "arn", "service_context": {"a": 1, **attributes}}),
        (("key",), {"resource_arn": "arn", "service_context": attributes}),
        (("key",), {"resource_arn": "other", "service_context": {"a": 1}}),
        (("key",), {"resource_arn": "*"}),
    ]


def test_an_item_that_is_there_is_a_duplicate_and_stays_what_it_was() -> None:
    assert run("execute_statement", insertion("a", text="erst"))[::2] == (200, {"Items": []})
    second = insertion("a", text="zweit")
    status, headers, said = run("execute_statement", second)
    assert (status, headers["x-amzn-errortype"]) == (400, "DuplicateItemException")
    assert said["message"] == "Duplicate primary key exists in table"
    _, _, batch = run("batch_execute_statement", {"Statements": [second, insertion("b")]})
    codes = [each.get("Error", {}).get("Code") for each in batch["Responses"]]
    assert codes == ["DuplicateItem", None]
    for statements, reasons in (
        ([insertion("c"), second], ["None", "DuplicateItem"]),
        ([second, insertion("c")], ["DuplicateItem", "None"]),
        ([change("nobody"), insertion("b")], ["ConditionalCheckFailed", "DuplicateItem"]),
        ([insertion("c"), change("a", of="AND text = 'x'")], ["None", "ConditionalCheckFailed"]),
    ):
        status, headers, said = transaction(*statements)
        assert (status, headers["x-amzn-errortype"]) == (400, "TransactionCanceledException")
        assert [each["Code"] for each in said["CancellationReasons"]] == reasons
    assert {name: item.get("text") for name, item in items().items()} == {
        "a": {"S": "erst"},
        "b": None,
    }


def test_a_whole_document_is_inserted_as_its_attributes() -> None:
    document = {"M": {"id": {"S": "a"}, "part": {"S": "1"}, "text": {"S": "Zoë"}}}
    asked = {"Statement": f'INSERT INTO "{LEDGER}" VALUE ?', "Parameters": [document]}
    assert run("execute_statement", asked)[0] == 200
    assert items() == {"a": document["M"]}


def test_what_an_index_cannot_take_is_not_inserted() -> None:
    empty = insertion("a", zone="", due="2026-01-01")
    for status, _, said in (run("execute_statement", empty), transaction(empty)):
        assert (status, said["__type"]) == (400, "ValidationException")
    assert items() == {}


def test_a_transaction_of_inserts_and_updates_is_done_whole_and_once() -> None:
    for identity in ("a", "b"):
        run("execute_statement", insertion(identity, text="alt", old="x", more="y"))
    asked = (
        insertion("ü", OTHER),
        change("a", 'SET "text" = \'neu\', "zone" = \'z\' REMOVE "old" REMOVE "more"'),
        insertion("c"),
    )
    for _ in range(2):
        status, _, said = transaction(*asked, ClientRequestToken="token")
        assert (status, said["Responses"]) == (200, [])
    status, _, said = transaction(insertion("d"), ClientRequestToken="token")
    assert said["__type"] == "IdempotentParameterMismatchException"
    keys = {"part": {"S": "1"}}
    assert [*items(OTHER)] == ["ü"]
    assert items() == {
        "a": {"id": {"S": "a"}, **keys, "text": {"S": "neu"}, "zone": {"S": "z"}},
        "b": {
            "id": {"S": "b"},
            **keys,
            "text": {"S": "alt"},
            "old": {"S": "x"},
            "more": {"S": "y"},
        },
        "c": {"id": {"S": "c"}, **keys},
    }


@pytest.mark.parametrize(
    ("words", "is_ours"),
    [
        ("SET text = 'x' WHERE id = 'a' AND part = '1'", True),
        ("SET text = 'x' WHERE id = 'a' AND part = '1' AND n = 'x'", True),
        ("SET n = m + 1 WHERE id = 'a' AND part = '1'", False),
        ("SET data.deep = 'x' WHERE id = 'a' AND part = '1'", False),
        ("SET text = 'x' REMOVE data.deep WHERE id = 'a' AND part = '1'", False),
        ("REMOVE text WHERE id = 'a' AND part = '1'", False),
        ("SET text = 'x' WHERE id = 'a'", False),
        ("SET text = 'x' WHERE id = 'a' AND part = '1' AND n > 'x'", False),
        ("SET text = 'x' WHERE id = 'a' AND part = '1' AND n = m", False),
        ("SET text = 'x' WHERE id = 'a' AND part = '1' AND (n = 'x' OR n = 'y')", False),
        ("SET text = 'x' WHERE id = 'a' AND part = '1' AND data.deep = 'x'", False),
        ("SET text = 'x' WHERE id = 'a' AND part = '1' AND NOT n = 'x'", False),
        ("SET text = 'x' WHERE id = 'a' AND part = '1' AND attribute_exists(n)", False),
    ],
)
def test_only_plain_updates_of_one_item_are_taken_out_of_the_emulators_hands(
    words: str, *, is_ours: bool
) -> None:
    taken: list[Json] = []

    def known(asked: Json) -> tuple[int, Json, bytes]:
        taken.append(asked)
        return 200, {}, b"{}"

    execute = emulated_statements._inserting(known)
    asked = {"TransactStatements": [insertion("b"), statement(f'UPDATE "{LEDGER}" {words}')]}
    assert execute(asked)[0] == (400 if is_ours else 200)
    assert taken == ([] if is_ours else [asked])


def test_an_insert_costs_a_unit_for_each_kilobyte_begun_and_each_index() -> None:
    """In a transaction twice that; what an index costs follows by itself, at the usual price."""
    for name, more, units, twice in (
        ("small", {}, 1, 2),
        ("long", {"text": "x" * 2500}, 3, 6),
        ("indexed", {"zone": "Europe/Paris", "due": "2026-01-01"}, 2, 3),
    ):
        _, _, alone = run("execute_statement", insertion(f"1 {name}", **more) | UNITS)
        assert alone["ConsumedCapacity"]["CapacityUnits"] == units, name
        _, _, batch = run(
            "batch_execute_statement",
            {"Statements": [insertion(f"2 {name}", **more), insertion(name, OTHER)], **UNITS},
        )
        found = {each["TableName"]: each["CapacityUnits"] for each in batch["ConsumedCapacity"]}
        assert found == {LEDGER: units, OTHER: 1}, name
        _, _, whole = transaction(insertion(f"3 {name}", **more), **UNITS)
        assert [each["CapacityUnits"] for each in whole["ConsumedCapacity"]] == [twice], name
    assert "ConsumedCapacity" not in run("execute_statement", insertion("unasked"))[2]


def test_all_that_partiql_changes_is_streamed_once_in_order_and_what_it_was() -> None:
    before = len(records())
    run("execute_statement", insertion("a"))
    run("batch_execute_statement", {"Statements": [insertion("b"), insertion("a")]})
    transaction(insertion("c"), insertion("d"))
    run("execute_statement", change("a"))
    run("batch_execute_statement", {"Statements": [change("b")]})
    run("execute_statement", change("b"))  # and changes nothing
    transaction(change("c"), deletion("d"))
    transaction(deletion("a"), change("nobody"))
    run("execute_statement", change("a"))
    run("execute_statement", deletion("a"))
    said = [
        (each["eventName"], each["dynamodb"]["Keys"]["id"]["S"], _texts(each))
        for each in records()[before:]
    ]
    assert said == [
        *(("INSERT", identity, (None, None)) for identity in "abcd"),
        *(("MODIFY", identity, (None, "neu")) for identity in "abc"),
        ("REMOVE", "d", (None, None)),
        ("REMOVE", "a", ("neu", None)),
    ]


def records() -> list[Json]:
    """What the stream of the table says."""
    return [
        record
        for name, found in dynamodb._stream_records.items()
        for record in found
        if LEDGER in str(name)
    ]


def _texts(record: Json) -> tuple[str | None, str | None]:
    images = (record["dynamodb"].get(image, {}) for image in ("OldImage", "NewImage"))
    old, new = (image.get("text", {}).get("S") for image in images)
    return old, new
