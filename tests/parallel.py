"""Work that is shared by processes: what the commands of the proof have too much of for one."""

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Share = TypeVar("Share")
Found = TypeVar("Found")


def in_processes(
    work: Callable[[Share], Found], shares: Iterable[Share], processes: int
) -> Iterator[Found]:
    """What ``work`` finds in each share, in order; a caller who stops asking ends the processes.

    ``work`` is a function of a module, and shares and findings can be pickled. With one process
    all happens in this one.
    """
    if processes == 1:
        yield from map(work, shares)
        return
    # Ctrl-C is for this process, which then ends the others.
    initializer, arguments = signal.signal, (signal.SIGINT, signal.SIG_IGN)
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, initializer, arguments) as pool:
        yield from pool.imap(work, shares)
