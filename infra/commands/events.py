"""Sends the events of a user again, or follows those of the local stack.

python -m infra events                           follows, until Ctrl-C     (make events)
python -m infra events --user-id 42 --from 17    sends again               (make events ...)
"""

from __future__ import annotations

import argparse
import json
import sys

from infra import reach
from infra.local import events, stacks
from infra.repair import command
from infra.repair.events import send_again
from infra.session import AwsError


def main(words: list[str] | None = None) -> int:
    """Reads the command line and does one of the two; the exit status."""
    parser = command.parser_of(
        "events", "Sends the events of a user again; without a user, follows the local stack's."
    )
    parser.add_argument("--user-id", help="the user whose events are sent again")
    parser.add_argument(
        "--from", dest="first", metavar="START", help="entry 17 or 2026-12-01T00:00:00Z, and on"
    )
    arguments = parser.parse_args(words)
    if arguments.user_id is not None and arguments.first is not None:
        return command.run(parser, send_again, words)
    if arguments.user_id is not None or arguments.first is not None:
        parser.error("--user-id and --from go together: of whom, and from where on")
    return _follow(arguments)


def _follow(arguments: argparse.Namespace) -> int:
    try:
        if arguments.stage != stacks.STAGE:
            raise AwsError(
                "Only the local stack's events can be followed. To hear those of a stage in AWS, "
                "lead a rule to a queue of yours: docs/events.md#a-consumer"
            )
        stack = reach.running_stack(arguments.region)
    except (AwsError, stacks.NotRunningError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("Following the events of the local stack; Ctrl-C ends it.", file=sys.stderr)
    try:
        with events.following(stack) as heard:
            for event in heard:
                print(json.dumps(event) if arguments.json else events.line_of(event), flush=True)
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
