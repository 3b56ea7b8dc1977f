"""Takes pictures of every kind of email: in wide and narrow windows, in light and dark mode.

    python -m infra mails        (make mails)

It needs a Chromium or Chrome on the PATH and nothing else.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from infra.pages.mail_pictures import BROWSERS, PICTURES, take_pictures


def main(words: list[str] | None = None) -> int:
    """Reads the command line and takes the pictures; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m infra mails", description="Takes a picture of every kind of email."
    )
    parser.add_argument("--to", type=Path, default=PICTURES, help=f"default: {PICTURES}")
    arguments = parser.parse_args(words)
    try:
        arguments.to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"error: --to: {error.filename} cannot be made: {error.strerror}", file=sys.stderr)
        return 1
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(
            "error: there is no Chromium or Chrome here. "
            "On Debian and Ubuntu: apt install chromium",
            file=sys.stderr,
        )
        return 1
    for picture in take_pictures(browser, arguments.to):
        print(picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
