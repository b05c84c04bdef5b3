"""A microscope under random treatment, and the judge that knows what truly happened to it.

The judge goes by what the simulator hides from its clients and by what its controller holds, never
by what the software under test says of itself.
"""

import logging
import math
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from bluesky import RunEngine

from bluesky_gpsts.devices import SIMULATOR_LIMITS, Limits, NanonisSTM, Watchdog, background
from bluesky_gpsts.nanonis import Client, ConnectFailed
from bluesky_gpsts.plans.safety import abort_on_alarm, guarded
from bluesky_gpsts.simulator import Fault, Sample, Simulator
from bluesky_gpsts.simulator.faults import Faults
from bluesky_gpsts.simulator.truth import CRASH_GAP, Truth

__all__ = ["LIMITS", "World", "hurried"]

LIMITS = replace(SIMULATOR_LIMITS, instrument="random treatment", safe_tip=True, position=200e-9)
"""Limits of the treatment: the simulator's, with the safe tip required and half the piezo's range
forbidden, so that position is a limit of its own."""

_PATIENCE = 0.15
_ATTEMPTS = 20
_SLACK = 1.00001


@contextmanager
def hurried() -> Generator[None, None, None]:
    """Shorten the waits for a device that does not stop; quieten the logs of expected failures."""
    level, stopping = logging.root.manager.disable, background.STOPPING
    logging.disable(logging.CRITICAL)
    background.STOPPING = 0.3
    try:
        yield
    finally:
        background.STOPPING = stopping
        logging.disable(level)


class Timed(Truth):
    """Truth that also tells whether a large current was ended by the controller itself."""

    def __init__(self, limit: float, tripped: Callable[[], bool]) -> None:
        super().__init__()
        self.limit, self.tripped = limit, tripped
        self.unguarded = 0.0

    def observe(self, gap: Any, current: Any, *more: Any) -> Any:
        """Take a stretch of gaps and currents into account."""
        told = super().observe(gap, current, *more)
        largest = float(max(abs(current.max()), abs(current.min())))
        armed = self.tripped()
        if largest > self.limit * _SLACK and not armed:
            self.unguarded = max(self.unguarded, largest)
        return told


