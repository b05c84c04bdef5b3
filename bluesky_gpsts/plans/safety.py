"""A guard before the RunEngine: every message of a plan is looked at before it runs.

The devices check again what reaches them. The two layers share the limits and nothing else.
"""

import logging
from collections.abc import Callable, Generator
from contextlib import ExitStack
from typing import Any

from bluesky.utils import Msg, RunEngineControlException, ensure_generator
from ophyd import Component as Cpt
from ophyd import Device

from bluesky_gpsts.devices import NanonisSTM, Watchdog
from bluesky_gpsts.devices.signals import Quantity
from bluesky_gpsts.nanonis import NanonisError
from bluesky_gpsts.plans.rehearsal import rehearse
from bluesky_gpsts.plans.veto import Veto

__all__ = ["AlarmRecord", "abort_on_alarm", "conditioning", "guard", "guarded"]

logger = logging.getLogger(__name__)

Plan = Generator[Msg, Any, Any]


class AlarmRecord(Device):
    """An alarm, as the run keeps it."""

    reason = Cpt(Quantity, value="", kind="normal")
    time = Cpt(Quantity, value=0.0, units="s", precision=3, kind="normal")


def guarded(plan: Any, stm: NanonisSTM, watchdog: Watchdog | None = None) -> Plan:
    """Let a plan run within the limits of the instrument, and watched.

    A message that the limits do not allow is not run: the error is raised in the plan, at the
    place of the message. After an alarm, each run that is open gets an event in a stream
    ``alarm``, and the alarm as the reason in its stop document. In a dry run the plan is rehearsed
    instead, see `bluesky_gpsts.plans.rehearse`.

    Parameters
    ----------
    plan : iterable of Msg
        Any plan.
    stm : NanonisSTM
        The microscope.
    watchdog : Watchdog, optional
        Watches while the plan runs, in a session that may write. One that may not leaves a tip that
        it does not drive to whoever does.

    Raises
    ------
    LimitError, TipWithdrawn, Alarm
        In the plan, instead of a message that is not allowed.
    """
    if stm.gate.mode == "dry_run":
        return (yield from rehearse(plan, stm))
    inner = ensure_generator(plan)
    veto = Veto(stm)
    open_bundles: set[Any] = set()
    watched = watchdog if stm.gate.mode == "normal" else None
    with ExitStack() as stack:
        if watched is not None:
            stack.enter_context(watched.watching())
        response: Any = None
        error: BaseException | None = None
        while True:
            try:
                msg = inner.throw(error) if error is not None else inner.send(response)
            except StopIteration as stop:
                return stop.value
            response = error = None
            try:
                veto.check(msg)
            except Exception as refusal:
                # Also when the controller cannot be asked: what is not known is not allowed.
                error = refusal
                continue
            if msg.command in ("create", "save", "drop"):
                (open_bundles.add if msg.command == "create" else open_bundles.discard)(msg.run)
            try:
                if msg.command == "close_run" and watched is not None:
                    watched.look_once_more()
                if msg.command == "close_run" and stm.gate.alarm:
                    response = yield from _close(stm, msg, msg.run in open_bundles)
                    open_bundles.discard(msg.run)
                elif msg.command == "close_run":
                    response = yield _with_changes(stm, msg)
                else:
                    response = yield msg
            except GeneratorExit:
                inner.close()
                raise
            except Exception as failure:
                error = failure


def _with_changes(stm: NanonisSTM, close: Msg) -> Msg:
    """Say in the reason of a run's end what somebody else has changed, unless it is said."""
    try:
        changes = stm.changed_by_others()
    except (NanonisError, OSError):
        logger.exception("whether somebody has changed settings cannot be read")
        return close
    said = close.kwargs.get("reason") or ""
    new = [sentence for sentence in changes.values() if sentence not in said]
    reason = "; ".join([said] * bool(said) + new)
    return close._replace(kwargs={**close.kwargs, "reason": reason}) if new else close


def _close(stm: NanonisSTM, close: Msg, bundling: bool) -> Plan:
    """Write the alarm into an open run, and close it.

    The abort that follows the alarm may come in the middle of this, which it must not break off.
    """
    record, run = AlarmRecord(name="alarm"), close.run
    record.reason.put(stm.gate.alarm)
    record.time.put(stm.gate.alarm_time)
    kwargs = {**close.kwargs, "exit_status": "abort", "reason": stm.gate.alarm}
    drop = Msg("drop", None, run=run)
    event = [
        Msg("create", None, name="alarm", run=run),
        Msg("read", record, run=run),
        Msg("save", None, run=run),
        close._replace(kwargs=kwargs),
    ]
    left = [drop, *event] if bundling else list(event)
    response: Any = None
    aborted: RunEngineControlException | None = None
    while left:
        msg = left.pop(0)
        try:
            response = yield msg
        except RunEngineControlException as error:
            aborted = error
            if msg.command == "read":
                # It was broken off, and the event would be empty.
                left = [drop, *event]
    if aborted is not None:
        raise aborted
    return response


def guard(stm: NanonisSTM, watchdog: Watchdog | None = None) -> Callable[[Any], Plan]:
    """Preprocessor for ``RE.preprocessors`` that guards every plan.

    Parameters
    ----------
    stm : NanonisSTM
        The microscope.
    watchdog : Watchdog, optional
        Watches while a plan runs.
    """

    def preprocess(plan: Any) -> Plan:
        return guarded(plan, stm, watchdog)

    return preprocess


def conditioning(plan: Any, stm: NanonisSTM) -> Plan:
    """Allow a plan that exists for it to pulse and to indent, within the limits.

    Parameters
    ----------
    plan : iterable of Msg
        The plan.
    stm : NanonisSTM
        The microscope.
    """
    with stm.gate.conditioning():
        return (yield from ensure_generator(plan))


def abort_on_alarm(engine: Any) -> Callable[[str], None]:
    """What a watchdog calls to end the plan that `engine` runs.

    A paused plan stays paused: nothing can be written, and it fails when it goes on.

    Parameters
    ----------
    engine : bluesky.RunEngine
        The RunEngine.
    """
    from bluesky.utils import TransitionError

    def abort(reason: str) -> None:
        if engine.state in ("idle", "paused"):
            return
        try:
            engine.abort(reason)
        except TransitionError:
            logger.info("the plan had ended before the alarm could abort it: %s", reason)

    return abort
