"""`make test`: pytest, with the words of ARGS.

They come in the environment and are split here, as a shell would, so that no shell reads them.
"""

import os
import shlex
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Becomes pytest, or ends with why it cannot."""
    try:
        words = shlex.split(os.environ.get("ARGS", ""))
    except ValueError as error:
        sys.exit(f"error: ARGS cannot be read: {error}")
    pytest = ["-m", "pytest", "-n", "auto", "--dist", "loadfile", *words]
    os.execv(sys.executable, [sys.executable, *pytest])  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    main()
