"""Starts the empty stack on this machine.

    python -m infra up        (make up)

The command prints one line of JSON when the stack is ready, and stays until SIGINT or SIGTERM.
"""

from __future__ import annotations

import argparse
import sys

from infra import session, terminal
from infra.deployment import packaging
from infra.local import emulator, stacks
from infra.local.console import server


def main(words: list[str] | None = None) -> int:
    """Run the local stack until a signal comes; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m infra up",
        description="Starts an empty stack here, until Ctrl-C. Prints one line of JSON with "
        "every name and address.",
    )
    parser.add_argument("--shadow", action="store_true", help="it sends nothing, until the cutover")
    given = parser.parse_args(words)
    terminal.end_on_sigterm()
    say = terminal.progress()
    try:
        with (
            server.console() as page,
            stacks.local_stack(
                say=say, publish_at=page.url, origins=page.origins, is_shadow=given.shadow
            ) as stack,
            page.showing(stack),
        ):
            print(stack.to_json(), flush=True)
            say(f"Ready. Its console is {page.url} and Ctrl-C ends it.")
            stacks.stay(stack)
            say("Ending ...")
    except (
        stacks.AlreadyRunningError,
        stacks.NotRunningError,
        emulator.EmulatorError,
        packaging.PackagingError,
        session.AwsError,
    ) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
