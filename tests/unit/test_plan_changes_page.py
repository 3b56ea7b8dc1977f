"""The worked example of docs/plan-changes.md: what is shown, and who gets what when."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from chalicelib.domain import calendar
from chalicelib.domain.calendar import Period
from chalicelib.domain.due import due_allocation
from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.ledger import Account, Request, expire, use
from chalicelib.domain.plans import BillingInterval, PlanCatalogue
from chalicelib.domain.subscriptions import (
    NotAllocatedBecause,
    Subscription,
    SubscriptionStatus,
    next_allocation,
    not_allocated_because,
)
from chalicelib.plans_file import parse_catalogue
from infra.deployment.plan_changes import changes, refusals, terms_of
from infra.whatif.flows import Flows
from infra.whatif.past import Past
from infra.whatif.tally import Question, outcome

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "plan-changes.md").read_text("utf-8")
DAY = timedelta(days=1)
NOW = datetime(2026, 12, 10, 12, tzinfo=UTC)
RETIRED = "Retire a plan"
HEADINGS = [
    "Raise an amount",
    "Add a plan",
    "Begin to pay monthly subscribers",
    "Switch to anniversaries",
    RETIRED,
]
SHIPPED = (ROOT / "chalicelib" / "plans.toml").read_text("utf-8")


def edited(text: str, table: str) -> str:
    """A catalogue with this table in the place of the one of its id, or at its end."""
    (plan_id,) = re.findall(r'^id = "(.*)"$', table, re.MULTILINE)
    before, *tables = re.split(r"^(?=\[\[plans\]\]$)", text, flags=re.MULTILINE)
    others = [each.rstrip() for each in tables]
    places = [index for index, each in enumerate(others) if f'id = "{plan_id}"' in each]
    where = places[0] if places else len(others)
    others[where : where + len(places)] = [table.rstrip()]
    return "\n\n".join([before.rstrip(), *others]) + "\n"


def without(text: str, plan_id: str) -> str:
    tables = re.split(r"^(?=\[\[plans\]\]$)", text, flags=re.MULTILINE)
    return "".join(each for each in tables if f'id = "{plan_id}"' not in each)


def walk() -> list[tuple[str, str, str, str]]:
    """Each step of the page: its heading, the file before and after it, and what is shown."""
    steps: list[tuple[str, str, str, str]] = []
    deployed = SHIPPED
    for heading in HEADINGS:
        section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
        blocks = re.findall(r"^```(\w*)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        tables = [block for language, block in blocks if language == "toml"]
        shown = [block.rstrip() for language, block in blocks if not language]
        written = [edited(deployed, table) for table in tables]
        if heading == RETIRED:
            written = [without(deployed, "business")]
        assert len(written) == len(shown), heading
        steps += [(heading, deployed, *step) for step in zip(written, shown, strict=True)]
        deployed = written[-1]
    return steps


STEPS = walk()


@pytest.mark.parametrize(("before", "after", "shown"), [step[1:] for step in STEPS])
def test_a_deployment_shows_what_the_page_shows(before: str, after: str, shown: str) -> None:
    catalogue = parse_catalogue(after)
    refused = refusals(terms_of(before), catalogue, NOW)
    assert (refused or list(changes(terms_of(before), catalogue))) == [shown]


def test_the_page_shows_one_refusal_and_its_remedy() -> None:
    refused = [
        heading
        for heading, before, after, _ in STEPS
        if refusals(terms_of(before), parse_catalogue(after), NOW)
    ]
    assert refused == ["Add a plan"]


def after(heading: str) -> PlanCatalogue:
    return parse_catalogue([step[2] for step in STEPS if step[0] == heading][-1])


def subscriber(plan: str, billing: BillingInterval = BillingInterval.YEARLY) -> Subscription:
    started = datetime(2026, 3, 15, 9, tzinfo=UTC)
    return Subscription(
        user_id="ada",
        email=None,
        timezone="UTC",
        plan=plan,
        billing_interval=billing,
        status=SubscriptionStatus.ACTIVE,
        started_at=started,
        eligible_from=started,
        registered_at=started,
    )


@pytest.mark.parametrize(
    ("heading", "plan", "billing", "amount", "day"),
    [
        ("Raise an amount", "pro", BillingInterval.YEARLY, 600, 1),
        ("Add a plan", "team", BillingInterval.YEARLY, 1_000, 1),
        ("Begin to pay monthly subscribers", "starter", BillingInterval.MONTHLY, 100, 1),
        ("Begin to pay monthly subscribers", "starter", BillingInterval.YEARLY, 100, 1),
        ("Switch to anniversaries", "pro", BillingInterval.YEARLY, 600, 15),
    ],
)
def test_users_get_in_january_what_the_page_says(
    heading: str, plan: str, billing: BillingInterval, amount: int, day: int
) -> None:
    december = None if billing is BillingInterval.MONTHLY else Period.parse("2026-12")
    found = next_allocation(subscriber(plan, billing), after(heading), december, NOW)
    assert found is not None
    assert (found.amount, found.on) == (amount, date(2027, 1, day))


def test_who_is_left_on_a_removed_plan_is_said_to_be() -> None:
    left = not_allocated_because(subscriber("business"), after(RETIRED))
    assert left is NotAllocatedBecause.PLAN_UNKNOWN


def test_nobody_on_a_plan_that_is_switched_waits_for_more_than_two_months() -> None:
    days = []
    for day in range(1, 32):
        user = replace(subscriber("pro"), started_at=datetime(2026, 3, day, 9, tzinfo=UTC))
        catalogue = after("Switch to anniversaries")
        found = next_allocation(user, catalogue, Period.parse("2026-12"), NOW)
        assert found is not None
        days.append(found.on)
    assert days == [date(2027, 1, day) for day in range(1, 32)]


# --- What if? -------------------------------------------------------------------------------------

WHAT_IF = PAGE.split("\n## What if?\n")[1].split("\n## ")[0]
NAMES = ("granted", "other", "spent", "expired", "refused", "left")
USES = {"2026-01": 30, "2026-02": 90, "2026-03": 10, "2026-04": 100}
"""What Ada used, in the middle of the month."""

Shown = dict[tuple[str, str], Flows]


def tables() -> list[Shown]:
    """The tables of the section that show flows, by month and side."""
    found: list[Shown] = []
    for block in re.findall(r"^\| month \| \|.*\n\|.*\n((?:\|.*\n)+)", WHAT_IF, re.MULTILINE):
        shown: Shown = {}
        month = ""
        for line in block.splitlines():
            named, side, *figures = (cell.strip() for cell in line.strip("|").split("|"))
            month = named or month
            shown[month, side] = Flows(**dict(zip(NAMES, map(int, figures), strict=True)))
        found.append(shown)
    return found


def ada() -> Past:
    """Her ledger: everything comes a second after it was due."""
    shipped = parse_catalogue(SHIPPED)
    user = replace(subscriber("starter"), started_at=datetime(2025, 3, 15, 9, tzinfo=UTC))
    user = replace(user, timezone="Europe/London", eligible_from=user.started_at)
    user = replace(user, registered_at=user.started_at)
    account, entries, late = Account("ada"), list[LedgerEntry](), timedelta(seconds=1)

    def post(entry: LedgerEntry | None) -> None:
        nonlocal account
        if entry:
            entries.append(entry)
            account = account._replace(last=entry)

    # It begins with the year: the months before are allocated, and over.
    for month, used in {"2025-12": 0, **USES}.items():
        start = calendar.month_start("Europe/London", Period.parse(month))
        post(expire(account, start + late))
        while entry := due_allocation(shipped, account, user, start + late, start + late):
            post(entry)
        if used:
            post(use(account, used, Request("usage#shop#a", "shop", ""), start + 14 * DAY))
    return Past(entries, user)


@pytest.mark.parametrize("place", [0, 1])
def test_what_if_answers_what_the_page_shows(place: int) -> None:
    blocks = re.findall(r"^```toml\n(.*?)^```$", WHAT_IF, re.MULTILINE | re.DOTALL)
    asked = parse_catalogue(edited(SHIPPED, blocks[place]))
    question = Question(asked, parse_catalogue(SHIPPED), *map(Period.parse, (*USES,)[::3]))
    found = outcome(question, ada())
    assert found.is_reproduced
    for (month, side), flows in tables()[place].items():
        answer = found.was if side == "was" else found.would
        assert answer[[*USES].index(month)] == flows
    had, would_have = (sum(month.spent for month in its) + its[-1].left for its in found[2:4])
    assert f"She would have {would_have - had} credits more" in WHAT_IF or place
