"""`make test`: pytest, with the words of ARGS.

They come in the environment and are split here, as a shell would, so that no shell reads them.
"""

import os
import shlex
import subprocess
import sys
from typing import NoReturn

# In the order of their names, so that short files come last, and all processes end at about the
# same time. Otherwise those of few tests would come last, and some of these take minutes.
# One process more than there are cores: tests wait for the emulator a fifth of the time. With two
# more a run took longer.
PROCESSES = str((os.cpu_count() or 1) + 1)
PYTEST = ["-m", "pytest", "-n", PROCESSES, "--dist", "loadfile", "--no-loadscope-reorder"]

COLLECT = ["-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "--collect-only", "-qqq"]
# All tests, in two halves that take about as long to compile.
HALVES = (("tests/unit",), ("tests", "clients/python/tests", "--ignore=tests/unit"))


def compile_once() -> None:
    """Has pytest compile all tests, which otherwise each of its processes does at the same time."""
    compiling = [
        subprocess.Popen(
            [sys.executable, *COLLECT, *half],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for half in HALVES
    ]
    # What is wrong with a file the run itself will say.
    for process in compiling:
        process.wait()


def main() -> NoReturn:
    """Becomes pytest, or ends with why it cannot."""
    try:
        words = shlex.split(os.environ.get("ARGS", ""))
    except ValueError as error:
        sys.exit(f"error: ARGS cannot be read: {error}")
    if not words:
        compile_once()
    os.execv(sys.executable, [sys.executable, *PYTEST, *words])  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    main()
