"""Turns the ledgers of a shadow into the real ones (docs/migrating.md).

    python -m infra cutover --stage prod [--nights 31]    (make cutover STAGE=prod NIGHTS=31)

It shows what it has checked, and asks. Then it changes the parameter Shadow of the stack, and
nothing else. To finish an interrupted switch, run it again; if it is done already, it says so.
"""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from chalicelib.domain.instants import format_instant, to_next_second
from infra.arguments import whole_number
from infra.deployment import shadows
from infra.deployment.stack import Stack
from infra.deployment.stack_facts import stack_name
from infra.doctor import report
from infra.doctor.finding import Finding
from infra.local import stacks
from infra.repair import command
from infra.repair.command import Repair, Summary
from infra.session import told
from infra.shadow import nights
from infra.shadow.cutover import judge_mode, judge_nights
from infra.terminal import agree, say_nothing

MOST_NIGHTS = nights.MOST_READ


def cut_over(repair: Repair, arguments: argparse.Namespace) -> Summary:
    """The command."""
    here = repair.reach
    stage, region = here.stage, here.services.settings.region
    cloudformation = here.client("cloudformation")
    stack = Stack(cloudformation, stack_name(stage), region, repair.say, say_nothing)
    with told():
        stack.wait_for_what_is_under_way()
        shadow = shadows.shadow_of(cloudformation, stage)
    if shadow not in (None, shadows.OFF, shadows.ON):
        return _done(stage, str(shadow), switched=False)
    findings = [judge_mode(stage, shadow), _judge_nights(repair, arguments.nights)]
    report.show(findings, Console(stderr=True))
    facts = {"stage": stage, "switched": False, "at": None}
    if not report.is_fine(findings):
        return Summary("Not switched. Nothing was changed.", facts, is_complete=False)
    if not repair.is_agreed(
        f"turn the ledgers of stage {stage} into those that count: from now on it sends emails, "
        "and events if it has any. This cannot be taken back"
    ):
        return Summary("It could be switched.", facts)
    at = format_instant(to_next_second(here.services.now()))
    with told():
        stack.change_parameters({shadows.PARAMETER: at}, agree)
    return _done(stage, at, switched=True)


def _judge_nights(repair: Repair, wanted: int) -> Finding:
    with told():
        found = nights.read(repair.services.reports) if wanted else []
    return judge_nights(found, repair.services.now().date(), wanted)


def _done(stage: str, at: str, *, switched: bool) -> Summary:
    text = (
        f"The ledgers of stage {stage} have counted since {at}: users hear of what was posted from "
        "then on, and of nothing before."
    )
    if stage != stacks.STAGE:
        text += (
            f"\nWrite {shadows.line_of(stage, at)}, and commit it: until then a deployment is "
            "refused."
        )
    return Summary(text, {"stage": stage, "switched": switched, "at": at})


def main(words: list[str] | None = None) -> int:
    """Reads the command line and runs the command; the exit status."""
    parser = command.parser_of(
        "cutover", "Turns the ledgers of a shadow into those that count, once they have agreed."
    )
    parser.epilog = "docs/migrating.md says what comes before it."
    parser.add_argument(
        "--nights",
        type=whole_number(0, MOST_NIGHTS),
        default=nights.NIGHTS_BEFORE_THE_SWITCH,
        help="how many nights in a row must have been without an unexplained difference; default: "
        "%(default)s; 0 does not look",
    )
    return command.run(parser, cut_over, words)


if __name__ == "__main__":
    sys.exit(main())
