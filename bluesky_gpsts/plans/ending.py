"""What becomes of the tip when the work is done and nobody is there."""

from collections.abc import Generator
from typing import Any, Literal, get_args

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from bluesky.utils import Msg, ensure_generator

from bluesky_gpsts.devices import NanonisSTM

__all__ = ["AtEnd", "ending", "home", "withdraw"]

AtEnd = Literal["leave", "home", "withdraw"]


def withdraw(stm: NanonisSTM) -> Generator[Msg, Any, None]:
    """Withdraw the tip: what a queue for the night ends with.

    Parameters
    ----------
    stm : NanonisSTM
        The microscope.
    """
    yield from bps.trigger(stm.z_controller.withdrawal, wait=True)


def home(stm: NanonisSTM) -> Generator[Msg, Any, None]:
    """Move the tip to the middle of the scan frame.

    Parameters
    ----------
    stm : NanonisSTM
        The microscope; its feedback has to be on.
    """
    frame = stm.scan.frame()
    yield from bps.mv(stm.tip, (frame.x, frame.y))


def ending(plan: Any, stm: NanonisSTM, at_end: AtEnd) -> Generator[Msg, Any, Any]:
    """Run a plan, and say what becomes of the tip after it.

    Parameters
    ----------
    plan : iterable of Msg
        Any plan.
    stm : NanonisSTM
        The microscope.
    at_end : {"leave", "home", "withdraw"}
        "leave" it where it is, under feedback; "home": to the middle of the scan frame, if the
        plan did not fail; "withdraw", however the plan ended.

    Returns
    -------
    object
        What `plan` returned.

    Raises
    ------
    ValueError
        If `at_end` is something else; nothing was done then.
    """
    if at_end not in get_args(AtEnd):
        raise ValueError(f"at_end must be one of {', '.join(get_args(AtEnd))}, not {at_end!r}")

    def whole() -> Generator[Msg, Any, Any]:
        result = yield from ensure_generator(plan)
        if at_end == "home":
            yield from home(stm)
        return result

    if at_end != "withdraw":
        return (yield from whole())
    return (yield from bpp.finalize_wrapper(whole(), lambda: withdraw(stm)))
