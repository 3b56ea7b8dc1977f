"""What if nothing had been different? A life with many faults, replayed under the plans it had."""

from rich.console import Console

from chalicelib.domain.calendar import Period
from infra import reach
from infra.terminal import progress_bar
from infra.whatif.past import Past
from infra.whatif.sources import Tables
from infra.whatif.tally import Question, outcome
from tests.aws.world import client
from tests.simulation.test_years import Troubled
from tests.simulation.years import live

USERS = 12
DAYS = 46


class Remembered(Troubled):
    """At its end, when all is done, everybody's past is read."""

    def _settle(self) -> None:
        super()._settle()
        tables = Tables(reach.Reach("dev", self.world.services, {}, {}, client), is_sample=False)
        users = [*self.oracle.subscriptions]
        with progress_bar(Console(stderr=True)) as progress:
            self.pasts = dict(tables.pasts(users, progress))


def test_under_the_plans_that_a_life_had_its_replay_is_every_ledger_to_the_credit() -> None:
    life = Remembered(USERS, seed=4)
    live(life, DAYS)
    plans = life.world.services.catalogue
    question = Question(plans, plans, Period(2026, 1), Period(2026, 2))
    spent = 0
    assert len(life.pasts) == USERS
    for user_id, past in life.pasts.items():
        assert isinstance(past, Past)
        found = outcome(question, past)
        assert found.is_reproduced, user_id
        assert found.would == found.was
        assert found.is_known
        spent += sum(month.spent for month in found.was)
    assert spent > 1_000
