"""What would have become of everybody's credits under other plans; only reads.

python -m infra whatif --plans new-plans.toml --from 2026-01 --to 2026-12 [--users sample|all]
    [--stage prod] [--yes] [--json]
    [--export s3://bucket/prefix/AWSDynamoDB/id --subscriptions s3://... --edits s3://...]
(make whatif PLANS=new-plans.toml FROM=2026-01 TO=2026-12 USERS=sample)

It replays the users' requests of those months under the plans of that file (infra/whatif). It
prints what was granted, spent, expired, refused and left, beside the real figures, and writes a
page with the same and pictures of it. Each user is also replayed under today's plans. That must
reproduce their ledger, and the command says for how many users it does.

Results are added up in build/what-if on the way. An interrupted run continues from there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from chalicelib.domain import calendar
from chalicelib.domain.calendar import Period
from chalicelib.domain.errors import CreditsError, InvalidInput
from chalicelib.domain.plans import PlanCatalogue
from chalicelib.plans_file import CatalogueError, parse_catalogue
from chalicelib.services import Services
from infra import reach, session
from infra.commands.reading import (
    DeclinedError,
    add_sources,
    announce,
    arguments_of,
    source_of,
)
from infra.deployment import packaging
from infra.faults import FAULTS
from infra.imports.table_export import ExportError
from infra.local import stacks
from infra.terminal import progress_bar
from infra.whatif import page, sources
from infra.whatif.past import Past
from infra.whatif.sources import Source
from infra.whatif.tally import Line, Question, Tally, by_month, by_plan, doubts, in_all, outcome

FOLDER = packaging.BUILD / "what-if"

LAST_ZONE = "Etc/GMT+12"
"""The zone where every month begins last."""

COLUMNS = ("granted", "other", "spent", "expired", "refused", "left")


def main(words: list[str] | None = None) -> int:
    """Reads the command line and the past; the exit status is 1 if the question has no answer."""
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
        help=f"{sources.SAMPLE:,} drawn at random (the default), or all subscribers",
    )
    add_sources(parser)
    arguments = arguments_of(parser, words)
    try:
        plans = read_plans(arguments.plans)
        first, last = parse_months(arguments.first, arguments.last)
        stage = reach.reach(arguments.stage, arguments.region)
        question = asked(stage.services, plans, first, last)
        is_sample = arguments.users == "sample"
        end = calendar.month_start(LAST_ZONE, last.next())
        source = source_of(stage, arguments, end, is_sample=is_sample)
        found = answer(source, question, ask=not arguments.yes)
        picture = FOLDER / f"{stage.stage}-{first}-{last}.html"
        picture.write_text(page.page(found, question), encoding="utf-8")
    except (
        *(CatalogueError, DeclinedError, ExportError, InvalidInput),
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


# --- The question ---------------------------------------------------------------------------------


def read_plans(file: str) -> PlanCatalogue:
    """The plans of a file. Raises `CatalogueError`, and `InvalidInput` if it cannot be read."""
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InvalidInput.of("PLANS", f"cannot be read: {error}") from error
    return parse_catalogue(text, file)


def parse_months(first: str, last: str) -> tuple[Period, Period]:
    """The months of the question. Raises `InvalidInput`."""
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
class Run:
    """The progress of a run, in files: the users of the question, and the sums so far."""

    file: Path
    users: list[str]
    done: int
    tally: Tally

    @classmethod
    def found(cls, file: Path) -> Run | None:
        """An interrupted run; None if there is none."""
        try:
            users = json.loads(cls._users_of(file).read_text(encoding="utf-8"))
            kept = json.loads(file.read_text(encoding="utf-8"))
            return cls(file, users, kept["done"], Tally.from_json(kept["tally"]))
        except (FileNotFoundError, KeyError, TypeError, ValueError):
            return None  # there is none, or it is half written: a new run begins

    @classmethod
    def begun(cls, file: Path, users: list[str]) -> Run:
        """A new run."""
        file.parent.mkdir(parents=True, exist_ok=True)
        cls._users_of(file).write_text(json.dumps(users), encoding="utf-8")
        new = cls(file, users, 0, Tally())
        new.keep()
        return new

    @staticmethod
    def _users_of(file: Path) -> Path:
        return file.with_suffix(".users.json")

    def keep(self) -> None:
        """Saves the progress, completely or not at all."""
        new = self.file.with_suffix(".new")
        kept = {"done": self.done, "tally": self.tally.as_json()}
        new.write_text(json.dumps(kept), encoding="utf-8")
        new.replace(self.file)

    def forget(self) -> None:
        """Removes the files of a finished run."""
        self.file.unlink()
        self._users_of(self.file).unlink()


def answer(source: Source, question: Question, *, ask: bool = False) -> Tally:
    """Replays the users of a source behind a progress bar; first says what it will read.

    ``ask``: whether to ask before reading, if there is a person at the terminal. Raises
    `DeclinedError`.
    """
    file = FOLDER / f"{_digest(source, question)}.json"
    run = Run.found(file)
    if run:
        print(
            f"Goes on after {run.done:,} of {len(run.users):,} users, as {file} says; delete it "
            "to begin anew.",
            file=sys.stderr,
        )
    announce(source.cost(len(run.users) - run.done if run else None), ask=ask)
    run = run or Run.begun(file, source.users())
    with progress_bar(Console(stderr=True)) as progress:
        task = progress.add_task("Replaying users", total=len(run.users), completed=run.done)
        while users := run.users[run.done : run.done + source.at_once]:
            for user_id, past in source.pasts(users, progress):
                _replay(run.tally, question, user_id, past)
                progress.advance(task)
            run.done += len(users)
            run.keep()
    run.forget()
    return run.tally


def _digest(source: Source, question: Question) -> str:
    """A digest of the question and its source: no other question or source has it."""
    plans = [
        [sorted(value) if isinstance(value, frozenset) else str(value) for value in astuple(plan)]
        for catalogue in (question.plans, question.as_it_was)
        for plan in catalogue.plans
    ]
    words = [str(source), str(question.first), str(question.last), plans]
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]


def _replay(tally: Tally, question: Question, user_id: str, past: Past | CreditsError) -> None:
    try:
        if isinstance(past, CreditsError):
            raise past
        tally.add(question, outcome(question, past))
    except CreditsError as error:
        tally.leave_out(user_id, error)


# --- Output ---------------------------------------------------------------------------------------


def show(found: Tally) -> None:
    """Prints the answer for people."""
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


if __name__ == "__main__":
    sys.exit(main())
