"""Prints a token that the API of the running local stack takes.

python -m infra token --user-id 42 --scope credits:admin      (make token USER_ID=42 SCOPE=...)
"""

from __future__ import annotations

import argparse
import sys

from chalicelib.api.principal import Scope
from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.fields import parse_user_id
from infra.arguments import whole_number
from infra.local import stacks
from infra.local.tokens import DEFAULT_SCOPES, DEFAULT_SECONDS, MOST_SECONDS, TokenError, issue


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m infra token",
        description="Prints a token for the API of the running local stack.",
        epilog='make token USER_ID=42 SCOPE="credits:read credits:use" SECONDS=3600',
    )
    parser.add_argument("--user-id", help="the user the token stands for, e.g. 42")
    parser.add_argument(
        "--scope",
        default=DEFAULT_SCOPES,
        help=f"of {', '.join(Scope)}; several with spaces between (default: {DEFAULT_SCOPES})",
    )
    parser.add_argument(
        "--seconds",
        type=whole_number(most=MOST_SECONDS),
        default=DEFAULT_SECONDS,
        help="how long it is valid (default: 3600, at most a year)",
    )
    arguments = parser.parse_args(words)
    if arguments.user_id is None:
        parser.error("name a user: make token USER_ID=42")
    unknown = sorted(set(arguments.scope.split()) - set(Scope))
    if unknown:
        parser.error(f"there is no scope {', '.join(unknown)}; the scopes are {', '.join(Scope)}")
    try:
        parse_user_id("user_id", arguments.user_id)
    except InvalidInput as error:
        parser.error(str(error))
    return arguments


def main(words: list[str] | None = None) -> int:
    """Prints a token; the exit status."""
    arguments = _arguments(words)
    try:
        stack = stacks.running_stack()
        print(issue(stack.issuer, arguments.user_id, arguments.scope, arguments.seconds))
    except (stacks.NotRunningError, TokenError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
