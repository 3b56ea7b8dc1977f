"""What others make and we run is named by what is in it: packages by hash, actions by commit."""

import json
import re
import tomllib
import zipfile
from pathlib import Path

import pytest

from infra.commands import lock
from infra.deployment import packaging
from infra.deployment.packaging import ROOT, PackagingError

Pins = dict[str, str]

REQUIREMENT = re.compile(r"^(?P<name>[\w.-]+)(\[[\w,]+\])?==(?P<version>[\w.!+]+)", re.MULTILINE)
PIP_INSTALL = re.compile(r"\bpip\b(?! could not)[^\n]{0,120}?\binstall\b.{0,600}", re.DOTALL)
USES = re.compile(r"^\s*(?:- )?uses: *(.*)$", re.MULTILINE)


def normal(name: str) -> str:
    """As PyPI spells a name (Python Packaging User Guide, "Names and normalization")."""
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted(group: str) -> Pins:
    """What a group of pyproject.toml names, and at which version."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    pins: Pins = {}
    for each in groups[group]:
        if isinstance(each, dict):
            pins |= wanted(each["include-group"])
        else:
            match = REQUIREMENT.fullmatch(each)
            assert match, f"{each} names no version"
            pins[normal(match["name"])] = match["version"]
    return pins


def locked(name: str) -> dict[str, str]:
    """The requirements of a list: by package, all that is said of it."""
    text = (ROOT / name).read_text()
    requirements = re.sub(r"\\\n|^ *#.*\n", "", text, flags=re.MULTILINE).splitlines()
    return {re.split(r"==| ", line)[0]: line for line in requirements}


@pytest.mark.parametrize(("name", "group"), lock.LISTS.items())
def test_a_list_has_what_its_group_names_at_that_version(name: str, group: str) -> None:
    """Else `make lock` was not run after the group was changed."""
    found = locked(name)
    for package, version in wanted(group).items():
        assert found[package].startswith(f"{package}=={version} "), f"make lock: {name} is outdated"


@pytest.mark.parametrize("name", lock.LISTS)
def test_every_package_is_pinned_with_the_hash_of_each_file(name: str) -> None:
    for package, line in locked(name).items():
        assert re.fullmatch(
            r"[a-z0-9.-]+==[\w.!+]+ (; [^\\]+? )?( *--hash=sha256:[0-9a-f]{64})+", line
        ), package


def test_what_is_tested_is_what_is_deployed() -> None:
    deployed, tested = locked("requirements.txt"), locked("requirements-dev.txt")
    for package, line in deployed.items():
        hashes = set(re.findall(r"sha256:\w+", line))
        assert tested[package].split()[0] == line.split()[0]
        assert hashes == set(re.findall(r"sha256:\w+", tested[package]))


def test_nothing_is_installed_but_from_a_list_with_hashes() -> None:
    sources = [ROOT / "Makefile", ROOT / ".ci" / "run", ROOT / "app.py"]
    for folder in (".github", "bench", "chalicelib", "infra"):
        sources += [p for p in (ROOT / folder).rglob("*") if p.suffix in (".py", ".yml", ".yaml")]
    sources.remove(ROOT / "bench" / "population.py")  # it says to a person what to type
    found = {
        path.relative_to(ROOT).as_posix(): PIP_INSTALL.findall(path.read_text(encoding="utf-8"))
        for path in sources
    }
    assert {name for name, installs in found.items() if installs} == {
        *(
            "Makefile",
            "bench/rival.py",
            "infra/deployment/packaging.py",
            "infra/packages/programs.py",
        ),
    }
    for name, installs in found.items():
        assert all("--require-hashes" in install for install in installs), name
        # What a package is built with has no hash: pip would fetch the newest of it.
        assert all(re.search(r"--only-binary\W+:all:", install) for install in installs), name


def test_a_package_without_a_hash_is_not_packaged(tmp_path: Path) -> None:
    wheel = tmp_path / "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(
            "tiny-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1\n"
        )
        archive.writestr("tiny-1.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny-1.dist-info/RECORD", "")
    requirements = tmp_path / "requirements.txt"
    for said, reason in (
        ("", "Hashes are required"),
        (f" --hash=sha256:{'0' * 64}", "DO NOT MATCH"),
    ):
        requirements.write_text(f"{wheel.as_uri()}{said}\n")
        with pytest.raises(PackagingError, match=reason):
            packaging._dependencies(requirements, None)


@pytest.mark.parametrize("folder", ["clients/typescript", "tests/generators"])
def test_every_package_of_npm_is_locked_by_what_is_in_it_and_by_no_registry(folder: str) -> None:
    lock_file = json.loads((ROOT / folder / "package-lock.json").read_text())
    installed = {name: each for name, each in lock_file["packages"].items() if name}
    assert installed
    for name, each in installed.items():
        assert each["integrity"].startswith("sha512-"), name
        assert "resolved" not in each, name
        # `npm ci --ignore-scripts` runs none; the client's users may not say so.
        assert folder != "clients/typescript" or "hasInstallScript" not in each, name


def test_actions_are_named_by_commit_with_their_version_beside_it() -> None:
    """A tag can be moved to other code (GitHub Docs, "Secure use reference")."""
    named = [
        action
        for workflow in (ROOT / ".github" / "workflows").glob("*.yml")
        for action in USES.findall(workflow.read_text(encoding="utf-8"))
        if not action.startswith("./")
    ]
    assert named
    for action in named:
        assert re.fullmatch(r"[\w-]+/[\w/-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", action), action
    commits = dict(action.split("@") for action in named)
    assert {f"{name}@{commit}" for name, commit in commits.items()} == set(named)
