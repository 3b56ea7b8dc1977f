"""The switch asks for what must be well, and for a yes, and is made once."""

from datetime import timedelta
from typing import Any

import pytest

from infra.commands import cutover
from infra.deployment import shadows
from infra.doctor.finding import State
from infra.shadow import nights
from infra.shadow.cutover import judge_mode, judge_nights
from infra.shadow.nights import Night, clean_nights
from infra.terminal import Confirm
from tests.aws.repair import Ran, Terminal
from tests.aws.world import World, at, client

NOW = "2026-12-31T09:59:59.250Z"
AT = "2026-12-31T10:00:00Z"


class Switched:
    """In place of a stack: what was changed about it."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.waited = 0
        self.named: tuple[object, ...] = ()

    def __call__(self, *named: object) -> "Switched":
        self.named = named[1:3]
        return self

    def wait_for_what_is_under_way(self) -> None:
        self.waited += 1

    def change_parameters(self, changed: dict[str, str], confirm: Confirm) -> bool:
        assert confirm()
        self.terminal.shadow = changed.pop("Shadow")
        assert not changed
        return True


@pytest.fixture
def shadow(world: World, terminal: Terminal) -> Terminal:
    """A shadow that has agreed with the old system for 31 nights."""
    world.now = at(NOW)
    terminal.shadow = "on"
    for ago in range(31):
        compared(world, ago)
    return terminal


@pytest.fixture
def stack(shadow: Terminal, monkeypatch: pytest.MonkeyPatch) -> Switched:
    switched = Switched(shadow)
    monkeypatch.setattr(cutover, "Stack", switched)
    return switched


def compared(world: World, ago: int, unexplained: int = 0) -> None:
    night = Night(world.now - timedelta(days=ago), 1_000, 900, 100, unexplained, "digest")
    nights.write(world.services.reports, night)


def run(terminal: Terminal, *words: str) -> Ran:
    return terminal.run(cutover.main, "--json", *words)


def test_a_shadow_that_has_agreed_for_so_long_is_switched_at_the_next_second(
    shadow: Terminal, stack: Switched
) -> None:
    ran = run(shadow, "--yes")
    assert ran.status == 0, ran.said
    assert shadow.shadow == AT
    assert stack.named == ("credits-local", "eu-west-1")
    assert (ran.printed.count("\n"), stack.waited) == (1, 1)
    assert "31 in a row without an unexplained difference" in ran.said
    assert f"The ledgers of stage local have counted since {AT}" in ran.said
    assert ran.facts == {"dry_run": False, "stage": "local", "switched": True, "at": AT}


def test_once_it_is_done_the_command_says_so_and_asks_nothing(
    shadow: Terminal, stack: Switched
) -> None:
    run(shadow, "--yes")
    ran = run(shadow)
    assert ran.status == 0
    assert ran.facts == {"dry_run": False, "stage": "local", "switched": False, "at": AT}
    assert stack.waited == 2


@pytest.mark.usefixtures("stack")
def test_of_a_deployed_stage_it_is_said_what_to_write_into_the_parameters(
    shadow: Terminal,
) -> None:
    ran = run(shadow, "--stage", "prod", "--yes")
    assert f'Write Shadow = "{AT}" under [prod] in infra/parameters.toml, and commit it' in ran.said
    assert "infra/parameters.toml" in run(shadow, "--stage", "prod").said


@pytest.mark.usefixtures("stack")
def test_nothing_is_switched_without_a_yes(shadow: Terminal) -> None:
    ran = run(shadow)
    assert (ran.status, shadow.shadow) == (1, "on")
    assert "There is nobody to ask" in ran.said
    assert "infra/parameters.toml" not in ran.said
    shadow.answer = "no"
    assert run(shadow).status == 1
    assert shadow.shadow == "on"
    ran = run(shadow, "--dry-run")
    assert (ran.status, shadow.shadow) == (0, "on")
    assert ran.facts == {"dry_run": True, "stage": "local", "switched": False, "at": None}
    shadow.answer = "y"
    assert run(shadow).status == 0
    assert shadow.shadow == AT


@pytest.mark.usefixtures("stack")
def test_a_night_with_a_difference_nobody_explained_stands_in_the_way_unless_a_team_decides(
    world: World, shadow: Terminal
) -> None:
    ran = run(shadow, "--nights", "32", "--yes")
    assert (ran.status, shadow.shadow) == (1, "on")
    assert "31 in a row without an unexplained difference, and 32 are wanted" in ran.said
    assert "nothing was compared on 2026-11-30" in ran.said
    compared(world, 10, unexplained=3)
    ran = run(shadow, "--yes")
    assert (ran.status, shadow.shadow) == (1, "on")
    assert "on 2026-12-21 there were 3 of 1,000 users" in ran.said
    assert "NIGHTS=10" in ran.said
    assert "Not switched. Nothing was changed." in ran.said
    assert ran.facts["switched"] is False
    assert run(shadow, "--nights", "11", "--yes").status == 1
    assert run(shadow, "--nights", "10", "--yes").status == 0


@pytest.mark.parametrize(
    ("nights", "said"),
    [
        ([], "nothing was compared on 2026-12-30"),
        ([(2, 5)], "nothing was compared on 2026-12-30"),
        ([(1, 0)], "nobody was compared on 2026-12-30"),
        ([(0, 5), (1, 5)], "nothing was compared on 2026-12-29"),
        ([(1, 5)], "nothing was compared on 2026-12-29"),
    ],
)
def test_the_day_that_ends_the_row_is_named(nights: list[tuple[int, int]], said: str) -> None:
    found = [
        Night(at(NOW) - ago * timedelta(days=1), users, users, 0, 0, "") for ago, users in nights
    ]
    judged = judge_nights(found, at(NOW).date(), 9)
    assert judged.says.endswith(f"and 9 are wanted: {said}")
    assert judged.fix.endswith(f"NIGHTS={clean_nights(found, at(NOW).date())}")


@pytest.mark.usefixtures("stack")
def test_with_no_nights_wanted_none_is_read(world: World, shadow: Terminal) -> None:
    damage(world)
    ran = run(shadow, "--yes")
    assert (ran.status, shadow.shadow) == (1, "on")
    assert "shadow/2026-12-31.json: is no JSON" in ran.said
    assert run(shadow, "--nights", "0", "--yes").status == 0


def damage(world: World) -> None:
    key = {"Bucket": world.settings.reports_bucket, "Key": "shadow/2026-12-31.json"}
    client("s3").put_object(**key, Body=b"?")


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize("parameter", ["off", None])
def test_a_stage_that_is_no_shadow_has_nothing_to_switch(
    shadow: Terminal, parameter: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shadow.shadow = parameter
    for _ in range(2):
        ran = run(shadow, "--yes")
        assert (ran.status, shadow.shadow) == (1, parameter)
        assert "local is no shadow: its ledgers count already" in ran.said
        monkeypatch.setattr(shadows, "shadow_of", lambda *_: parameter)  # None: not deployed
    assert judge_mode("local", parameter).state is State.BAD


@pytest.mark.parametrize("nights", ["-1", "101", "many"])
def test_a_number_of_nights_that_makes_no_sense_is_refused(shadow: Terminal, nights: Any) -> None:
    assert "must be a whole number from 0 to 100" in shadow.refused(
        cutover.main, f"--nights={nights}"
    )
