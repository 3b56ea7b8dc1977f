"""What the console remembers of the events it hears."""

from typing import Any

from infra.local.events import MOST_HEARD, Heard


def event(name: str, number: int, user_id: str = "42") -> dict[str, Any]:
    detail = {
        "id": f"{name} {user_id}-{number}",
        "user_id": user_id,
        "number": number,
        "posted_at": f"2026-07-01T00:{number:02}:00Z",
    }
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


def test_the_latest_of_all_users_are_newest_first_and_no_more_than_of_one() -> None:
    heard = Heard()
    for number in range(1, MOST_HEARD):
        heard.take(event("credits.used", number, user_id=f"user {number % 3}"))
    last = MOST_HEARD
    for name in ("credits.exhausted", "credits.used"):
        heard.take(event(name, last, user_id="42"))
    latest = [found["detail"]["id"] for found in heard.latest()]
    assert latest[:3] == [
        f"credits.exhausted 42-{last}",
        f"credits.used 42-{last}",
        f"credits.used user {(last - 1) % 3}-{last - 1}",
    ]
    assert len(latest) == MOST_HEARD
    assert "credits.used user 1-1" not in latest
