"""Imports the credits that users have in another system, from a CSV file (docs/migrating.md).

python -m infra balances file.csv [--stage prod] [--skip-invalid] (make balances CSV=file.csv)
"""

from __future__ import annotations

import sys

from rich.console import Console

from infra.commands.import_file import command
from infra.imports.balances import BALANCES


def main(words: list[str] | None = None) -> int:
    """Reads the command line and runs the import; the exit status."""
    return command(BALANCES, words, "python -m infra balances", Console(stderr=True))


if __name__ == "__main__":
    sys.exit(main())
