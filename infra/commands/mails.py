"""Takes pictures of every kind of email: in wide and narrow windows, in light and dark mode.

    python -m infra mails                 (make mails)
    python -m infra mails --stage prod    (make mails STAGE=prod)

With a stage the emails come in the name of its product, from infra/parameters.toml; in `prod` that
must be set. It needs a Chromium or Chrome on the PATH and nothing else.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from chalicelib.product import Product
from infra.deployment import packaging
from infra.deployment.errors import DeployError
from infra.deployment.parameters import parameters_of
from infra.deployment.product import missing, product_of
from infra.pages.mail_pictures import BROWSERS, LIGHTHOUSE, PICTURES, take_pictures

PREVIEWS = packaging.ROOT / "build" / "mails"


def main(words: list[str] | None = None) -> int:
    """Reads the command line and takes the pictures; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m infra mails", description="Takes a picture of every kind of email."
    )
    parser.add_argument("--stage", help="in the name of the product of this stage")
    parser.add_argument("--to", type=Path, help=f"default: {PICTURES}; of a stage: {PREVIEWS}")
    arguments = parser.parse_args(words)
    directory = arguments.to or (PREVIEWS if arguments.stage else PICTURES)
    try:
        product = _product(arguments.stage) if arguments.stage else LIGHTHOUSE
        directory.mkdir(parents=True, exist_ok=True)
    except DeployError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
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
    for picture in take_pictures(browser, directory, product):
        print(picture)
    return 0


def _product(stage: str) -> Product:
    """The product of a stage. Raises `DeployError`, also for one of `prod` that is incomplete."""
    parameters = parameters_of(stage)
    unset = missing(parameters)
    if unset and stage == "prod":
        raise DeployError(
            f"Emails of prod would not say whose they are. Set {', '.join(unset)} under [prod] in "
            "infra/parameters.toml; docs/mail.md#in-your-name says what each is."
        )
    return product_of(parameters)


if __name__ == "__main__":
    sys.exit(main())
