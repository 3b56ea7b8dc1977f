"""Paging through a long history while it grows."""

from chalicelib.domain import ledger
from chalicelib.domain.ledger import Account, LedgerEntry, Request
from infra.local import LocalStack
from infra.stacks import services_of_local
from tests.stack.api import Api

ENTRIES = 5_000
NEW_ENTRIES_A_PAGE = 3


def test_through_5000_entries_while_new_ones_are_added_none_comes_twice_and_none_is_missed(
    stack: LocalStack,
) -> None:
    api = Api(stack)
    api.subscribe("pager")
    services = services_of_local(stack)
    now = services.now()
    wanted = ENTRIES

    def decide(account: Account) -> LedgerEntry | None:
        if account.last is None:
            return ledger.grant(account, 1_000_000, Request("g", "test", "Stock"), now, "UTC", None)
        if account.last.number == wanted:
            return None
        return ledger.use(account, 1, Request(f"u{account.last.number}", "test", "Step"), now)

    services.ledger.post("pager", decide)
    token = api.as_user("pager")
    seen: list[str] = []
    cursor: str | None = None
    while True:
        query = "limit=100" + (f"&cursor={cursor}" if cursor else "")
        page = api.send("GET", f"/api/credits/history?{query}", token).json
        seen += [item["transaction_id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        wanted += NEW_ENTRIES_A_PAGE
        services.ledger.post("pager", decide)
    assert seen == [f"pager-{number}" for number in range(ENTRIES, 0, -1)]
    assert wanted > ENTRIES + 100
    newest = api.send("GET", "/api/credits/history?limit=1", token).json["items"][0]
    assert newest["transaction_id"] == f"pager-{wanted}"
    services.ledger.verify("pager")
