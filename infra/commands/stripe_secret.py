"""Stores the signing secret of Stripe's endpoint where the webhook reads it.

python -m infra stripe-secret [--stage prod]
(make stripe-secret STAGE=prod)

The secret is asked for, or read from standard input, because every user of a machine can read its
command lines. It is never printed. The webhook uses it within seconds. The command can be repeated.
"""

from __future__ import annotations

import argparse
import getpass
import sys

from chalicelib.stripe.signatures import is_secret
from infra import reach, session
from infra.arguments import add_stage
from infra.faults import FAULTS
from infra.local import stacks


def main(words: list[str] | None = None) -> int:
    """Reads the command line and the secret; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m infra stripe-secret",
        description="Puts the signing secret of Stripe's endpoint where the webhook reads it.",
    )
    add_stage(parser)
    arguments = parser.parse_args(words)
    try:
        stage = reach.reach(arguments.stage, arguments.region)
        secret = _asked().strip()
        if not is_secret(secret):
            raise session.AwsError(
                "that is no signing secret: it begins with whsec_. Stripe shows it beside the "
                "endpoint, and `stripe listen` when it begins"
            )
        with session.told():
            stage.client("secretsmanager").put_secret_value(
                SecretId=f"credits-{stage.stage}-stripe-webhook", SecretString=secret
            )
    except (stacks.NotRunningError, session.AwsError, *FAULTS) as error:
        print(f"error: {session.words(error)}", file=sys.stderr)
        return 1
    print(f"The webhook of stage {stage.stage} checks with this secret in five seconds.")
    return 0


def _asked() -> str:
    if sys.stdin.isatty():
        return getpass.getpass("Signing secret (whsec_...): ")
    return sys.stdin.readline()


if __name__ == "__main__":
    sys.exit(main())
