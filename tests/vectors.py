"""Writes the test vectors of statements: ledgers, and what the domain finds in them.

    python -m tests.vectors

The ledgers are those that the tests of the domain verify: right ones with every type of entry, and
one for each way in which an entry can be wrong. Both verifiers of statements, in
`clients/python` and `clients/statement`, must find the same in them.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from chalicelib.domain import verification
from chalicelib.domain.errors import LedgerCorrupt
from chalicelib.domain.ledger import Account
from chalicelib.domain.verification import Anchor, StoredLine

ROOT = Path(__file__).resolve().parents[1]
VECTORS = ROOT / "clients" / "statement" / "vectors.json"
VERIFIED_IN = tuple(
    f"tests/unit/test_{name}.py"
    for name in (
        "verification",
        "holds",
        "purchases",
        "use_many",
        "ledger",
        "balance_cap",
        "sign_up",
        "step_up",
    )
)
MOST_OF_A_TEST = 8
"""How many ledgers of one test are kept: some tests alter every byte."""

VERIFY = verification.verify

CANONICAL = "the body is not in its canonical form"
"""A verifier of statements need not tell a body that cannot be read from one in another form."""

Case = tuple[str, tuple[StoredLine, ...], int | None, str | None]


class Recorder:
    """A plugin of pytest that notes what tests verify, and what was found."""

    def __init__(self) -> None:
        self.cases: dict[str, list[Case]] = defaultdict(list)
        self._test = ""

    def pytest_collection_modifyitems(self, items: list[pytest.Function]) -> None:
        """Puts the recorder into the place of `verify`; leaves random tests out."""
        for module in [*sys.modules.values()]:
            if vars(module).get("verify") is VERIFY:
                vars(module)["verify"] = self.verify
        items[:] = [item for item in items if not hasattr(item.function, "hypothesis")]

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Remembers the test."""
        self._test = item.nodeid.rpartition("/")[2].partition(".py::")[2]

    def verify(
        self, user_id: str, lines: Iterable[StoredLine], anchor: Anchor | None = None
    ) -> Account:
        """Verifies, as the domain does."""
        if anchor:
            return VERIFY(user_id, lines, anchor)
        taken: list[StoredLine] = []
        number, reason = None, None

        def told() -> Iterable[StoredLine]:
            for line in lines:
                taken.append(line)
                yield line

        try:
            return VERIFY(user_id, told())
        except LedgerCorrupt as corrupt:
            number, reason = corrupt.number, corrupt.reason
            raise
        finally:
            name = self._test.partition("[")[0]
            if taken:
                self.cases[name].append((user_id, tuple(taken), number, reason))


def document(cases: Iterable[tuple[str, Case]]) -> dict[str, Any]:
    """The file: each line once, and ledgers by the places of their lines."""
    places: dict[tuple[Any, ...], int] = {}
    ledgers = []
    for name, (user_id, lines, number, reason) in cases:
        is_unread = reason is not None and reason.startswith("the body cannot be read")
        ledger = {
            "test": name,
            "user_id": user_id,
            "lines": [
                places.setdefault(line[: 4 if line.erased else 3], len(places)) for line in lines
            ],
            "wrong": number and [number, CANONICAL if is_unread else reason],
        }
        ledgers.append(ledger)
    return {"lines": [list(line) for line in places], "ledgers": ledgers}


def kept(cases: dict[str, list[Case]]) -> Iterable[tuple[str, Case]]:
    """Every ledger once; of tests with very many, some from the first to the last."""
    seen: set[Case] = set()
    for name, of_test in cases.items():
        new = [case for case in dict.fromkeys(of_test) if case not in seen]
        rights = [case for case in new if case[2] is None]
        reasons = {case[3]: case for case in new if case[3]}
        some = [*reasons.values(), *rights[-1:], *new[:: max(1, len(new) // MOST_OF_A_TEST)]]
        for case in dict.fromkeys(some):
            seen.add(case)
            yield name, case


def main() -> int:
    """Runs the tests, and writes the file."""
    recorder = Recorder()
    words = ["-q", "-n", "0", "--no-header", "-p", "no:cacheprovider", *VERIFIED_IN]
    if result := pytest.main(words, plugins=[recorder]):
        return int(result)
    text = json.dumps(
        document(kept(recorder.cases)), ensure_ascii=False, indent=0, separators=(",", ":")
    )
    VECTORS.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
