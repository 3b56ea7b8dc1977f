"""How often to try again, and how long to wait before each further attempt."""

import random
import time
from collections.abc import Callable, Iterator

MOST_ATTEMPTS = 25
LONGEST_PAUSE_SECONDS = 0.5

Pause = Callable[[int], None]
"""Waits before attempt number n (1, 2, …) of something that lost a race."""


def longest_pause(attempt: int) -> float:
    """The ceiling, in seconds, of the pause before attempt number n: it doubles."""
    return min(LONGEST_PAUSE_SECONDS, 0.005 * 2.0**attempt)


def pause_with_jitter(attempt: int) -> None:
    """Full jitter under a doubling ceiling: writers that collided must not return together."""
    pause = random.uniform(0, longest_pause(attempt))  # noqa: S311 - spreads retries, guards nothing
    time.sleep(pause)


def attempts(pause: Pause) -> Iterator[int]:
    """Counts bounded attempts, pausing before each but the first."""
    for attempt in range(MOST_ATTEMPTS):
        if attempt:
            pause(attempt)
        yield attempt
