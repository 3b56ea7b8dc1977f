"""Writes the page of the API, docs/api-reference.md, from its contract.

python -m infra reference        (make reference)
"""

from __future__ import annotations

import argparse
import json
import sys

from infra.pages.reference import CONTRACT, PAGE, ROOT, page


def main(words: list[str] | None = None) -> int:
    """Writes the page; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m infra reference",
        description="Writes docs/api-reference.md from the contract.",
    )
    parser.parse_args(words)
    PAGE.write_text(page(json.loads(CONTRACT.read_text(encoding="utf-8"))), encoding="utf-8")
    print(PAGE.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
