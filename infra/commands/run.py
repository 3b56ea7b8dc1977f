"""Shows the main job on this machine: a month turns for a file of users, and its credits expire.

    python -m infra run [--csv mine.csv] [--exit]        (make run CSV=mine.csv EXIT=1)

The command starts the emulator, deploys the stack and imports the file. It moves the stack's clock
through the next turn of the month, and on to the day 30 days later when its credits expire. It
shows both, and checks what must always hold. Then it stays until Ctrl-C, so that you can look
around.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection
from pathlib import Path

from rich.console import Console

from chalicelib.plans_file import CatalogueError
from chalicelib.services import read_clock
from infra import session, terminal, ticks
from infra.deployment import packaging
from infra.imports import csv_file, importing
from infra.imports.csv_file import CheckedFile, UnreadableFileError
from infra.imports.subscriptions import SUBSCRIPTIONS
from infra.local import emulator, outbox, stacks, turn
from infra.local.console import server
from infra.local.services import services_of_local

SAMPLE = packaging.ROOT / "infra" / "sample" / "subscriptions.csv"


def story(
    stack: stacks.LocalStack,
    file: Path,
    console: Console,
    zones: Collection[str] | None = None,
) -> bool:
    """Imports, turns the month (in all zones or some), shows and checks.

    Returns whether every invariant holds. Afterwards the stack's clock is so late that the credits
    have expired in every zone. Raises `UnreadableFileError` when the file has a row that cannot be
    imported.
    """
    services = services_of_local(stack)
    checked = importing.check_with_progress(SUBSCRIPTIONS, services, csv_file.read(file), console)
    _refuse_wrong_rows(checked, console)
    imported = importing.import_with_progress(SUBSCRIPTIONS, services, checked.good, console)
    console.print(f"Imported {len(checked.good):,} subscriptions: {imported}.\n")
    if imported.failures:
        importing.show_problems(console, imported.failures)
        return False
    user_ids = [row.values["user_id"].strip() for row in checked.good]
    month = turn.Turning(stack, services, user_ids, console, zones)
    month.allocate()
    month.expire()
    return month.check()


def _refuse_wrong_rows(checked: CheckedFile, console: Console) -> None:
    if checked.problems:
        importing.show_problems(console, checked.problems)
        raise UnreadableFileError(f"{len(checked.bad)} rows are wrong; correct them and run again")


def show_how_to_call(stack: stacks.LocalStack, page_url: str, console: Console) -> None:
    """Prints the addresses of the running stack and what to try, as one of its users."""
    some = stack.client("dynamodb").scan(TableName=stack.tables["subscriptions"], Limit=1)["Items"]
    user_id = some[0]["user_id"]["S"] if some else "42"
    schedule = f"{stack.api_url}/api/credits/allocation-schedule"
    console.print(
        f"\n[bold]Console[/]    {page_url}  (open it in a browser)\n"
        f"[bold]API[/]        {stack.api_url}\n"
        f'[bold]Try[/]        curl -H "Authorization: Bearer $(make -s token USER_ID={user_id})" '
        f"{schedule}\n"
        f"           (for an admin's token: make -s token USER_ID=ops SCOPE=credits:admin)\n"
        f"[bold]Emails[/]     {page_url}/{outbox.PAGE}\n"
        f"[bold]AWS calls[/]  {stack.endpoint_url}  (the endpoint URL of any AWS SDK)\n",
        highlight=False,
        soft_wrap=True,
    )


def main(words: list[str] | None = None) -> int:
    """Reads the command line and runs; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m infra run",
        description="Runs the turn of a month on this machine and shows what happened.",
    )
    parser.add_argument(
        "--csv", type=Path, default=SAMPLE, help="subscriptions to import (default: the sample)"
    )
    parser.add_argument("--exit", action="store_true", help="end when done")
    arguments = parser.parse_args(words)
    console = Console()
    terminal.end_on_sigterm()
    try:
        # Mistakes in the file are reported at once, not when the stack is up.
        text = csv_file.read(arguments.csv)
        alone = SUBSCRIPTIONS.check_alone(text, importing.catalogue(), read_clock())
        _refuse_wrong_rows(alone, console)
        # This command turns the month itself: ticks by the clock would only interfere.
        with (
            server.console() as page,
            stacks.local_stack(
                say=terminal.progress(), schedules=False, publish_at=page.url, origins=page.origins
            ) as stack,
        ):
            holds = story(stack, arguments.csv, console)
            outbox.show_sent(stack, page.url, console)
            if not arguments.exit:
                show_how_to_call(stack, page.url, console)
                console.print("The stack stays up until Ctrl-C.")
                with page.showing(stack):
                    stacks.stay(stack)
                console.print("Ending ...")
            return 0 if holds else 1
    except UnreadableFileError as error:
        console.print(f"error: {arguments.csv}: {error}", markup=False)
    except (
        CatalogueError,
        stacks.AlreadyRunningError,
        stacks.NotRunningError,
        emulator.EmulatorError,
        packaging.PackagingError,
        session.AwsError,
    ) as error:
        console.print(f"error: {error}", markup=False)
    except ticks.TickFailedError as error:
        console.print(f"error: {error}", markup=False)
    except KeyboardInterrupt:
        return 130
    return 1


if __name__ == "__main__":
    sys.exit(main())
