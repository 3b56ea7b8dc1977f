"""What the console remembers of the events it hears."""

from typing import Any

from infra.local.events import MOST_HEARD, Heard


def event(name: str, number: int, user_id: str = "42") -> dict[str, Any]:
    detail = {"id": f"{name} {user_id}-{number}", "user_id": user_id, "number": number}
    return {"detail-type": name, "detail": detail}


def shown(heard: Heard, user_id: str = "42") -> list[str]:
    return [found["detail"]["id"] for found in heard.of(user_id)]


def test_events_are_shown_newest_first_and_once_however_they_come() -> None:
    heard = Heard()
    for each in (
        event("credits.exhausted", 2),
        event("credits.used", 3, "7"),
        event("credits.used", 2),
        event("credits.adjusted", 1),
        event("credits.used", 2),
    ):
        heard.take(each)
    assert shown(heard) == ["credits.exhausted 42-2", "credits.used 42-2", "credits.adjusted 42-1"]
    assert shown(heard, "7") == ["credits.used 7-3"]
    assert shown(heard, "nobody") == []


def test_the_oldest_entries_are_forgotten() -> None:
    heard = Heard()
    for number in (1, *range(MOST_HEARD + 5, 1, -1)):
        heard.take(event("credits.used", number))
    last = MOST_HEARD + 5
    numbers = [found["detail"]["number"] for found in heard.of("42")]
    assert numbers == list(range(last, last - MOST_HEARD, -1))
