"""What guards and mutants share: each forks a process that has loaded and collected everything."""

import importlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest


def load_beforehand(modules: Iterable[str]) -> None:
    """Loads what every fork needs and nobody changes, and makes Hypothesis repeatable and brief."""
    for name in modules:
        importlib.import_module(name)
    hypothesis: Any = importlib.import_module("hypothesis")
    # The same examples each time, nothing remembered, and no time spent on the smallest example.
    hypothesis.settings.register_profile(
        "forks",
        derandomize=True,
        database=None,
        deadline=None,
        phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
    )
    hypothesis.settings.load_profile("forks")


def write_into(path: str | Path) -> None:
    """From here on, what this process prints goes into a file."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)


class Failures:
    """A pytest plugin that remembers which tests failed, and what could not be collected."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.broken: list[str] = []

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.broken.append(f"{report.nodeid} cannot be collected: {report.longreprtext[-500:]}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)
