"""Lists the events of Stripe that could not be done yet, and why.

python -m infra stripe [--stage prod] [--json]
(make stripe STAGE=prod)

Stripe sends each of them again, for three days; after that a person must (docs/stripe.md).
"""

from __future__ import annotations

import argparse
import json
import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from chalicelib.domain.errors import Unreadable
from chalicelib.domain.instants import format_instant
from chalicelib.store.stripe import Wait
from infra import reach, session
from infra.arguments import add_stage
from infra.faults import FAULTS
from infra.local import stacks

NEXT = (
    "Mend what each says, then wait: Stripe sends it again within hours. Or resend the event in "
    "Stripe's dashboard, or with `stripe events resend evt_...`."
)


def main(words: list[str] | None = None) -> int:
    """Reads the command line and the table; the exit status is 1 if anything waits."""
    parser = argparse.ArgumentParser(
        prog="python -m infra stripe",
        description="Lists Stripe events that could not be done yet, and why.",
    )
    add_stage(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args(words)
    try:
        services = reach.services_of(arguments.stage, arguments.region)
        if not services.settings.stripe_table:
            raise session.AwsError(f"stage {arguments.stage} has no table of Stripe's: deploy it")
        found = sorted(services.stripe.waiting(), key=lambda each: (each.since, each.object_id))
    except (Unreadable, stacks.NotRunningError, session.AwsError, *FAULTS) as error:
        print(f"error: {session.words(error)}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps([_described(each) for each in found], indent=2))
    elif found:
        _show(found)
    else:
        print("Nothing waits: all Stripe events are done.")
    return 1 if found else 0


def _show(found: list[Wait]) -> None:
    table = Table(title=f"Waiting ({len(found):,})", title_justify="left")
    table.add_column("object", no_wrap=True)
    table.add_column("event", overflow="fold")
    table.add_column("why", overflow="fold", ratio=1)
    table.add_column("since", no_wrap=True)
    for each in found:
        since = format_instant(each.since.replace(microsecond=0))
        table.add_row(*map(Text, (each.object_id, each.event_type, each.why)), since)
    console = Console()
    console.print(table)
    console.print(NEXT, markup=False, highlight=False, soft_wrap=True)


def _described(wait: Wait) -> dict[str, str]:
    return {
        "object": wait.object_id,
        "event": wait.event_type,
        "why": wait.why,
        "since": format_instant(wait.since),
        "latest": format_instant(wait.latest),
    }


if __name__ == "__main__":
    sys.exit(main())
