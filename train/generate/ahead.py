"""Pages are opened by threads while the model reads earlier ones, and come in batches of equal length."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def mapped_ahead(
    function: Callable[[ItemT], ResultT], items: Iterable[ItemT], ahead: int
) -> Iterator[ResultT]:
    """`function` of each item, in order; threads work on at most `ahead` items before their results are taken."""
    waiting: deque[Future[ResultT]] = deque()
    remaining = iter(items)
    threads = min(ahead, len(os.sched_getaffinity(0)) + 1)
    pool = ThreadPoolExecutor(max_workers=max(1, threads), thread_name_prefix="pages")
    try:
        for item in remaining:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def batches(
    items: Iterable[ItemT], length: Callable[[ItemT], int], size: int, most_waiting: int
) -> Iterator[list[ItemT]]:
    """Lists of at most `size` items, of equal `length` as far as that is possible while no more than `most_waiting`
    items wait for others of theirs: then, and at the end, neighbours in length go together.
    """
    groups: dict[int, list[ItemT]] = {}
    for item in items:
        group = groups.setdefault(length(item), [])
        group.append(item)
        if len(group) == size:
            yield groups.pop(length(item))
        elif sum(map(len, groups.values())) >= most_waiting:
            yield _take(groups, size, max(groups, key=lambda key: len(groups[key])))
    while groups:
        yield _take(groups, size, max(groups))


def _take(groups: dict[int, list[ItemT]], size: int, first: int) -> list[ItemT]:
    """At most `size` items: of the length `first`, then of those nearest to it."""
    taken: list[ItemT] = []
    for key in sorted(groups, key=lambda key: abs(key - first)):
        room = size - len(taken)
        taken += groups[key][:room]
        del groups[key][:room]
        if not groups[key]:
            del groups[key]
        if len(taken) == size:
            break
    return taken
