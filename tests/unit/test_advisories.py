"""What a file of advisories says of packages, and when it says nothing that can be relied on."""

import json
import subprocess
import venv
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.deployment import packaging
from infra.packages import advisories, programs
from infra.packages.advisories import AdvisoriesError, Advisory, look, pinned

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
YESTERDAY = "2026-11-28T12:00:00Z"
SIX = {"six": "1.17.0"}


def affected(
    *ranges: list[dict[str, str]], versions: tuple[str, ...] = (), name: str = "six", **more: Any
) -> dict[str, Any]:
    return {
        "package": {"ecosystem": "PyPI", "name": name},
        "ranges": [{"type": "ECOSYSTEM", "events": events} for events in ranges],
        "versions": [*versions],
        **more,
    }


def document(*said: dict[str, Any], id: str = "GHSA-1", **more: Any) -> dict[str, Any]:  # noqa: A002
    return {"id": id, "modified": YESTERDAY, "affected": [*said], **more}


def archive(folder: Path, *documents: Any) -> Path:
    file = folder / "all.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("README.txt", "no advisory")
        # In another order than that of their names.
        for number, each in reversed([*enumerate(documents)]):
            text = each if isinstance(each, bytes) else json.dumps(each).encode()
            made.writestr(f"{number:03}.json", text)
    return file


def found(folder: Path, *documents: Any, packages: dict[str, str] | None = None) -> list[Advisory]:
    return look(archive(folder, *documents), packages or SIX, NOW).found


# --- Which versions -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "events", "expected"),
    [
        ("1.16", [{"introduced": "0"}], True),
        ("0.dev1", [{"introduced": "0"}], True),
        ("1.16", [{"introduced": "1.16"}], True),
        ("1.15.9", [{"introduced": "1.16"}], False),
        ("1.16", [{"introduced": "0"}, {"fixed": "1.17"}], True),
        ("1.17", [{"introduced": "0"}, {"fixed": "1.17"}], False),
        ("1.17rc1", [{"introduced": "0"}, {"fixed": "1.17"}], True),
        ("1.17", [{"introduced": "0"}, {"last_affected": "1.17"}], True),
        ("1.17.1", [{"introduced": "0"}, {"last_affected": "1.17"}], False),
        ("1.9", [{"introduced": "0"}, {"fixed": "1.10"}], True),
        ("1.10", [{"introduced": "0"}, {"fixed": "1.9"}], False),
        (
            "2.1",
            [{"introduced": "2"}, {"fixed": "2.2"}, {"introduced": "1"}, {"fixed": "1.5"}],
            True,
        ),
        (
            "1.7",
            [{"introduced": "2"}, {"fixed": "2.2"}, {"introduced": "1"}, {"fixed": "1.5"}],
            False,
        ),
        ("2", [{"introduced": "0"}, {"fixed": "2"}, {"introduced": "2"}], True),
        ("2", [{"introduced": "0"}, {"introduced": "2"}, {"fixed": "2"}], True),
        ("1.17.0", [{"introduced": "0"}, {"fixed": "1.17"}, {"limit": "9"}], False),
    ],
)
def test_a_range_is_from_where_it_begins_to_before_what_fixes_it(
    version: str, events: list[dict[str, str]], *, expected: bool, tmp_path: Path
) -> None:
    names = [
        each.id for each in found(tmp_path, document(affected(events)), packages={"six": version})
    ]
    assert names == (["GHSA-1"] if expected else [])


@pytest.mark.parametrize("listed", ["1.17", "1.17.0", "1.17.0.0"])
def test_a_version_that_is_listed_is_affected_however_it_is_spelled(
    listed: str, tmp_path: Path
) -> None:
    assert found(tmp_path, document(affected(versions=("2004d", listed)))) == [
        Advisory("six", "1.17.0", "GHSA-1", ())
    ]


@pytest.mark.parametrize("listed", ["1.17.1", "1.17.0.dev1", "2004d"])
def test_a_version_that_is_not_listed_is_not_affected(listed: str, tmp_path: Path) -> None:
    assert found(tmp_path, document(affected(versions=(listed,)))) == []


def test_a_range_counts_whatever_its_versions_are_called_unless_they_are_commits(
    tmp_path: Path,
) -> None:
    fixed = [{"introduced": "0"}, {"fixed": "1.17"}]
    said = affected(ranges=[{"type": "SEMVER", "events": fixed}])
    assert found(tmp_path, document(said)) == []
    assert len(found(tmp_path, document(said), packages={"six": "1.16"})) == 1


