"""Runs the checks side by side, each for a limited time. No check can stop another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from infra.doctor import account, issuer, mail, running, stack
from infra.doctor.finding import Finding, unknown
from infra.doctor.site import Site
from infra.doctor.trouble import TROUBLE, trouble

Check = Callable[[Site], Iterable[Finding]]

DEADLINE_SECONDS = 30.0
"""How long all checks together may take: they run at the same time."""

HERE: Mapping[str, Check] = {
    "python": account.python,
    "parameters": account.parameters,
    "issuer": issuer.keys,
    "scopes": issuer.scopes,
    "mail product": mail.product,
}
"""The checks before a deployment that do not ask AWS."""

ACCOUNT: Mapping[str, Check] = {
    "concurrency": account.concurrency,
    "stack": stack.state,
    "names": stack.names,
    "access log": account.access_log,
    "mail account": mail.account,
    "mail identity": mail.identity,
}
"""The checks before a deployment that ask about the account."""

RUNNING: Mapping[str, Check] = {
    "shadow": running.shadow,
    "alarms": running.alarms,
    "dead letters": running.dead_letters,
    "alarm topic": running.subscriptions,
    "ticks": running.ticks,
    "audit": running.audit,
    "completeness": running.completeness,
}
"""The checks of a deployed stack."""

NOT_LOCAL = ("python", "parameters", "scopes", "mail product", "mail identity", "alarm topic")
"""The checks that a stage on this machine does not need: its emails stay here, its alarms alert
nobody, and everybody there may have any token."""

Looking = Callable[[str], None]
"""Called with the name of the check that is being waited for."""


@dataclass
class _Run:
    """A running check. Its findings so far are in ``findings``."""

    name: str
    check: Check
    findings: list[Finding] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)

    def make(self, site: Site) -> None:
        try:
            for finding in self.check(site):
                self.findings.append(finding)
        except TROUBLE as error:
            self.findings.append(trouble(self.name, error))
        finally:
            self.is_over.set()


def examine(
    checks: Mapping[str, Check],
    site: Site,
    looking: Looking = lambda _: None,
    deadline: float = DEADLINE_SECONDS,
) -> Iterator[Finding]:
    """The findings of the checks, in their order. Reports checks that take too long."""
    end = time.monotonic() + deadline
    runs = [
        _Run(name, check)
        for name, check in checks.items()
        if not (site.is_local and name in NOT_LOCAL)
    ]
    for run in runs:
        # Daemons: an issuer that sends a byte a second must not keep the command from ending.
        threading.Thread(target=run.make, args=(site,), daemon=True, name=run.name).start()
    for run in runs:
        looking(run.name)
        is_over = run.is_over.wait(max(0.0, end - time.monotonic()))
        yield from list(run.findings)
        if not is_over:
            yield unknown(run.name, f"no answer within {deadline:.0f} s", "Try again")
