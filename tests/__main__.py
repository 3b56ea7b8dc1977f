"""`make test`: pytest, with the words of ARGS.

They come in the environment and are split here, as a shell would, so that no shell reads them.
"""

import os
import shlex
import sys
from typing import NoReturn

# In the order of their names, so that short files come last, and all processes end at about the
# same time. Otherwise those of few tests would come last, and some of these take minutes.
# One process more than there are cores: tests wait for the emulator a fifth of the time.
PROCESSES = str((os.cpu_count() or 1) + 1)
PYTEST = ["-m", "pytest", "-n", PROCESSES, "--dist", "loadfile", "--no-loadscope-reorder"]


def main() -> NoReturn:
    """Becomes pytest, or ends with why it cannot."""
    try:
        words = shlex.split(os.environ.get("ARGS", ""))
    except ValueError as error:
        sys.exit(f"error: ARGS cannot be read: {error}")
    os.execv(sys.executable, [sys.executable, *PYTEST, *words])  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    main()
