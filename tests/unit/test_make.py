"""What `make` is told arrives as it was given: in every target, whatever is in it."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest

from tests import __main__ as runner

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")

# A value that names `made` must not make it. What make itself leaves out of a value, blanks at its
# beginning, is not here.
HOSTILE = (
    "x; touch made",
    "`touch made`",
    "$(touch made)",
    "$(shell touch made)",
    "${shell touch made}",
    "$$(touch made)",
    "$(error made)",
    "Refund of $9.99",
    "$HOME ${HOME} $$ $",
    "it's",
    'a "quoted" word',
    "'; touch made; '",
    '"; touch made; "',
    "one, two (three)",
    "two  blanks, and one at the end ",
    "two\nlines",
    "x\n\ttouch made",
    "touch made\n",
    "-x",
    "--yes",
    "*",
    "~",
    "!!",
    "a # b",
    "a \\",
    "C:\\new\\table",
    "%",
    "x & touch made",
    "x | touch made",
    "x > made",
    "Zoë 東京 🎉",
    "a=b",
    "auth0|42",
    "x" * 5_000,
)

# Their value is 1 or 0.
FLAGS = {
    "ALL",
    "AS_CSV",
    "YES",
    "DRY_RUN",
    "JSON",
    "IGNORE_FINDINGS",
    "EXIT",
    "EVENTS",
    "SKIP_INVALID",
    "INCLUDING_HELD",
    "NO_MAIL",
    "OFFLINE",
    "RIVAL",
    "SHADOW",
    "CELERY",
    "UPGRADE",
}
# Their value is a list of words, separated by blanks, which no shell reads: they arrive one by one.
LISTS = {"PARTS"}
# Those that arrive in the environment, and the name of each there.
IN_ENVIRONMENT = {"ARGS": "ARGS", "EXAMPLES": "CONTRACT_EXAMPLES", "TOKEN": "TOKEN"}
# Of the file itself: how a target passes a value on.
MACROS = {"call", "if", "value", "STAGED", "REPAIR", "ON", "OFF", "RUN", "VENV", "READY", "MAKE"}

# A shell script: it is started a thousand times.
STUB = """\
#!/bin/sh
touch called
{ printf '%s\\0' "$@"; printf 'END\\0'; env -0; } > call
"""


class Target(NamedTuple):
    """A target, and the variables that its recipe names."""

    name: str
    variables: tuple[str, ...]
    needed: tuple[str, ...]


def recipes() -> dict[str, str]:
    """The lines of every target, with the macros of the file in the place of their names."""
    text = MAKEFILE
    for name in ("REPAIR", "STAGED"):
        (body,) = re.findall(rf"^{name} = (.*)$", text, re.MULTILINE)
        text = text.replace(f"$({name})", body)
    return dict(re.findall(r"^([a-z][a-z-]*):.*\n((?:\t.*\n)*)", text, re.MULTILINE))


def targets() -> list[Target]:
    """Every target with what it takes, as its recipe says."""
    found = []
    for name, recipe in recipes().items():
        variables = re.findall(r"\$\(call (?:option|flag),[\w-]+,(\w+)\)", recipe)
        variables += re.findall(r"\$\(call (?:exported|is),(\w+)", recipe)
        needed = " ".join(re.findall(r"\$\(call needs,([\w ]+),", recipe)).split()
        found.append(Target(name, tuple(dict.fromkeys(variables)), tuple(needed)))
    return found


TARGETS = targets()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the Makefile, in which every program writes down what it was given."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for file in ("requirements.txt", "requirements-dev.txt", "call", "called"):
        (tmp_path / file).touch()
    (programs / "python").write_text(STUB, encoding="utf-8")
    (programs / "python").chmod(0o755)
    (tmp_path / ".venv" / ".ready").touch()
    return tmp_path


class Call(NamedTuple):
    """One run of a program."""

    words: list[str]
    environment: dict[str, str]


def run(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs make, which leaves no file behind."""
    before = sorted(folder.iterdir())
    ended = subprocess.run(
        ["make", *words],
        cwd=folder,
        env={**os.environ, "HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert sorted(folder.iterdir()) == before, "a value was run"
    return ended


def make(folder: Path, *words: str, **environment: str) -> Call:
    """Runs a target that runs one program; what that was given."""
    ended = run(folder, *words, **environment)
    assert ended.returncode == 0, ended.stderr
    given, _, exported = (folder / "call").read_text(encoding="utf-8").partition("\0END\0")
    pairs = (line.partition("=") for line in exported.split("\0") if line)
    return Call(given.split("\0"), {name: value for name, _, value in pairs})


def of(variable: str, call: Call) -> str:
    """The value of a variable as the program got it."""
    if variable in IN_ENVIRONMENT:
        return call.environment[IN_ENVIRONMENT[variable]]
    option = f"--{variable.lower().replace('_', '-')}="
    named = [word.removeprefix(option) for word in call.words if word.startswith(option)]
    if named:
        (value,) = named
        return value
    assert call.words[-2] == "--", f"{variable} arrives neither by its name nor at the end"
    return call.words[-1]


def passed(target: Target) -> list[str]:
    """The variables whose values a target passes on as they are."""
    return [name for name in target.variables if name not in FLAGS | LISTS]


WITH_VALUES = [target for target in TARGETS if passed(target)]


def test_the_recipes_name_their_variables_in_the_ways_that_pass_them_on_as_they_are() -> None:
    """A $(NAME) of make, or a $$NAME of what make exports, would have the value read on its way."""
    for name, recipe in recipes().items():
        text = re.sub(r"\$\(call needs,.*\)", "", recipe)
        assert set(re.findall(r"\$[({](\w+)", text)) <= MACROS, name
        assert set(re.findall(r"\$\$[({]?([A-Z]\w+)", text)) <= LISTS, name
    taken = {name for target in TARGETS for name in target.variables}
    named = set(re.findall(r"\b([A-Z][A-Z_]+)=", "\n".join(re.findall("## .*", MAKEFILE))))
    assert named <= taken, "what the list of targets shows is taken by a target"
    for target in TARGETS:
        assert set(target.needed) <= set(target.variables), target.name


@pytest.mark.parametrize("target", WITH_VALUES, ids=lambda target: target.name)
def test_every_value_arrives_as_it_was_given(target: Target, folder: Path) -> None:
    names = passed(target)
    for shift in range(len(HOSTILE)):
        values = {name: HOSTILE[(shift + 5 * i) % len(HOSTILE)] for i, name in enumerate(names)}
        call = make(folder, target.name, *(f"{name}={value}" for name, value in values.items()))
        assert {name: of(name, call) for name in names} == values


@pytest.mark.parametrize("target", WITH_VALUES, ids=lambda target: target.name)
def test_a_value_from_the_environment_arrives_likewise(target: Target, folder: Path) -> None:
    for value in ("$(shell touch made) $9.99 `touch made`", " '; touch made; '\"\n#\\"):
        call = make(folder, target.name, **dict.fromkeys(passed(target), value))
        assert {of(name, call) for name in passed(target)} == {value}


@pytest.mark.parametrize("target", WITH_VALUES, ids=lambda target: target.name)
def test_a_value_that_is_not_given_is_not_passed(target: Target, folder: Path) -> None:
    call = make(folder, target.name, *(f"{name}=1" for name in target.needed))
    for word in call.words:
        name = word[2:].partition("=")[0].upper().replace("-", "_")
        assert not word.startswith("--") or name in ("", "DIST", *target.needed)


def test_no_value_that_is_given_to_make_is_a_setting_of_a_function() -> None:
    """The functions of the local stack have the environment of the process that started it."""
    settings = (ROOT / "chalicelib" / "settings.py").read_text(encoding="utf-8")
    read = set(re.findall(r"environ(?:ment)?(?:\.get\(|\[|, )\"([A-Z_]+)\"", settings))
    assert {"LEDGER_TABLE", "LOW_BALANCE", "STAGE", "SHADOW_UNTIL"} <= read
    given = {variable for target in TARGETS for variable in target.variables}
    # Each function is told its own stage.
    assert given & read == {"STAGE"}


@pytest.mark.parametrize("flag", sorted(FLAGS))
def test_a_flag_is_1_or_0(flag: str, folder: Path) -> None:
    (target, *_) = [target for target in TARGETS if flag in target.variables]
    needed = [f"{name}=1" for name in target.needed]
    option = {"CELERY": "--without-celery"}.get(flag, f"--{flag.lower().replace('_', '-')}")
    on, off = ("0", "no", "false"), ("1", "yes", "true")
    if flag != "CELERY":
        on, off = off, on
    for value in on:
        assert option in make(folder, target.name, f"{flag}={value}", *needed).words
    for value in (*off, ""):
        assert option not in make(folder, target.name, f"{flag}={value}", *needed).words
    for value in (*HOSTILE, "1 0", "1 x", "2", "YES", "nein"):
        (folder / "called").unlink()
        ended = run(folder, target.name, f"{flag}={value}", *needed)
        assert not (folder / "called").exists()
        assert ended.returncode == 2
        assert f"{flag} must be 1 or 0" in ended.stderr
        (folder / "called").touch()


@pytest.mark.parametrize("name", sorted(LISTS))
def test_a_list_arrives_word_by_word(name: str, folder: Path) -> None:
    (target,) = [target for target in TARGETS if name in target.variables]
    for value in HOSTILE:
        words = make(folder, target.name, f"{name}={value}").words
        assert words == ["-m", "tests.prove", *value.split()]


def test_a_variable_that_no_target_takes_is_not_run_either(folder: Path) -> None:
    for value in HOSTILE:
        call = make(folder, "up", f"AWS_PROFILE={value}", f"RUN={value}", f"VENV={value}")
        assert call.environment["AWS_PROFILE"] == value


def test_what_a_program_compiles_is_kept_for_the_next(folder: Path) -> None:
    for target in ("up", "test"):
        call = make(folder, target, PYTHONDONTWRITEBYTECODE="1")
        assert "PYTHONDONTWRITEBYTECODE" not in call.environment


def test_a_name_of_python_is_the_name_of_a_program(folder: Path) -> None:
    (folder / ".venv" / ".ready").unlink()
    ended = run(folder, "up", "PYTHON=python3; touch made $(shell touch made) $9")
    assert ended.returncode == 2
    assert '"python3; touch made $(shell touch made) $9" is not' in ended.stderr


def test_a_make_waits_for_another_that_sets_up_and_does_not_do_so_again(folder: Path) -> None:
    """In a new clone `make up` and, in a second terminal, `make env` come one after the other."""
    ready = folder / ".venv" / ".ready"
    ready.unlink()
    with (folder / "Makefile").open() as makefile:
        fcntl.flock(makefile, fcntl.LOCK_EX)
        second = subprocess.Popen(["make", "env"], cwd=folder, stderr=subprocess.PIPE, text=True)
        assert second.stderr is not None
        assert "Waiting for another make" in second.stderr.readline()
        ready.touch()
    _, said = second.communicate(timeout=60)
    assert (second.returncode, said) == (0, "")


# --- ARGS ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("", []),
        ("-k name tests/unit", ["-k", "name", "tests/unit"]),
        ("-k 'a or b' \"tests/my unit\"", ["-k", "a or b", "tests/my unit"]),
        ("$(touch made) `x` *", ["$(touch", "made)", "`x`", "*"]),
        ("a\nb", ["a", "b"]),
    ],
)
def test_args_are_split_as_a_shell_would_and_read_by_none(
    args: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    became: list[list[str]] = []
    compiled: list[bool] = []

    def become(_: str, words: list[str]) -> NoReturn:
        became.append(words)
        raise SystemExit

    monkeypatch.setattr(os, "execv", become)
    monkeypatch.setattr(runner, "compile_once", lambda: compiled.append(True))
    monkeypatch.setenv("ARGS", args)
    with pytest.raises(SystemExit):
        runner.main()
    assert became == [[sys.executable, *runner.PYTEST, *words]]
    assert bool(compiled) == (not words), "who picks some tests does not wait for the others"


def test_args_that_cannot_be_read_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARGS", "-k 'a")
    with pytest.raises(SystemExit, match="error: ARGS cannot be read: No closing quotation"):
        runner.main()
