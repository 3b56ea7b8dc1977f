"""Says what would have become of everybody's credits under other plans; reads only.

python -m infra whatif --plans new-plans.toml --from 2026-01 --to 2026-12 [--users sample|all]
    [--stage prod] [--yes] [--json]
(make whatif PLANS=new-plans.toml FROM=2026-01 TO=2026-12 USERS=sample)

It replays what users asked for in those months under the plans of that file (infra/whatif), and
prints what was granted, spent, expired, refused and left, beside what was. It writes a page with
the same and pictures of it. Each user is also replayed under today's plans: that must be their
ledger, and the command says for how many it is.

What was read is added up in build/what-if as it goes. A run that was interrupted goes on there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import secrets
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from chalicelib.domain import calendar
from chalicelib.domain.calendar import Period
from chalicelib.domain.entries import EntryType
from chalicelib.domain.errors import CreditsError, InvalidInput, NotFound
from chalicelib.domain.plans import PlanCatalogue
from chalicelib.jobs import audits
from chalicelib.plans_file import CatalogueError, parse_catalogue
from chalicelib.services import Services
from chalicelib.store.edits import read_edit
from chalicelib.store.ledger_items import audited_link, read_entry
from infra import reach, session
from infra.arguments import add_stage
from infra.commands.liability import DeclinedError
from infra.deployment import packaging, stage_services
from infra.faults import FAULTS
from infra.local import stacks
from infra.terminal import is_agreed, progress_bar
from infra.whatif import page
from infra.whatif.past import Past
from infra.whatif.tally import Line, Question, Tally, by_month, by_plan, in_all, outcome

FOLDER = packaging.BUILD / "what-if"

SAMPLE = 1_000
"""How many users a sample has."""

USERS_AT_ONCE = 100
"""After so many it is written down how far the command has come."""

BYTES_A_UNIT = 4_096
LAST_ZONE = "Etc/GMT+12"
"""Where every month begins last."""

COLUMNS = ("granted", "other", "spent", "expired", "refused", "left")


def main(words: list[str] | None = None) -> int:
    """Reads the command line and the past; the exit status: 1 if it could not be asked."""
    parser = argparse.ArgumentParser(
        prog="python -m infra whatif",
        description="Replays past months under other plans, and shows the answer beside what was.",
    )
    parser.add_argument("--plans", required=True, metavar="FILE", help="the plans to ask about")
    parser.add_argument("--from", required=True, dest="first", help="the first month: 2026-01")
    parser.add_argument("--to", required=True, dest="last", help="the last month, which is over")
    parser.add_argument(
        "--users",
        choices=("sample", "all"),
        default="sample",
        help=f"{SAMPLE:,} drawn at random (the default), or all subscribers",
    )
    parser.add_argument("--yes", action="store_true", help="read the tables unasked")
    add_stage(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    arguments = parser.parse_args(words)
    try:
        plans = read_plans(arguments.plans)
        first, last = parse_months(arguments.first, arguments.last)
        stage = reach.reach(arguments.stage, arguments.region)
        question = asked(stage.services, plans, first, last)
        found = answer(stage, question, arguments.users, ask=not arguments.yes)
        picture = FOLDER / f"{stage.stage}-{first}-{last}.html"
        picture.write_text(page.page(found, question), encoding="utf-8")
    except (
        *(CatalogueError, DeclinedError, InvalidInput),
        *(stacks.NotRunningError, session.AwsError, *FAULTS),
    ) as error:
        print(f"error: {session.words(error)}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps({"from": str(first), "to": str(last), **found.as_json()}))
    else:
        show(found)
    for line in doubts(found):
        print(line, file=sys.stderr)
    print(f"The same with pictures: {picture}", file=sys.stderr)
    return 0 if found.users else 1


# --- What is asked --------------------------------------------------------------------------------


def read_plans(file: str) -> PlanCatalogue:
    """The plans of a file. Raises `CatalogueError`, and `InvalidInput` if it cannot be read."""
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InvalidInput.of("PLANS", f"cannot be read: {error}") from error
    return parse_catalogue(text, file)


def parse_months(first: str, last: str) -> tuple[Period, Period]:
    """The months that are asked about. Raises `InvalidInput`."""
    months = Period.parse(first, "FROM"), Period.parse(last, "TO")
    if months[1] < months[0]:
        raise InvalidInput.of("TO", f"must not be before FROM, {first}; is {last}")
    return months


def asked(services: Services, plans: PlanCatalogue, first: Period, last: Period) -> Question:
    """The question to a stage. Raises `InvalidInput`."""
    now = services.now()
    if calendar.month_start(LAST_ZONE, last.next()) > now:
        over = calendar.period_at(LAST_ZONE, now).previous()
        raise InvalidInput.of("TO", f"must be a month that is over everywhere: {over} or before")
    today = services.catalogue
    missing = [plan.id for plan in today.plans if plan.id not in plans]
    if missing:
        raise InvalidInput.of(
            "PLANS",
            f"has no plan {missing[0]!r}, and users were on it: keep its table, with "
            "monthly_credits = 0 if it is to bring nothing",
        )
    return Question(plans, today, first, last)


# --- The answer -----------------------------------------------------------------------------------


@dataclass
class Progress:
    """How far a run has come, in files: who is asked about, and what was added up."""

    file: Path
    users: list[str]
    done: int
    tally: Tally

    @classmethod
    def found(cls, file: Path) -> Progress | None:
        """That of a run that was interrupted."""
        try:
            users = json.loads(cls._users_of(file).read_text(encoding="utf-8"))
            kept = json.loads(file.read_text(encoding="utf-8"))
            return cls(file, users, kept["done"], Tally.from_json(kept["tally"]))
        except (FileNotFoundError, KeyError, TypeError, ValueError):
            return None  # there is none, or it is half written: it begins anew

    @classmethod
    def begun(cls, file: Path, users: list[str]) -> Progress:
        """That of a new run."""
        file.parent.mkdir(parents=True, exist_ok=True)
        cls._users_of(file).write_text(json.dumps(users), encoding="utf-8")
        new = cls(file, users, 0, Tally())
        new.keep()
        return new

    @staticmethod
    def _users_of(file: Path) -> Path:
        return file.with_suffix(".users.json")

    def keep(self) -> None:
        """Writes down how far it has come, all of it or nothing."""
        new = self.file.with_suffix(".new")
        kept = {"done": self.done, "tally": self.tally.as_json()}
        new.write_text(json.dumps(kept), encoding="utf-8")
        new.replace(self.file)

    def forget(self) -> None:
        """Removes the files of a run that has come to its end."""
        self.file.unlink()
        self._users_of(self.file).unlink()


def answer(stage: reach.Reach, question: Question, whom: str, *, ask: bool = False) -> Tally:
    """Replays the users behind a progress bar; says first what it will read.

    ``ask``: whether it may, if there is somebody at the terminal. Raises `DeclinedError`.
    """
    services = stage.services
    file = FOLDER / f"{_digest(stage, question, whom)}.json"
    run = Progress.found(file)
    if run:
        print(
            f"Goes on after {run.done:,} of {len(run.users):,} users, as {file} says; delete it "
            "to begin anew.",
            file=sys.stderr,
        )
    print(units(stage, whom, run), file=sys.stderr)
    if ask and sys.stdin.isatty() and not is_agreed(Console(stderr=True)):
        raise DeclinedError("Declined: nothing was read.")
    run = run or Progress.begun(file, [*_users(services, whom)])
    with (
        progress_bar(Console(stderr=True)) as progress,
        ThreadPoolExecutor(min(stage_services.THREADS, services.threads)) as pool,
    ):
        task = progress.add_task("Replaying users", total=len(run.users), completed=run.done)
        while users := run.users[run.done : run.done + USERS_AT_ONCE]:
            for user_id, past in zip(users, pool.map(partial(_read, services), users), strict=True):
                _replay(run.tally, question, user_id, past)
                progress.advance(task)
            run.done += len(users)
            run.keep()
    run.forget()
    return run.tally


def _digest(stage: reach.Reach, question: Question, whom: str) -> str:
    """The same for the same question to the same stage, and for no other."""
    plans = [
        [sorted(value) if isinstance(value, frozenset) else str(value) for value in astuple(plan)]
        for catalogue in (question.plans, question.as_it_was)
        for plan in catalogue.plans
    ]
    words = [stage.stage, stage.account, whom, str(question.first), str(question.last), plans]
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]


def units(stage: reach.Reach, whom: str, run: Progress | None = None) -> str:
    """About how many read units it takes, by what DynamoDB counted in the last six hours."""
    services = stage.services
    _, size = services.ledger.size()
    described = stage.client("dynamodb").describe_table(
        TableName=services.settings.subscriptions_table
    )
    table: dict[str, Any] = described["Table"]
    everybody = max(1, table["ItemCount"])
    users = min(SAMPLE, everybody) if whom == "sample" else everybody
    to_come = len(run.users) - run.done if run else users
    listing = 0 if run else -(-table["TableSizeBytes"] * users // everybody // (2 * BYTES_A_UNIT))
    each = -(-size // everybody // BYTES_A_UNIT)
    return (
        f"Reads the subscriptions, edits and ledgers of about {to_come:,} users, and nothing is "
        f"written: about {listing + to_come * (each + 2):,} read units, with ledgers of "
        f"{size // everybody:,} bytes as they are on average."
    )


def _users(services: Services, whom: str) -> Iterator[str]:
    if whom == "sample":
        return audits.users_at_random(services, SAMPLE)
    return services.subscriptions.scan(secrets.token_hex(8), audits.ITEMS_A_PAGE)


def _read(services: Services, user_id: str) -> Past | CreditsError:
    """A user's past, or why it cannot be read."""
    try:
        subscription = services.subscriptions.find(user_id)
        if subscription is None:
            return NotFound("the subscription was removed meanwhile")
        entries = [read_entry(item) for item in services.ledger.items(user_id)]
        edits = [read_edit(item) for item in services.edits.items(user_id)]
        given_back = defaultdict[int, list[int]](list)
        if any(entry.type is EntryType.REVERSAL for entry in entries):
            links = map(audited_link, services.ledger.reversals(user_id))
            for link in sorted(links, key=lambda link: (link.of, link.sequence)):
                given_back[link.of].append(link.in_all)
    except CreditsError as error:
        return error
    return Past(entries, subscription, edits, given_back)


