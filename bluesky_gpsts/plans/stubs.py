"""Building blocks of plans."""

import asyncio
from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

from bluesky.utils import Msg

__all__ = ["off_loop"]

T = TypeVar("T")


def off_loop(executor: Executor, work: Callable[[], T]) -> Generator[Msg, Any, T]:
    """Do `work` in an executor while the RunEngine stays responsive.

    A pause in the meantime does not interrupt the work, and going back to a checkpoint does not
    repeat it: the message then finds the result that is there.

    Parameters
    ----------
    executor : concurrent.futures.Executor
        Where to do it.
    work : callable
        Function without arguments.

    Returns
    -------
    object
        What `work` returned; its exception is raised in the plan.
    """
    futures: list[Future[T]] = []

    async def wait() -> T:
        if not futures:
            futures.append(executor.submit(work))
        return await asyncio.shield(asyncio.wrap_future(futures[0]))

    yield Msg("wait_for", None, [wait])
    return futures[0].result()
