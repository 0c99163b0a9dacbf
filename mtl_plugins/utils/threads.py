"""Work spread over a few threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar('Item')
Result = TypeVar('Result')


def map_in_order(function: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int = 4) -> Iterator[Result]:
    """``map(function, items)`` by a few threads that are ``ahead`` items each before the reader at most: memory stays flat.

    When the reader stops, or a call raises, what has not begun is dropped and what has begun ends first.
    """
    workers = max(workers, 1)
    with ThreadPoolExecutor(workers) as pool:
        rest = iter(items)
        pending = deque(pool.submit(function, item) for item in islice(rest, ahead * workers))
        try:
            while pending:
                result = pending.popleft().result()
                pending.extend(pool.submit(function, item) for item in islice(rest, 1))
                yield result
        finally:
            for future in pending:
                future.cancel()