def _replay(tally: Tally, question: Question, user_id: str, past: Past | CreditsError) -> None:
    try:
        if isinstance(past, CreditsError):
            raise past
        tally.add(question, outcome(question, past))
    except CreditsError as error:
        tally.leave_out(user_id, error)


# --- What is shown --------------------------------------------------------------------------------


def show(found: Tally) -> None:
    """The answer for people."""
    console = Console()
    _show(console, "By plan", [*by_plan(found), in_all(found)])
    _show(console, "By month", by_month(found))
    for title, users in (("gain", found.gain), ("lose", found.lose)):
        table = Table("user", "plan", "had", "would have", "more", title=f"Who would {title} most")
        for each in users:
            figures = (each.had, each.would_have, each.credits)
            table.add_row(each.user_id, each.plan, *(f"{figure:,}" for figure in figures))
        if users:
            console.print(table)


def _show(console: Console, title: str, lines: Sequence[Line]) -> None:
    table = Table("", "", title=title)
    for name in COLUMNS:
        table.add_column(name, justify="right")
    for line in lines:
        for name, what, its in ((line.name, "was", line.was), ("", "would be", line.would)):
            table.add_row(name, what, *(f"{getattr(its, column):,}" for column in COLUMNS))
    console.print(table)


def doubts(found: Tally) -> Iterator[str]:
    """How far the answer can be relied on, in sentences."""
    same = found.users - found.differing
    yield (
        f"{found.users:,} users were replayed, and {found.changed:,} would see a difference. Under "
        f"today's plans the replay is the ledger, to the credit, for {same:,} of them."
    )
    if found.differing:
        yield (
            f"Not for {found.differing:,}, such as {', '.join(found.named['differing'])}: plans "
            "were changed in that time, or a sweep did not come for what was due."
        )
    if found.unknown:
        yield (
            f"Of {found.unknown:,} the records of edits do not reach back to the first month: "
            "their subscription is taken as it was before the first record, or as it is."
        )
    if found.not_repeated:
        yield (
            f"{found.not_repeated:,} requests could not be asked again: what they name would not "
            "be there (a hold or a usage that would be refused)."
        )
    if found.left_out:
        few = "; ".join(found.named["left_out"][:3])
        yield f"{found.left_out:,} users are left out, because they cannot be read: {few}"


if __name__ == "__main__":
    sys.exit(main())
