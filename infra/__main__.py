"""Runs every command under one name.

    python -m infra                        lists them
    python -m infra verify --help          the options of one of them

`make` runs the same commands, and sets up what they need first.
"""

from __future__ import annotations

import errno
import os
import runpy
import sys

from infra import session
from infra.deployment import packaging
from infra.faults import FAULTS

COMMANDS = {
    "run": ("infra.commands.run", "run the turn of a month on this machine"),
    "up": ("infra.commands.up", "start an empty stack on this machine"),
    "token": ("infra.commands.token", "print a token for the running stack"),
    "env": ("infra.commands.env", "print the running stack's URL and a token for a shell"),
    "doctor": ("infra.commands.doctor", "say what is wrong with a deployment or a stack"),
    "token-check": ("infra.commands.token_check", "say why a stage accepts or refuses a token"),
    "clock": ("infra.commands.clock", "move the running stack's clock"),
    "deploy": ("infra.commands.deploy", "deploy to AWS"),
    "package": ("infra.commands.package", "package a stage, to be deployed from elsewhere"),
    "deploy-policy": (
        "infra.commands.deploy_policy",
        "print the rights to deploy a stage, for IAM",
    ),
    "import": ("infra.commands.import_subscriptions", "import subscriptions from a CSV file"),
    "balances": ("infra.commands.import_balances", "import credits that users have elsewhere"),
    "usages": (
        "infra.commands.usages",
        "spend in a shadow what another system let users spend",
    ),
    "cutover": ("infra.commands.cutover", "turn the ledgers of a shadow into those that count"),
    "grant": ("infra.commands.grant", "grant credits to the users of a CSV file, once approved"),
    "show": ("infra.commands.show", "show a user: what they have, why, and what they were told"),
    "verify": ("infra.commands.verify", "check ledgers line by line"),
    "completeness": (
        "infra.commands.completeness",
        "count who was due for a month, and who was allocated",
    ),
    "liability": (
        "infra.commands.liability",
        "count the credits that were outstanding at an instant",
    ),
    "whatif": ("infra.commands.whatif", "replay past months under other plans"),
    "shadow": (
        "infra.commands.shadow",
        "compare a stage with the system that it runs beside",
    ),
    "stripe": ("infra.commands.stripe", "list Stripe events that could not be done yet"),
    "stripe-secret": ("infra.commands.stripe_secret", "put Stripe's signing secret in its place"),
    "security": ("infra.commands.security", "look for known weaknesses in template and packages"),
    "lock": ("infra.commands.lock", "write the lists of packages with their hashes"),
    "redrive": ("infra.repair.redrive", "list dead letters, or move them back"),
    "replay": ("infra.repair.replay", "replay the ticks of an instant or a range"),
    "allocate": ("infra.repair.allocate", "grant what is due for a period"),
    "void": ("infra.repair.void", "take back what is left of a credit batch"),
    "export": ("infra.repair.export", "write all data of a user as JSON"),
    "erase": ("infra.repair.erase", "erase a person's data, and keep the numbers"),
    "events": ("infra.commands.events", "send events of a user again, or follow the local ones"),
    "mails": ("infra.commands.mails", "take a picture of every kind of email"),
    "dashboard": ("infra.commands.dashboard", "draw the dashboard from sample data"),
    "reference": ("infra.commands.reference", "write the page of the API from its contract"),
    "sample": ("infra.sample.generate", "write the sample subscriptions"),
    "cost": ("bench.cost", "print what a month on AWS costs"),
    "units": ("bench.units", "count requests and capacity units of each operation"),
    "bench": ("bench", "measure CPU beside what else a team would run"),
    "capacity": ("bench.capacity", "simulate how long a month's turn takes"),
    "scale": ("bench.scale", "sweep a million users"),
    "hot": ("bench.hot", "measure one account that many callers use at once"),
}
"""The module and the purpose of each command."""

_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


def overview() -> str:
    """All commands, one a line."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {purpose}" for name, (_, purpose) in COMMANDS.items()]
    return "\n".join(
        ["usage: python -m infra COMMAND [--help]", "", *lines, "", "With set-up: make COMMAND"]
    )


def main() -> int:
    """Runs a command as if its module had been called; returns the exit status.

    If the plans have a mistake, every command reports it with its line, and does nothing.
    """
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in ("", "-h", "--help", "help"):
        print(overview())
        return 0
    if name not in COMMANDS:
        print(f"error: there is no command {name!r}.\n\n{overview()}", file=sys.stderr)
        return 2
    if not {"-h", "--help"} & set(sys.argv[2:]):
        try:
            packaging.catalogue()
        except packaging.PackagingError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    module, _ = COMMANDS[name]
    sys.argv = [f"python -m infra {name}", *sys.argv[2:]]
    try:
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough; Python must not complain when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (session.AwsError, *FAULTS) as error:
        # Some of these are subclasses of OSError, so they are caught first.
        said = session.words(error)
    except OSError as error:
        if error.errno not in _NOT_WRITABLE or error.filename is None:
            raise
        said = (
            f"{error.filename}: {error.strerror}. Commands write into build/ and docs/ of their "
            "checkout: clone it where you can write."
        )
    else:
        return 0
    print(f"error: {said}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
