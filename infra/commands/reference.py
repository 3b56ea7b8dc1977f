"""Writes the pages that are generated from other files.

They are the API's reference, docs/api-reference.md, from its contract, and the page that verifies
statements, clients/statement/verify.html.

python -m infra reference (make reference)
"""

from __future__ import annotations

import argparse
import json
import sys

from infra.pages import statement
from infra.pages.reference import CONTRACT, PAGE, ROOT, page


def main(words: list[str] | None = None) -> int:
    """Writes the pages; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m infra reference",
        description="Writes docs/api-reference.md from the contract, and the page for statements.",
    )
    parser.parse_args(words)
    PAGE.write_text(page(json.loads(CONTRACT.read_text(encoding="utf-8"))), encoding="utf-8")
    print(PAGE.relative_to(ROOT))
    statement.PAGE.write_text(statement.page(), encoding="utf-8")
    print(statement.PAGE.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
