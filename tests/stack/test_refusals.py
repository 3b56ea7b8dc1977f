"""Each function's role, tried: all that the template does not allow it is refused by IAM.

`test_template.py` says what each role allows. This asks the emulator, which enforces it, for
everything else that Credits does anywhere, so that a right too many is seen as a call that works.
"""

from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from functools import partial
from typing import Any, NamedTuple

import pytest

from infra.local.stacks import LocalStack
from tests.stack.resolved import Template
from tests.stack.test_deploy import as_role_of, refusal
from tests.stack.test_template import FUNCTIONS, QUEUES, rights

NAMES = {
    name: "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).strip(
        "-"
    )
    for name in FUNCTIONS
} | {"APIHandler": "api"}
TABLES = {
    "LedgerTable": "ledger",
    "SubscriptionsTable": "subscriptions",
    "EditsTable": "edits",
    "MailsTable": "mails",
    "StripeTable": "stripe",
}
KEYS = {
    "LedgerTable": {"user_id": {"S": "refused"}, "entry": {"S": "entry#000000000001"}},
    "SubscriptionsTable": {"user_id": {"S": "refused"}},
    "EditsTable": {"user_id": {"S": "refused"}, "edit": {"S": "000000000001#0"}},
    "MailsTable": {"id": {"S": "refused"}},
    "StripeTable": {"about": {"S": "customer#refused"}, "part": {"S": "-"}},
}

SECRETS = {"UnsubscribeSecret": "unsubscribe-links", "StripeSecret": "stripe-webhook"}


class Deed(NamedTuple):
    """Something that a role may or may not do: a right, and the call that needs it."""

    action: str
    resource: str
    service: str
    call: Callable[[Any], Callable[[], object]]


def insertion(resource: str, stack: LocalStack) -> dict[str, Any]:
    names = ", ".join(f"'{name}': ?" for name in KEYS[resource])
    return {
        "Statement": f'INSERT INTO "{stack.tables[TABLES[resource]]}" VALUE {{{names}}}',
        "Parameters": list(KEYS[resource].values()),
    }


def deeds(stack: LocalStack) -> Iterator[Deed]:
    for resource, table in TABLES.items():
        of_table = {"TableName": stack.tables[table]}
        key = of_table | {"Key": KEYS[resource]}
        for action, method, arguments in (
            ("GetItem", "get_item", key),
            ("PutItem", "put_item", of_table | {"Item": KEYS[resource]}),
            ("UpdateItem", "update_item", key),
            ("DeleteItem", "delete_item", key),
            ("Scan", "scan", of_table | {"Limit": 1}),
            (
                "PartiQLInsert",
                "batch_execute_statement",
                {"Statements": [insertion(resource, stack)]},
            ),
        ):
            yield Deed(
                f"dynamodb:{action}",
                resource,
                "dynamodb",
                lambda client, method=method, arguments=arguments: partial(  # type: ignore[misc]
                    getattr(client, method), **arguments
                ),
            )
    for resource in QUEUES:
        url = stack.queues[resource.removesuffix("Queue").lower()]
        for action, method, more in (
            ("SendMessage", "send_message", {"MessageBody": "refused"}),
            ("ReceiveMessage", "receive_message", {}),
            ("PurgeQueue", "purge_queue", {}),
        ):
            yield Deed(
                f"sqs:{action}",
                resource,
                "sqs",
                lambda client, method=method, more=more, url=url: partial(  # type: ignore[misc]
                    getattr(client, method), QueueUrl=url, **more
                ),
            )
    for resource, secret in SECRETS.items():
        yield Deed(
            "secretsmanager:GetSecretValue",
            f"{resource}.Id",
            "secretsmanager",
            lambda client, secret=secret: partial(  # type: ignore[misc]
                client.get_secret_value, SecretId=f"credits-{stack.stage}-{secret}"
            ),
        )


@pytest.mark.parametrize("function", sorted(FUNCTIONS))
def test_a_function_is_refused_whatever_it_does_not_need(
    stack: LocalStack, template: Template, function: str
) -> None:
    allowed = rights(template, function)
    clients: dict[str, Any] = {}
    refused = 0
    for deed in deeds(stack):
        if any(fnmatch(deed.action, a) and deed.resource == r for a, r in allowed):
            continue
        if deed.service not in clients:
            clients[deed.service] = as_role_of(stack, NAMES[function], deed.service)
        code = refusal(deed.call(clients[deed.service]))
        assert code.startswith("AccessDenied"), f"{deed.action} on {deed.resource}: {code}"
        refused += 1
    assert refused >= len(TABLES) + len(QUEUES)


@pytest.mark.parametrize(
    "deed",
    [
        'SET "version" = 2 SET "allocation_amount" = 1000000000',
        'SET "version" = 2 SET "email" = \'thief@example.com\'',
        'SET "version" = 2 REMOVE "email"',
        'REMOVE "suppressed" SET "eligible_from" = 0',
    ],
)
def test_the_function_that_marks_bounces_rewrites_neither_an_amount_nor_an_address(
    stack: LocalStack, deed: str
) -> None:
    """Nor learns by a condition, or by what an update answers, what it may not touch."""
    client = as_role_of(stack, "mail-events", "dynamodb")
    table = stack.tables["subscriptions"]

    def update(deed: str, where: str = "", end: str = "") -> str:
        statement = f"""UPDATE "{table}" {deed} WHERE "user_id" = 'nobody'{where}{end}"""
        return refusal(partial(client.execute_statement, Statement=statement))

    def transact(deed: str) -> str:
        statement = f"""UPDATE "{table}" {deed} WHERE "user_id" = 'nobody'"""
        asked = [{"Statement": statement}]
        return refusal(partial(client.execute_transaction, TransactStatements=asked))

    for refused in (
        update(deed),
        transact(deed),
        update('SET "version" = 2', """ AND "email" = 'user@example.com'"""),
        update('SET "version" = 2', end=" RETURNING ALL OLD *"),
    ):
        assert refused.startswith("AccessDenied")
    mark = """SET "version" = 2 SET "suppressed" = 'bounce'"""
    assert update(mark, ' AND "version" = 1') == "ConditionalCheckFailedException"
    assert transact(mark) == "TransactionCanceledException"
