"""Runs targets: mutates, executes, keeps what is answered in a new way, shrinks what fails."""

import json
import traceback
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from tests.fuzz.mutation import Mutator

ROOT = Path(__file__).parents[2]

_PRODUCT = tuple(f"{ROOT}/{name}" for name in ("app.py", "chalicelib/", "infra/"))
_HARNESS = f"{ROOT}/tests/"

MOST_KEPT = 300
"""Inputs of one target that are kept to be changed further."""

LARGEST_KEPT = 2_000
"""In bytes: what has grown large is not made larger still."""

MOST_ATTEMPTS = 2_000
"""How often a failing input is tried to be made smaller."""

Input = Any


class Kind(Enum):
    """What a target reads."""

    VALUE = "a JSON value"
    JSON = "a text of JSON"
    TEXT = "a text"
    BYTES = "bytes"

    def encode(self, given: Input) -> bytes:
        """An input as bytes, for whoever wants to replay it."""
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


class Answer(NamedTuple):
    """What became of an input; ``how`` tells answers of different kinds apart."""

    is_accepted: bool
    how: Hashable = None


def accepted(how: Hashable = None) -> Answer:
    """It was a valid value."""
    return Answer(is_accepted=True, how=how)


def declined(how: Hashable = None) -> Answer:
    """It was refused, with an error of our own."""
    return Answer(is_accepted=False, how=how)


@dataclass(frozen=True)
class Target:
    """Something that reads input from outside.

    ``call`` answers whether it took an input or refused it with an error of our own. Whatever it
    raises is a finding. ``share``: how often it is run, compared with the others. ``words``: what
    means something to it, beside what the seeds hold.
    """

    name: str
    kind: Kind
    seeds: tuple[Input, ...]
    call: Callable[[Input], Answer]
    share: int = 10
    words: tuple[str, ...] = ()


@dataclass
class Failure:
    """Something that went wrong in one way: where, how often, and the smallest input found."""

    where: str
    error: str
    given: Input
    times: int = 1


@dataclass
class Result:
    """What a target did."""

    target: Target
    executions: int = 0
    accepted: int = 0
    refused: int = 0
    failures: dict[str, Failure] = field(default_factory=dict)


def execute(target: Target, given: Input) -> Answer | Failure:
    """One input."""
    try:
        return target.call(given)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is what was found
        return Failure(_where(error), "".join(traceback.format_exception(error)), given)


def run(
    target: Target,
    executions: int,
    seed: int,
    tell: Callable[[int], object] = lambda _: None,
) -> Result:
    """So many inputs, the seeds first; ``tell`` hears every now and then how many there were.

    An input that is answered in a new way is kept, and changed further.
    """
    chance = Random(f"{seed} {target.name}")
    mutator = Mutator(chance, target.words)
    mutations: dict[Kind, Callable[[Input], Input]] = {
        Kind.VALUE: mutator.value,
        Kind.JSON: mutator.json_text,
        Kind.TEXT: mutator.text,
        Kind.BYTES: mutator.raw,
    }
    mutate = mutations[target.kind]
    result = Result(target)
    kept = list(target.seeds)
    seen: set[Hashable] = set()
    for number in range(executions):
        is_seed = number < len(target.seeds)
        # Every other one is made of a seed: those that are kept have something wrong already.
        choices = target.seeds if number % 2 else kept
        given = kept[number] if is_seed else mutate(choices[int(chance.random() * len(choices))])
        answer = execute(target, given)
        result.executions += 1
        if isinstance(answer, Failure):
            known = result.failures.setdefault(answer.where, answer)
            known.times += known is not answer
        else:
            result.accepted += answer.is_accepted
            result.refused += not answer.is_accepted
            if answer not in seen and len(seen) < MOST_KEPT:
                seen.add(answer)
                is_small = not is_seed and len(target.kind.encode(given)) <= LARGEST_KEPT
                kept += [given] if is_small else []
        if number % 500 == 499:
            tell(500)
    tell(executions % 500)
    for failure in result.failures.values():
        failure.given = shrunk(target, failure)
    return result


def _where(error: BaseException) -> str:
    """The kind of an error and the product's last line that it came by: one bug is found once."""
    frames = traceback.extract_tb(error.__traceback__)
    product = [frame for frame in frames if frame.filename.startswith(_PRODUCT)]
    last = (product or [frame for frame in frames if frame.filename.startswith(_HARNESS)])[-1]
    file = last.filename.removeprefix(f"{ROOT}/")
    return f"{type(error).__name__} at {file}:{last.lineno} ({last.name})"


# --- Smaller --------------------------------------------------------------------------------------


def shrunk(target: Target, failure: Failure) -> Input:
    """The smallest input found that fails in the same way."""
    given = failure.given
    if failure.where.startswith("RecursionError"):
        return given  # how deep is too deep depends on who asks
    attempts = 0
    is_smaller = True
    while is_smaller and attempts < MOST_ATTEMPTS:
        is_smaller = False
        for smaller in _smaller(given):
            attempts += 1
            found = execute(target, smaller)
            if isinstance(found, Failure) and found.where == failure.where:
                given, is_smaller = smaller, True
                break
            if attempts >= MOST_ATTEMPTS:
                break
    return given


def _smaller(given: Input) -> Iterator[Input]:
    """Inputs that are a little smaller, the smallest first."""
    if isinstance(given, str | bytes):
        yield from _shorter(given)
    elif isinstance(given, dict):
        for names in _shorter(list(given)):
            yield {name: given[name] for name in names}
        for name, value in given.items():
            for smaller in _smaller(value):
                yield {**given, name: smaller}
    elif isinstance(given, list):
        yield from _shorter(given)
        for place, value in enumerate(given):
            for smaller in _smaller(value):
                yield [*given[:place], smaller, *given[place + 1 :]]
    elif type(given) is int and abs(given) > 9:
        yield given // 10


def _shorter(given: Any) -> Iterator[Any]:
    """A sequence without a part of it, the largest parts first."""
    size = len(given)
    length = size // 2
    while length:
        for start in range(0, size, length):
            yield given[:start] + given[start + length :]
        length //= 2
    if size == 1:
        yield given[:0]
