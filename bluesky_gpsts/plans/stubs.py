"""Building blocks of plans."""

import asyncio
from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
from bluesky.utils import FailedPause, FailedStatus, Msg, RunEngineControlException

__all__ = ["in_run", "off_loop", "plain_errors", "run_of", "what_is_missing"]

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

    async def wait() -> None:
        if not futures:
            futures.append(executor.submit(work))
        done = asyncio.wrap_future(futures[0])
        # An error is raised in the plan, below; asyncio need not report it as forgotten.
        done.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.wait([done])

    yield Msg("wait_for", None, [wait])
    try:
        return futures[0].result()
    except SystemExit as error:
        # It would end the RunEngine's own thread, and the session would wait for ever.
        raise RuntimeError(
            f"a function of the user's own called sys.exit({error.code!r})"
        ) from error


def what_is_missing(image: np.ndarray) -> str:
    """Say that an image (m) was stopped by an operator; nothing of a whole one."""
    whole = int(np.isfinite(image).all(axis=1).sum())
    if whole == len(image):
        return ""
    return f"the image has {whole} of {len(image)} lines: it was stopped at the controller"


def plain_errors(plan: Generator[Msg, Any, T]) -> Generator[Msg, Any, T]:
    """Raise what made a status fail, which says what was wrong, in place of the failed status."""
    try:
        return (yield from plan)
    except FailedStatus as error:
        if error.__cause__ is None:
            raise
        cause = error.__cause__
    raise cause


def in_run(plan: Generator[Msg, Any, str], md: dict[str, Any]) -> Generator[Msg, Any, str]:
    """Enclose a plan in a run whose stop document says why it ended.

    Parameters
    ----------
    plan : generator
        Returns why it ended.
    md : dict
        Metadata of the run.

    Returns
    -------
    str
        What `plan` returned.
    """
    return (yield from run_of(plan, md))[1]


def _said(error: Exception) -> str:
    """What a stop document says of an error; some have no words of their own."""
    if isinstance(error, FailedPause):
        return "interrupted where a plan cannot be resumed, such as with the tip in contact"
    return str(error) or type(error).__name__


def run_of(
    plan: Generator[Msg, Any, str], md: dict[str, Any]
) -> Generator[Msg, Any, tuple[str, str]]:
    """Do as `in_run` does; returns the run's uid and what `plan` returned."""

    def failed(error: Exception) -> Generator[Msg, Any, None]:
        if isinstance(error, RunEngineControlException):
            yield from bps.close_run(exit_status=error.exit_status)  # type: ignore[attr-defined]
        else:
            yield from bps.close_run(exit_status="fail", reason=_said(error))

    uid: str = yield from bps.open_run(md)
    reason: str = yield from bpp.contingency_wrapper(plan, except_plan=failed)
    yield from bps.close_run(exit_status="success", reason=reason)
    return uid, reason
