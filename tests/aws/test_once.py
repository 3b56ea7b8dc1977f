"""What moto does once for all tests leaves it as it was, also while others use it."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import moto.dynamodb.models
import pytest

from tests.aws import once


def test_transactions_at_the_same_time_leave_moto_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise no later test of the process could count on a transaction that is rolled back."""
    both_are_in, first_is_out = threading.Barrier(2), threading.Event()

    def transact(_backend: Any, items: list[Any]) -> None:
        both_are_in.wait(10)
        if items is second:
            assert first_is_out.wait(10)

    def first_out() -> None:
        once._backed_up_in_part(backend, first)
        first_is_out.set()

    backend: Any = object()
    first, second = list[Any](), list[Any]()
    monkeypatch.setattr(once, "_transact_write_items", transact)
    before = vars(moto.dynamodb.models)["copy"]
    with ThreadPoolExecutor(2) as pool:
        for each in (
            pool.submit(first_out),
            pool.submit(once._backed_up_in_part, backend, second),
        ):
            each.result()
    assert vars(moto.dynamodb.models)["copy"] is before
