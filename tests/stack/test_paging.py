"""Paging through a long history while it grows."""

from datetime import datetime

from chalicelib.domain import ledger
from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.ledger import Account, Request
from chalicelib.queues import chunks
from chalicelib.store.ledger_items import item_of
from infra.local.services import services_of_local
from infra.local.stacks import LocalStack
from tests.stack.api import Api

ENTRIES = 2_000
NEW_ENTRIES = 20
PAGES_BETWEEN = 2


def step(account: Account, now: datetime) -> LedgerEntry:
    """The next entry of a ledger of one grant and very many small usages."""
    request = Request(f"step#{account.next_number}", "test", "Step")
    if account.last is None:
        return ledger.grant(account, 1_000_000, request, now, "UTC", None)
    return ledger.use(account, 1, request, now)


def write_ledger(stack: LocalStack, user_id: str, length: int, now: datetime) -> None:
    """Writes a ledger faster than it could have come about: many entries at once."""
    account, items = Account(user_id), []
    for _ in range(length):
        entry = step(account, now)
        items.append(item_of(entry, account.last_hash))
        account = Account(user_id, entry, items[-1]["hash"]["S"])
    dynamodb, table = stack.client("dynamodb"), stack.tables["ledger"]
    for chunk in chunks(items, 25):
        puts = [{"PutRequest": {"Item": item}} for item in chunk]
        assert not dynamodb.batch_write_item(RequestItems={table: puts})["UnprocessedItems"]


def test_through_2000_entries_while_new_ones_are_added_none_comes_twice_and_none_is_missed(
    stack: LocalStack,
) -> None:
    api = Api(stack)
    api.subscribe("pager")
    services = services_of_local(stack)
    now = services.now()
    wanted = ENTRIES
    write_ledger(stack, "pager", ENTRIES, now)

    def decide(account: Account) -> LedgerEntry | None:
        return step(account, now) if account.next_number <= wanted else None

    token = api.as_user("pager")
    seen: list[str] = []
    cursor: str | None = None
    while True:
        query = "limit=100" + (f"&cursor={cursor}" if cursor else "")
        page = api.send("GET", f"/api/credits/history?{query}", token, is_checked=False).json
        seen += [item["transaction_id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        if len(seen) % (100 * PAGES_BETWEEN) == 0:
            wanted += NEW_ENTRIES
            services.ledger.post("pager", decide)
    assert seen == [f"pager-{number}" for number in range(ENTRIES, 0, -1)]
    assert wanted > ENTRIES + 100
    newest = api.send("GET", "/api/credits/history?limit=1", token).json["items"][0]
    assert newest["transaction_id"] == f"pager-{wanted}"
    services.ledger.verify("pager")
