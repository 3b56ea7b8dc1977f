"""What is tried: something that reads input from outside, and inputs that it takes."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

Input = Any


class Kind(Enum):
    """What a target reads."""

    VALUE = "a JSON value"
    JSON = "a text of JSON"
    TEXT = "a text"
    BYTES = "bytes"

    def encode(self, given: Input) -> bytes:
        """An input as bytes, to be replayed from a file."""
        if self is Kind.BYTES:
            return bytes(given)
        text = json.dumps(given) if self is Kind.VALUE else str(given)
        return text.encode("utf-8", "surrogatepass")

    def decode(self, raw: bytes) -> Input:
        """The inverse of `encode`."""
        if self is Kind.BYTES:
            return raw
        text = raw.decode("utf-8", "surrogatepass")
        return json.loads(text) if self is Kind.VALUE else text


@dataclass(frozen=True)
class Target:
    """Something that reads input from outside.

    ``call`` answers whether it took an input (True) or refused it with an error of our own (False).
    Whatever it raises is a finding. ``words``: what means something to it, beside what the seeds
    hold.
    """

    name: str
    kind: Kind
    seeds: tuple[Input, ...]
    call: Callable[[Input], bool]
    words: tuple[str, ...] = ()


class Amiss(Exception):
    """A target raised what is not an error of our own."""


def attempt(target: Target, given: Input) -> bool:
    """Whether the target took this input. Raises `Amiss`."""
    try:
        return target.call(given)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise Amiss(f"{target.name}: {type(error).__name__}: {error}") from error