def test_an_advisory_that_names_no_version_is_about_all_of_them(tmp_path: Path) -> None:
    git = affected(ranges=[{"type": "GIT", "events": [{"introduced": "deadbeef"}]}])
    assert [each.id for each in found(tmp_path, document(git))] == ["GHSA-1"]


@pytest.mark.parametrize(
    "said",
    [
        affected([{"introduced": "0"}], name="sixer"),
        affected([{"introduced": "0"}], package={"ecosystem": "npm", "name": "six"}),
        affected([{"introduced": "0"}], package={}),
        affected([{"introduced": "0"}], package=None),
    ],
)
def test_an_advisory_about_another_package_is_not_about_ours(
    said: dict[str, Any], tmp_path: Path
) -> None:
    assert found(tmp_path, document(said)) == []
    assert len(found(tmp_path, document(said, affected([{"introduced": "0"}])))) == 1


def test_a_package_is_known_however_its_name_is_spelled(tmp_path: Path) -> None:
    said = affected([{"introduced": "0"}], name="My.Package__X")
    packages = pinned("my-package-x==1.0 \\\n    --hash=sha256:00\n")
    assert [each.package for each in found(tmp_path, document(said), packages=packages)] == [
        "my-package-x"
    ]


def test_what_was_withdrawn_says_nothing(tmp_path: Path) -> None:
    said = document(affected([{"introduced": "0"}]), withdrawn="2026-11-01T00:00:00Z")
    assert [each.id for each in found(tmp_path, said, document(affected(), id="GHSA-2"))] == [
        "GHSA-2"
    ]


def test_one_weakness_is_told_once_for_all_its_advisories(tmp_path: Path) -> None:
    both = affected([{"introduced": "0"}])
    documents = [
        document(both, id="GHSA-1", aliases=["CVE-1"]),
        document(both, id="PYSEC-2", aliases=None),
        document(both, id="PYSEC-1", aliases=["CVE-1", "GHSA-1"]),
        # A weakness of many names: no advisory has all of them.
        document(both, id="PYSEC-3", aliases=["PYSEC-2", "CVE-3"]),
        document(both, id="CVE-3"),
        document(affected([{"introduced": "0"}], name="five"), id="CVE-1"),
    ]
    packages = SIX | {"five": "5"}
    assert [str(each) for each in found(tmp_path, *documents, packages=packages)] == [
        "five 5: CVE-1, no version mends it yet",
        "six 1.17.0: GHSA-1, no version mends it yet",
        "six 1.17.0: PYSEC-2, no version mends it yet",
    ]


def test_what_mends_it_is_named_and_only_what_comes_later(tmp_path: Path) -> None:
    ranges = ([{"introduced": "0"}, {"fixed": "1.5"}], [{"introduced": "1.6"}, {"fixed": "1.17.2"}])
    more = [[{"introduced": "3"}, {"fixed": each}] for each in ("10.2", "3.1", "9.1", "3.0.2")]
    own = [{"introduced": "0"}, {"fixed": "1.17.0"}]
    (one,) = found(tmp_path, document(affected(*ranges, *more, own)))
    assert str(one) == "six 1.17.0: GHSA-1, mended in 1.17.2, 3.0.2, 3.1, 9.1, 10.2"


def test_the_packages_are_those_of_the_list() -> None:
    text = "a==1 \\\n    --hash=sha256:00\n    # via b==9\nB_c[d,e]==2.0.post1 ; x\n-r other\n"
    assert pinned(text) == {"a": "1", "b-c": "2.0.post1"}


# --- What can be relied on ------------------------------------------------------------------------


def test_how_much_was_looked_at_and_of_when_is_told(tmp_path: Path) -> None:
    old = document(id="GHSA-0") | {"modified": "2020-01-01T00:00:00.123456789Z"}
    nowhere = document(id="GHSA-2") | {"modified": "2026-11-01T00:00:00"}
    newest = document() | {"modified": "2026-11-28T13:00:00+01:00"}
    looked = look(archive(tmp_path, old, newest, nowhere), SIX, NOW)
    assert looked == ([], 3, datetime(2026, 11, 28, 12, tzinfo=UTC))


def test_advisories_that_are_too_old_are_refused_with_their_age(tmp_path: Path) -> None:
    file = archive(tmp_path, document())
    newest = datetime(2026, 11, 28, 12, tzinfo=UTC)
    assert look(file, SIX, newest + advisories.OLDEST).found == []
    with pytest.raises(AdvisoriesError, match=r"of 2026-11-28: 14 days old, and at most 14") as old:
        look(file, SIX, newest + advisories.OLDEST + timedelta(seconds=1))
    assert f"curl -O {advisories.SOURCE}" in str(old.value)


