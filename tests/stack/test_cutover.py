"""A shadow on the deployed stack: it works, sends nothing, and is switched once and for all."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from chalicelib.domain.instants import parse_instant
from infra import reach
from infra.commands import cutover, shadow, usages
from infra.commands.doctor import look
from infra.deployment import deploy
from infra.deployment.errors import DeployError
from infra.deployment.shadows import shadow_of
from infra.local import emulator, stacks
from infra.local.events import following
from infra.local.outbox import sent_mails
from infra.local.stacks import LocalStack, local_stack
from infra.shadow import nights
from infra.shadow.nights import Night
from tests.stack.conftest import Packaged, invoker_of, wait_for

TOLD = ("api", "queue-notifications", "sweep-zone")
"""The functions that queue what is to be sent, and that which says so."""

HEADER = "reference,user_id,at,kind,amount"


@pytest.fixture(scope="module")
def stack(packaged: Packaged) -> Iterator[LocalStack]:
    with local_stack(schedules=False, is_shadow=True, make_package=packaged) as deployed:
        yield deployed


@dataclass
class Shop:
    """A team with a shadow, and what its commands say."""

    stack: LocalStack
    packaged: Packaged
    capsys: pytest.CaptureFixture[str]

    def grant(self, key: str) -> None:
        event = {"user_id": "ada", "amount": 50, "description": "Goodwill", "actor": "ada"}
        answer = invoker_of(self.stack)("manual-allocate", {**event, "idempotency_key": key})
        assert answer.payload["success"]

    def switch(self, *words: str) -> tuple[int, str]:
        self.capsys.readouterr()
        status = cutover.main(list(words))
        return status, " ".join(self.capsys.readouterr().err.split())

    def deploy(self, shadow: str) -> list[str]:
        said: list[str] = []
        deploy.deploy(
            "local",
            self.stack.client,
            region=emulator.REGION,
            parameters=stacks.parameters(self.stack.issuer) | {"Shadow": shadow},
            say=said.append,
            make_package=self.packaged,
        )
        return said

    @property
    def shadow(self) -> str | None:
        return shadow_of(self.stack.client("cloudformation"), "local")


@pytest.fixture
def shop(
    stack: LocalStack,
    packaged: Packaged,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Shop:
    here = reach.reach_local(stack)
    monkeypatch.setattr(reach, "reach", lambda *_: here)
    monkeypatch.setattr(reach, "running_stack", lambda *_: stack)
    monkeypatch.setenv("COLUMNS", "200")
    return Shop(stack, packaged, capsys)


def variables_of(shop: Shop) -> dict[str, str | None]:
    """What each function is told of it."""
    lambda_ = shop.stack.client("lambda")
    told = {}
    for name, function in shop.stack.functions.items():
        found = lambda_.get_function_configuration(FunctionName=function)["Environment"]
        told[name] = found["Variables"].get("SHADOW_UNTIL")
    return {name: value for name, value in told.items() if value is not None}


def test_a_shadow_is_spent_compared_and_switched_and_nothing_old_is_ever_sent(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "FOLDER", tmp_path / "shadow")
    services = reach.reach("local").services
    values = {
        "user_id": "ada",
        "email": "ada@example.com",
        "timezone": "Europe/Paris",
        "plan": "pro",
        "billing_interval": "yearly",
        "status": "active",
        "started_at": "2025-01-01T00:00:00Z",
    }
    reach.enter(services, values, services.now())
    with following(shop.stack) as heard:
        shop.grant("shadow")
        file = tmp_path / "moves.csv"
        now = services.now()
        at = now.isoformat(timespec="seconds")
        file.write_text(f"{HEADER}\nshadow,ada,{at},adjustment,50\nu-1,ada,{at},usage,-40\n")
        assert usages.main([str(file)]) == 0
        assert [line.amount for line in services.ledger.history("ada")] == [-40, 50]
        started = (now - timedelta(hours=1)).isoformat(timespec="seconds")
        assert shadow.main([str(file), "--from", started]) == 0
        (night,) = nights.read(services.reports)
        assert (night.users, night.same, night.unexplained) == (1, 1, 0)
        assert variables_of(shop) == dict.fromkeys(TOLD, "on")
        assert "shadow" in [finding.check for finding in look("local", None, lambda _: None)[1]]

        for other in ("off", "2026-01-01T00:00:00Z"):
            with pytest.raises(DeployError, match="a deployment does not end that: make cutover"):
                shop.deploy(other)
        assert any("is a shadow: it sends nothing" in line for line in shop.deploy("on"))

        status, said = shop.switch("--yes")
        assert status == 1
        assert "1 in a row without an unexplained difference, and 31 are wanted" in said
        assert shop.shadow == "on"
        for day in range(31):
            night = Night(now - timedelta(days=day), 1_000, 990, 10, 0, "9f86d0")
            nights.write(services.reports, night)
        status, said = shop.switch("--dry-run")
        assert (status, shop.shadow) == (0, "on")
        assert "31 in a row without an unexplained difference" in said
        status, said = shop.switch("--yes")
        assert status == 0, said
        at = str(shop.shadow)
        assert now < parse_instant("at", at)
        assert f"The ledgers of stage local have counted since {at}" in said
        assert variables_of(shop) == dict.fromkeys(TOLD, at)

        wait_for(lambda: services.now() > parse_instant("at", at), "the instant of the switch")
        shop.grant("counts")
        (mail,) = wait_for(lambda: sent_mails(shop.stack), "the email")
        assert (mail["To"], "50 credits added" in mail["Subject"]) == (["ada@example.com"], True)
        assert next(iter(heard))["detail"]["number"] == 3

    status, said = shop.switch()
    assert status == 0
    assert f"have counted since {at}" in said
    for other in ("on", "off"):
        with pytest.raises(DeployError, match=f'write Shadow = "{at}" under'):
            shop.deploy(other)
    assert "No changes: stack credits-local is up to date." in shop.deploy(at)
    assert usages.main([str(file)]) == 1
    assert len(sent_mails(shop.stack)) == 1
