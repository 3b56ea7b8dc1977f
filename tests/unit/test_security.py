"""What `make security` makes of what pip-audit reports."""

from typing import Any

import pytest

from infra.security import SecurityError, advisories

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
    assert list(advisories([CLEAN, jinja])) == [
        "jinja2 3.1.5: CVE-2025-1, mended in 3.1.6",
        "jinja2 3.1.5: CVE-2025-2, no version mends it yet",
    ]


def test_nothing_found_is_nothing_said() -> None:
    assert list(advisories([CLEAN])) == []


def test_a_package_nobody_told_anything_about_is_no_clean_package() -> None:
    skipped = {"name": "cffi", "skip_reason": "Dependency not found on PyPI"}
    with pytest.raises(SecurityError, match=r"1 of 2 packages \(cffi .*offline"):
        list(advisories([CLEAN, skipped]))
