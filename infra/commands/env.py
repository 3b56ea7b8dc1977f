"""Prints shell variables: the API of the running local stack, and a token that it accepts.

TOKEN_URL is where a backend gets its own tokens, with client credentials.

eval "$(python -m infra env)"                                        (eval "$(make -s env)")
curl -H "Authorization: Bearer $TOKEN" $API/api/plans
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time

from infra.arguments import whole_number
from infra.commands.token import print_token, read_arguments
from infra.local import client_credentials, stacks

LONGEST_WAIT = 3600
"""Seconds."""


def _exported(stack: stacks.LocalStack, token: str) -> str:
    variables = {
        "API": stack.api_url,
        "TOKEN": token,
        "TOKEN_URL": f"{stack.issuer}{client_credentials.PATH}",
    }
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())


def main(words: list[str] | None = None) -> int:
    """Prints two lines that a shell evaluates; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m infra env",
        description="Prints lines for a shell that set API, the URL of the running local stack, "
        "TOKEN, by default that of the product's backend, and TOKEN_URL, where a backend gets it.",
        epilog='eval "$(make -s env)"; eval "$(make -s env USER_ID=42 SCOPE=credits:read)"',
    )
    parser.add_argument(
        "--wait",
        type=whole_number(most=LONGEST_WAIT),
        default=0,
        help="wait so many seconds at most until the stack is up (default: do not wait)",
    )
    wanted = read_arguments(
        parser,
        words,
        user_id=client_credentials.CLIENT_ID,
        scope=" ".join(client_credentials.SCOPES),
    )
    _wait_for_stack(wanted.wait)
    return print_token(wanted, _exported)


def _wait_for_stack(seconds: int) -> None:
    """Returns when a stack is up, or after this many seconds."""
    for _ in range(seconds):
        try:
            stacks.running_stack()
        except stacks.NotRunningError:
            time.sleep(1)
        else:
            return


if __name__ == "__main__":
    sys.exit(main())
