"""What `make security` makes of what pip-audit reports."""

import json
import subprocess
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra.commands import security
from infra.commands.security import SecurityError, reported
from infra.deployment.packaging import PackagingError
from infra.packages import advisories

CLEAN: dict[str, Any] = {"name": "six", "version": "1.17.0", "vulns": []}


def test_every_advisory_is_a_line_with_the_version_that_mends_it() -> None:
    jinja = {
        "name": "jinja2",
        "version": "3.1.5",
        "vulns": [
            {"id": "CVE-2025-1", "fix_versions": ["3.1.6"]},
            {"id": "CVE-2025-2", "fix_versions": []},
        ],
    }
    assert list(reported([CLEAN, jinja])) == [
        "jinja2 3.1.5: CVE-2025-1, mended in 3.1.6",
        "jinja2 3.1.5: CVE-2025-2, no version mends it yet",
    ]


def test_nothing_found_is_nothing_said() -> None:
    assert list(reported([CLEAN])) == []


def test_a_package_nobody_told_anything_about_is_no_clean_package() -> None:
    skipped = [{"name": name, "skip_reason": "Dependency not found on PyPI"} for name in "abcd"]
    with pytest.raises(SecurityError, match=r"1 of 2 packages \(d .*offline"):
        list(reported([CLEAN, skipped[3]]))
    with pytest.raises(SecurityError, match=r"4 of 5 packages \(a, b, c \.\.\.\): "):
        list(reported([CLEAN, *skipped]))


# --- The command ----------------------------------------------------------------------------------


@pytest.fixture
def clean_template(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security, "is_template_clean", lambda: True)


def written(folder: Path, *names: str) -> Path:
    """A file of one advisory of today, about all versions of some packages."""
    of = [{"package": {"ecosystem": "PyPI", "name": name}} for name in names]
    said = {"id": "GHSA-1", "modified": datetime.now(UTC).isoformat(), "affected": of}
    with zipfile.ZipFile(folder / "all.zip", "w") as made:
        made.writestr("GHSA-1.json", json.dumps(said))
    return folder / "all.zip"


@pytest.mark.usefixtures("clean_template")
def test_what_is_left_out_is_not_passed_off_as_clean(capsys: pytest.CaptureFixture[str]) -> None:
    assert security.main(["--offline"]) == 3
    said = capsys.readouterr().err
    assert "The packages were NOT looked at." in said
    assert f"curl -O {advisories.SOURCE}, and make security ADVISORIES=all.zip" in said
    with pytest.raises(SystemExit):
        security.main(["--offline", "--advisories", "all.zip"])


def test_what_is_found_counts_for_more_than_what_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(security, "is_template_clean", lambda: False)
    assert security.main(["--offline"]) == 1


@pytest.mark.usefixtures("clean_template")
def test_a_file_of_advisories_serves_where_there_is_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(security, "are_packages_clean", lambda: pytest.fail("PyPI was asked"))
    assert security.main(["--advisories", str(written(tmp_path, "flask"))]) == 0
    said = capsys.readouterr().out
    assert f"None of 1 advisories, the newest of {datetime.now(UTC):%Y-%m-%d}, is about" in said
    assert security.main(["--advisories", str(written(tmp_path, "PyNamoDB", "six"))]) == 1
    told = capsys.readouterr().out
    assert "pynamodb 6.1.0: GHSA-1, no version mends it yet\nsix 1.17.0: GHSA-1, no v" in told
    assert security.main(["--advisories", str(tmp_path / "none.zip")]) == 1
    assert "none.zip cannot be read" in capsys.readouterr().err


@pytest.mark.usefixtures("clean_template")
def test_where_pypi_cannot_be_asked_it_is_no_success_and_the_file_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def offline(*_: object, **__: object) -> Any:
        return SimpleNamespace(stdout="", stderr="a warning\nFailed to establish it\n")

    monkeypatch.setattr(security, "program", lambda _: Path("pip-audit"))
    monkeypatch.setattr(subprocess, "run", offline)
    assert security.main([]) == 1
    said = capsys.readouterr().err
    assert "pip-audit could not ask for advisories: Failed to establish" in said
    assert "make security ADVISORIES=all.zip" in said


@pytest.mark.usefixtures("clean_template")
@pytest.mark.parametrize("error", [SecurityError, PackagingError])
def test_every_check_is_made_whatever_the_others_find(
    error: type[Exception],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def unreadable() -> bool:
        raise error("checkov fails")

    monkeypatch.setattr(security, "is_template_clean", unreadable)
    assert security.main(["--advisories", str(written(tmp_path, "six"))]) == 1
    said = capsys.readouterr()
    assert "checkov fails" in said.err
    assert "six 1.17.0: GHSA-1" in said.out
