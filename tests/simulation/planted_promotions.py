"""Bugs to plant in promotions; importing this enters them in the list of all bugs."""

from typing import Any

from infra.imports import promotions
from infra.imports.promotions import Promotion
from tests.simulation.planted import bug
from tests.simulation.planted_holds import BUGS

__all__ = ["BUGS", "OF_PROMOTIONS"]

_OTHERS = {*BUGS}


@bug(promotions, "adjust")
def _key_of_the_next_line(
    original: Any, services: Any, grant: Any, *, key: str, **more: Any
) -> Any:
    """The key of a promotion follows from what the user's ledger has already."""
    number = services.ledger.account(grant.user_id).next_number
    return original(services, grant, key=f"{key}-{number}", **more)


@bug(Promotion, "key_of")
def _key_of_the_user(_: Any, _promotion: Promotion, grant: Any) -> str:
    """A user gets one promotion and no other."""
    return str(grant.user_id)


@bug(promotions, "_sha256")
def _name_of_the_first(original: Any, value: Any) -> Any:
    """A promotion is known by its first user's grant alone."""
    return original(value[:1])


OF_PROMOTIONS = tuple(name for name in BUGS if name not in _OTHERS)
