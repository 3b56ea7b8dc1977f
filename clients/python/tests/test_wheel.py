"""The client as a package: what is in it, and that it works where nothing else of Credits is."""

import os
import subprocess
import sys
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import httpx
import pytest

CLIENT = Path(__file__).parents[1]
QUIET = ("--quiet", "--disable-pip-version-check", "--no-index", "--no-deps")
PIP = (sys.executable, "-m", "pip")

PROGRAM = """
from credits_client.testing import FakeCredits
import credits_client, importlib.metadata
credits = FakeCredits()
credits.grant("ada", 100)
with credits.hold("ada", 50) as hold:
    print(hold.capture(31).new_balance)
print(credits_client.__file__, importlib.metadata.version("credits-client"))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by what is installed: nothing is fetched."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [*PIP, "wheel", *QUIET, "--no-build-isolation", "--wheel-dir", folder, CLIENT], check=True
    )
    (found,) = folder.iterdir()
    return found


def test_the_wheel_has_the_package_its_types_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = next(name for name in archive.namelist() if name.endswith("METADATA"))
        said = Parser().parsestr(archive.read(metadata).decode())
    package = CLIENT / "src"
    sources = {path for path in package.rglob("*") if path.suffix in (".py", ".typed")}
    assert names == {path.relative_to(package).as_posix() for path in sources}
    assert "credits_client/py.typed" in names
    assert said.get_all("Requires-Dist") == ["httpx>=0.27,<1"]
    assert said["Requires-Python"] == ">=3.10"
    assert wheel.name.endswith("-py3-none-any.whl")


def test_the_wheel_works_in_an_environment_of_its_own(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([*PIP, "--python", python, "install", *QUIET, wheel], check=True)
    run = subprocess.run(
        [python, "-W", "error", "-c", PROGRAM],
        # httpx and what it needs are those of the tests.
        env=os.environ | {"PYTHONPATH": str(Path(httpx.__file__).parents[1])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    balance, where = run.stdout.splitlines()
    assert balance == "69"
    assert where.startswith(str(tmp_path))
    assert where.endswith(" 1.0.0")
