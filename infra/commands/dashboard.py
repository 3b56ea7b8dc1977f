"""Draws docs/images/dashboard anew, from sample data.

python -m infra dashboard        (make dashboard)
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from infra.deployment import packaging
from infra.pages.dashboard_picture import PICTURE, draw, filled_in


def main(words: list[str] | None = None) -> int:
    """Redraws the picture; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m infra dashboard",
        description="Draws docs/images/dashboard from sample data.",
    )
    parser.parse_args(words)
    with tempfile.TemporaryDirectory() as output:
        template = packaging.package("prod", Path(output), region="eu-west-1").template
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(draw(filled_in(template)))
    print(PICTURE.relative_to(packaging.ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
