"""Imports subscriptions from a CSV file into the running local stack or a deployed one.

python -m infra import file.csv [--stage prod] [--skip-invalid]        (make import CSV=file.csv)
"""

from __future__ import annotations

import sys

from rich.console import Console

from infra.commands.import_file import command
from infra.imports.subscriptions import SUBSCRIPTIONS


def main(words: list[str] | None = None) -> int:
    """Reads the command line and runs the import; the exit status."""
    return command(SUBSCRIPTIONS, words, "python -m infra import", Console(stderr=True))


if __name__ == "__main__":
    sys.exit(main())
