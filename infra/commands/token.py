"""Prints a token that the API of the running local stack accepts.

python -m infra token --user-id 42 --scope credits:admin (make token USER_ID=42 SCOPE=...)
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from chalicelib.api.principal import Scope
from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.fields import parse_user_id
from infra.arguments import whole_number
from infra.local import stacks
from infra.local.tokens import DEFAULT_SCOPES, DEFAULT_SECONDS, MOST_SECONDS, TokenError, issue


def read_arguments(
    parser: argparse.ArgumentParser,
    words: list[str] | None,
    *,
    user_id: str | None = None,
    scope: str = DEFAULT_SCOPES,
) -> argparse.Namespace:
    """The wanted token; ``user_id`` and ``scope`` are the defaults."""
    default = "" if user_id is None else f" (default: {user_id})"
    parser.add_argument(
        "--user-id", default=user_id, help=f"the user the token stands for, e.g. 42{default}"
    )
    parser.add_argument(
        "--scope",
        default=scope,
        help=f"of {', '.join(Scope)}; several with spaces between (default: {scope})",
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
    parser = argparse.ArgumentParser(
        prog="python -m infra token",
        description="Prints a token for the API of the running local stack.",
        epilog='make token USER_ID=42 SCOPE="credits:read credits:use" SECONDS=3600',
    )
    return print_token(read_arguments(parser, words), lambda _, token: token)


def print_token(wanted: argparse.Namespace, show: Callable[[stacks.LocalStack, str], str]) -> int:
    """Prints what ``show`` makes of the running stack and the token; the exit status."""
    try:
        stack = stacks.running_stack()
        token = issue(stack.issuer, wanted.user_id, wanted.scope, wanted.seconds)
    except (stacks.NotRunningError, TokenError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(show(stack, token))
    return 0


if __name__ == "__main__":
    sys.exit(main())