@pytest.mark.parametrize(
    "wrong",
    [
        b"{",
        b"[" * 100_000,
        b"\xff",
        [],
        None,
        "text",
        {},
        {"id": "GHSA-1"},
        {"modified": YESTERDAY, "affected": [affected([{"introduced": "0"}])]},
        {"id": "GHSA-1", "modified": "yesterday"},
        {"id": "GHSA-1", "modified": 5},
        document() | {"affected": 5},
        document() | {"affected": ["six"]},
        document(affected([{"introduced": "one"}])),
        document(affected([{"fixed": 5}])),  # type: ignore[dict-item]
        document(affected(ranges=[{}])),
        document(affected(ranges=[{"type": "ECOSYSTEM"}])),
        document(affected() | {"versions": 5}),
        document(affected() | {"versions": [5]}),
    ],
    ids=str,
)
def test_a_document_that_cannot_be_understood_is_no_clean_bill(wrong: Any, tmp_path: Path) -> None:
    with pytest.raises(AdvisoriesError, match=r"is no advisory of OSV|cannot be read"):
        found(tmp_path, document(), wrong)


def test_a_file_that_is_not_there_not_an_archive_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AdvisoriesError, match=r"cannot be read: .*No such file"):
        look(tmp_path / "none.zip", SIX, NOW)
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(AdvisoriesError, match="cannot be read"):
        look(tmp_path / "text.zip", SIX, NOW)
    with pytest.raises(AdvisoriesError, match="has no advisory in it"):
        look(archive(tmp_path), SIX, NOW)


def test_a_document_that_would_fill_the_memory_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(json.dumps(document()))
    monkeypatch.setattr(advisories, "_LARGEST", size)
    file = archive(tmp_path, document())
    assert look(file, SIX, NOW).advisories == 1
    monkeypatch.setattr(advisories, "_LARGEST", size - 1)
    with pytest.raises(AdvisoriesError, match=r"000\.json is too large"):
        look(file, SIX, NOW)


KEYS = (
    *("id", "modified", "affected", "package", "ecosystem", "name", "ranges", "type"),
    *("events", "introduced", "fixed", "versions", "aliases", "withdrawn"),
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.sampled_from(["PyPI", "six", "0", "1.2"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(JSON, st.sampled_from(["affected", "id", "modified", "aliases", "withdrawn"]))
def test_whatever_stands_in_a_document_it_is_told_or_refused(
    tmp_path: Path, value: Any, key: str
) -> None:
    whole = document(affected([{"introduced": "0"}])) | {key: value}
    for each in (value, whole):
        try:
            assert isinstance(found(tmp_path, document(), each), list)
        except AdvisoriesError:
            continue  # any other error ends the test


# --- The program that looks for them --------------------------------------------------------------


def test_a_program_is_installed_once_from_its_list_with_every_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run: list[list[str]] = []

    def create(folder: Path, **settings: bool) -> None:
        assert settings == {"with_pip": True, "clear": True}
        (folder / "bin").mkdir(parents=True, exist_ok=True)

    def pip(command: list[str], *, check: bool) -> None:
        run.append(command)
        folder = Path(command[0]).parent
        if "lost" in requirements.read_text():
            assert check
            raise subprocess.CalledProcessError(1, command)
        (folder / "linter").touch()

    monkeypatch.setattr(venv, "create", create)
    monkeypatch.setattr(subprocess, "run", pip)
    monkeypatch.setattr(programs, "LISTS", tmp_path)
    monkeypatch.setattr(packaging, "BUILD", tmp_path / "build")
    requirements = tmp_path / "linter.txt"
    found = set()
    # A list that changes by little is another list.
    for number in range(20):
        requirements.write_text(f"linter=={number}")
        found |= {programs.program("linter"), programs.program("linter")}
    assert len(found) == len(run) == 20
    assert all(each.exists() for each in found)
    words = ["--only-binary", ":all:", "--require-hashes", "-r", str(requirements)]
    assert run[0][-5:] == words
    requirements.write_text("lost")
    # What was begun and not ended is begun again.
    for _ in range(2):
        with pytest.raises(programs.ProgramError, match=r"^linter could not be installed"):
            programs.program("linter")
    assert len(run) == 22
    said = capsys.readouterr()
    assert said == ("", "Installing linter (once, about half a minute) ...\n" * 22)