class Script(Faults):
    """Faults and events at the n-th command from now."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[int, Callable[[], None]]] = []
        self.after_each: Callable[[str], None] = lambda command: None

    def take(self, command: str) -> Fault | None:
        """Fault of the reply to `command`, after what is due has happened."""
        self.after_each(command)
        due = [act for left, act in self.events if left <= 0]
        self.events = [(left - 1, act) for left, act in self.events if left > 0]
        for act in due:
            act()
        return super().take(command)


class World:
    """A simulated microscope, a session on it, an operator beside it, and the judge.

    Parameters
    ----------
    sample : Sample
        What the tip hangs over.
    seed : int
        Of the simulator's noise and drift.
    engine : RunEngine, optional
        A RunEngine to be used again.
    limits : Limits
        Limits of the session.
    patience : float
        Wall-clock seconds that the session waits for an answer.
    """

    def __init__(
        self,
        sample: Sample,
        seed: int = 0,
        engine: RunEngine | None = None,
        limits: Limits = LIMITS,
        patience: float = _PATIENCE,
    ) -> None:
        self.limits, self.patience = limits, patience
        self.stack = ExitStack()
        self.simulator = self.stack.enter_context(Simulator(sample, seed=seed, time_scale=0.0))
        self.controller = self.simulator.controller
        self.script = Script()
        self.simulator.faults = self.simulator.server.faults = self.script
        tip = self.controller.tip
        self.truth = tip.truth = Timed(limits.current, lambda: self._guarded())
        self.operator = self.stack.enter_context(Client("127.0.0.1", self.simulator.ports[2]))
        self.engine = RunEngine({}) if engine is None else engine
        self.found: list[str] = []
        self.errors: list[str] = []
        self.tripped, self.told, self.conditioned = False, 0, 0
        self._images = self._sweeps = 0
        self.documents: list[tuple[str, dict[str, Any]]] = []
        self.killed = False
        self.touched: set[str] = set()
        self.prepare()
        self.stm = self.session()
        self.script.after_each = self._inspect

    def close(self) -> None:
        """Disconnect, and stop the simulator."""
        self.stm.disconnect()
        self.stack.close()

    def __enter__(self) -> "World":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def session(self) -> NanonisSTM:
        """Start another session on the microscope."""
        ports = self.simulator.ports
        stm = NanonisSTM(ports=(ports[0], ports[1], ports[3]), limits=self.limits)
        for client in (stm.link.main, stm.link.data, stm.link.emergency):
            client.timeout = self.patience
        for attempt in range(_ATTEMPTS):
            try:
                stm.connect()
                break
            except ConnectFailed:
                # The port is still busy with what the last session asked for.
                if attempt == _ATTEMPTS - 1:
                    raise
        stm.halting = self.patience
        stm.spectroscopy.patience = 2 * self.patience
        self.watchdog = Watchdog(stm, abort_on_alarm(self.engine), patience=self.patience)
        self.watchdog.prepare()
        self.killed = False
        return stm

    def prepare(self) -> None:
        """What the operator does before anything: safe tip on, sane settings, tip approached."""
        self.tripped = False
        c, call = self.controller, self.operator.call
        call("BiasSpectr.Stop")
        call("Scan.Action", 1, 0)
        call("FolMe.Stop")
        call("ZCtrl.Withdraw", 1, -1)
        with c.lock:
            # A person has looked at what tripped it.
            c.safe_tip.tripped = self.tripped = False
        call("ZCtrl.SetpntSet", 30e-12)
        call("Bias.Set", 1.2)
        call("ZCtrl.GainSet", 5e-12, 2e-4, 0.0)
        call("SafeTip.PropsSet", 0, 0, self.limits.current)
        call("ZCtrl.OnOffSet", 1)
        call("SafeTip.OnOffSet", 1)
        call("FolMe.SpeedSet", 100e-9, 1)
        frame = self.simulator.sample.conditions.frame
        call("Scan.FrameSet", frame.x, frame.y, 5e-9, 5e-9, 0.0)
        call("Scan.BufferSet", [0, 30], 16, 2)
        call("Scan.SpeedSet", 0.0, 0.0, 0.1, 0.1, 2, 1.0)
        call("BiasSpectr.LimitsSet", 1.0, -1.0)
        call("BiasSpectr.PropsSet", 2, 1, 2, 16, 0.0, 2, 2)
        call("BiasSpectr.AdvPropsSet", 1, 1, 2, 2)
        call("BiasSpectr.TimingSet", 0.01, 0.0, 0.001, 100.0, 5e-4, 1e-3, 0.001, 0.01)
        call("LockIn.ModAmpSet", 1, 5e-3)
        call("LockIn.ModOnOffSet", 1, 0)
        # An approach through the whole range takes the loop some seconds of simulated time.
        c.clock.pass_by(30.0)
        call("Bias.Get")
        self.tripped = False

    # ------------------------------------------------------------ doing

    def run(self, plan: Any) -> None:
        """Run a plan as a session does: guarded, and watched between its messages."""
        try:
            self.engine(self._watched(guarded(plan, self.stm)), lambda *d: self.documents.append(d))
        finally:
            if self.engine.state != "idle":
                self.engine.halt()

    def _watched(self, plan: Any) -> Generator[Any, Any, Any]:
        response: Any = None
        error: BaseException | None = None
        while True:
            self.watch()
            try:
                msg = plan.throw(error) if error is not None else plan.send(response)
            except StopIteration as stop:
                return stop.value
            response = error = None
            try:
                response = yield msg
            except GeneratorExit:
                plan.close()
                raise
            except Exception as failure:
                error = failure

    def watch(self) -> None:
        """One look of the watchdog, and what it does about it."""
        if self.stm.gate.alarm or self.killed:
            return
        reason = self.watchdog.look()
        if reason:
            try:
                self.stm.emergency_stop(reason)
            except ConnectFailed:
                self.killed = True

    def kill(self) -> None:
        """End the session as if its process were killed: nothing more comes from it."""
        self.killed = True
        link = self.stm.link
        for client in (link.main, link.data, link.emergency):
            client.close()

            def dead(*_: Any, **__: Any) -> Any:
                raise ConnectFailed("this session has been killed")

            client.connect = client._exchange = dead  # type: ignore[method-assign]
        self.stm.emergency_stop = dead  # type: ignore[method-assign]

    def revive(self) -> None:
        """A person looks after the instrument, where it needs one."""
        self.script.events.clear()
        self.script._waiting.clear()
        self.touched.clear()
        if not self.operator.connected:
            self.operator.connect()
        if self.killed:
            self.stm.disconnect()
            self.prepare()
            self.stm = self.session()
        elif self.stm.gate.alarm or self.withdrawn():
            self.prepare()
            self.stm.reset_alarm()
            self.stm.link.recover()
            self.watchdog.prepare()

    # ------------------------------------------------------------ judging

    def _guarded(self) -> bool:
        """Whether the controller ends a large current itself, or has just done so."""
        c = self.controller
        return c.safe_tip.tripped or math.isfinite(c.tip.overcurrent)

    def withdrawn(self) -> bool:
        """Whether the tip is at the top, or on its way there."""
        c = self.controller
        with c.lock:
            c.bring_up()
            lifted = float(c.tip.lift.values[-1, 0]) >= c.tip.z_limits[0] - 1e-9
            return not c.tip.feedback and (lifted or c.safe_tip.tripped)

    def state(self) -> dict[str, float]:
        """Bias, setpoint and feedback as the controller truly has them."""
        c = self.controller
        with c.lock:
            c.bring_up()
            return {
                "bias": float(c.tip.bias),
                "setpoint": float(c.tip.setpoint),
                "feedback": float(c.tip.feedback),
            }

    def _inspect(self, command: str) -> None:
        """What the controller holds after a command must be within the limits."""
        c, limits = self.controller, self.limits
        with c.lock:
            tip = c.tip
            if not limits.bias[0] * _SLACK <= tip.bias <= limits.bias[1] * _SLACK:
                self._find(f"a bias of {tip.bias:g} V after {command}")
            if not limits.setpoint[0] / _SLACK <= tip.setpoint <= limits.setpoint[1] * _SLACK:
                self._find(f"a setpoint of {tip.setpoint:g} A after {command}")
            if tip.p_gain > limits.p_gain * _SLACK:
                self._find(f"a gain of {tip.p_gain:g} m after {command}")
            if c.lockin.amplitude > limits.modulation * _SLACK:
                self._find(f"a modulation of {c.lockin.amplitude:g} V after {command}")
            if max(map(abs, c.compensation_velocity)) > limits.drift * _SLACK:
                self._find(f"a drift compensation of {c.compensation_velocity} after {command}")
            self._inspect_command(command)
            if command == "FolMe.XYPosSet":
                speed = c.move_speed if c.custom_speed else c.scan_speed()
                if speed > limits.speed * _SLACK:
                    self._find(f"a move at {speed:g} m/s")
                self._inspect_position(command)
                self._inspect_loop(command)
            if c.images != self._images:
                self._images = c.images
                self._inspect_position(command)
                if c.scan_speed() > limits.scan_speed * _SLACK:
                    self._find(f"an image at {c.scan_speed():g} m/s")

    def _inspect_command(self, command: str) -> None:
        """What a command that may do harm finds."""
        c, tip, limits = self.controller, self.controller.tip, self.limits
        if tip.closed and abs(tip.bias) < limits.smallest_bias / _SLACK:
            self._find(f"the feedback on at {tip.bias:g} V after {command}")
        if command == "ZCtrl.OnOffSet" and tip.feedback and self.tripped:
            self._find("the feedback switched on after the safe tip had withdrawn")
        # One that the controller has refused is none.
        if command == "BiasSpectr.Start" and c.sweeps != self._sweeps:
            self._sweeps = c.sweeps
            if c.sweep.z_offset < -limits.approach * _SLACK:
                self._find(f"a sweep that approaches by {-c.sweep.z_offset:g} m")
            if self.told > 1:
                self._find("a sweep with a tip that the safe tip had withdrawn")
        # Between the last reading and the start of a sweep it may trip: nobody can know. One
        # reading may be the watchdog's, whose alarm is on its way; the second is the plan's own.
        known = self.tripped or c.safe_tip.tripped
        self.told = self.told + (command == "ZCtrl.StatusGet") if known else 0
        # What trips it within the command itself is known to the next one.
        self.tripped = self.tripped or c.safe_tip.tripped
        if command in ("Bias.Pulse", "TipShaper.Start"):
            self.conditioned += 1
            if self.conditioned > limits.conditioning_per_hour:
                self._find(f"{command} though no more were allowed")

    def _inspect_position(self, command: str) -> None:
        ends = abs(self.controller.tip.path.values).max()
        if ends > self.limits.position * _SLACK:
            self._find(f"the tip at {ends:g} m after {command}")

    def _inspect_loop(self, command: str) -> None:
        tip = self.controller.tip
        # An operator who switches it off within the millisecond before is not our doing.
        if "feedback" in self.touched:
            return
        if not tip.feedback and tip.lift.values[-1, 0] < tip.z_limits[0] - 1e-9:
            self._find(f"the tip moved blindly by {command}")

    def _find(self, what: str) -> None:
        if what not in self.found:
            self.found.append(what)

    def judge(self, before: dict[str, float] | None = None) -> list[str]:
        """What has gone wrong so far, after an operation that began with the state `before`.

        Without `before` nothing had to be put back.
        """
        truth = self.simulator.truth
        if truth.crashes:
            self._find(f"{truth.crashes} crashes")
        if truth.smallest_gap < CRASH_GAP:
            self._find(f"a gap of {truth.smallest_gap * 1e9:.3f} nm")
        if self.truth.unguarded:
            self._find(f"{self.truth.unguarded:g} A that nothing ended")
        if before is not None and not self.killed and not self.withdrawn():
            after = self.state()
            for name, value in before.items():
                if not math.isclose(after[name], value, rel_tol=1e-5, abs_tol=1e-15):
                    self._find(f"{name} was {value:g}, and is {after[name]:g}")
        return self.found
