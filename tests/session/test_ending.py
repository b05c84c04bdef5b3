"""What becomes of the tip when a plan, a queue or the session ends."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import pytest
from bluesky.utils import RunEngineInterrupted

from bluesky_gpsts import startup
from bluesky_gpsts.catalog import open_catalog
from bluesky_gpsts.devices import WriteRefused
from bluesky_gpsts.devices.gate import Mode
from bluesky_gpsts.nanonis import Client
from bluesky_gpsts.plans import ending, home, survey, withdraw
from bluesky_gpsts.simulator import Simulator


@contextmanager
def _session(folder: Path, mode: Mode = "normal") -> Iterator[startup.Session]:
    with (
        Simulator("ws2", time_scale=0.0) as simulator,
        startup.start(
            host="127.0.0.1", ports=simulator.ports, catalog=folder, mode=mode
        ) as session,
    ):
        yield session


def test_a_plan_that_withdraws_is_no_alarm(tmp_path: Path) -> None:
    with _session(tmp_path / "catalog") as session:
        stm, stops = session.stm, []
        session.RE.subscribe(lambda name, doc: stops.append(doc), "stop")

        def plan() -> Iterator[object]:
            yield from bpp.run_wrapper(withdraw(stm))
            # The watchdog has time to see the tip withdrawn.
            yield from bps.sleep(0.3)

        session.RE(plan())
        assert stm.z_controller.withdrawn() and not stm.gate.alarm
        assert stops[0]["exit_status"] == "success"


def test_ends_of_a_plan(tmp_path: Path) -> None:
    with _session(tmp_path / "catalog") as session:
        stm, engine = session.stm, session.RE
        with pytest.raises(ValueError, match="one of leave, home, withdraw, not 'park'"):
            engine(ending(survey(stm), stm, "park"))  # type: ignore[arg-type]
        frame = stm.scan.frame()
        engine(bps.mv(stm.tip, (frame.x + 1e-9, frame.y)))
        engine(ending(survey(stm, pixels=16, lines=16, line_time=0.01), stm, "home"))
        assert stm.tip.x.get() == pytest.approx(frame.x, abs=1e-12)
        engine(bps.mv(stm.tip, (frame.x, frame.y + 1e-9)))
        engine(home(stm))
        assert stm.tip.y.get() == pytest.approx(frame.y, abs=1e-12)
        assert not stm.z_controller.withdrawn()

        def failing() -> Iterator[object]:
            yield from bps.null()
            raise ZeroDivisionError("in the plan")

        with pytest.raises(ZeroDivisionError):
            engine(ending(failing(), stm, "withdraw"))
        assert stm.z_controller.withdrawn() and not stm.gate.alarm


def test_a_rehearsal_leaves_the_tip_where_it_is(tmp_path: Path) -> None:
    with _session(tmp_path / "catalog", "dry_run") as session:
        for plan in (withdraw(session.stm), ending(bps.null(), session.stm, "withdraw")):
            session.RE(plan)
            assert not session.stm.z_controller.withdrawn()


def test_a_session_that_only_reads_does_not_withdraw(tmp_path: Path) -> None:
    with _session(tmp_path / "catalog", "read_only") as session:
        with pytest.raises(WriteRefused, match=r"stm\.emergency_stop\(\) does"):
            session.RE(withdraw(session.stm))
        assert not session.stm.z_controller.withdrawn()


def test_a_paused_plan_is_ended_when_the_session_is_closed(tmp_path: Path) -> None:
    stops = []
    with Simulator("ws2", time_scale=0.0) as simulator:
        session = startup.start(
            host="127.0.0.1", ports=simulator.ports, catalog=tmp_path / "catalog"
        )
        with session:
            stm = session.stm
            session.RE.subscribe(lambda name, doc: stops.append(doc), "stop")

            def plan() -> Iterator[object]:
                yield from bps.mv(stm.bias, 0.9)
                yield from bps.pause()

            with pytest.raises(RunEngineInterrupted):
                session.RE(bpp.stage_wrapper(bpp.run_wrapper(plan()), [stm]))
            assert session.RE.state == "paused" and stm.bias.get() == pytest.approx(0.9)
        assert session.RE.state == "idle"
        with Client("127.0.0.1", simulator.ports[0]) as client:
            assert client.call("Bias.Get") == pytest.approx((1.2,))
    assert [stop["exit_status"] for stop in stops] == ["abort"]


_SESSION = """
import signal
import sys
import time
# Under nohup it would be ignored, and so it would stay.
for name in ("SIGTERM", "SIGHUP"):
    signal.signal(getattr(signal, name), signal.SIG_DFL)
import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from bluesky.utils import RunEngineInterrupted
from bluesky_gpsts import startup
ports = sys.argv[1]
with startup.start(host="127.0.0.1", ports=ports, catalog=sys.argv[2]) as session:
    RE, stm = session.RE, session.stm
    def plan():
        yield from bps.mv(stm.bias, 0.9)
        if sys.argv[3] == "paused":
            yield from bps.pause()
        print("running", flush=True)
        yield from bps.sleep(600.0)
    try:
        RE(bpp.stage_wrapper(bpp.run_wrapper(plan(), md={"plan_name": "long"}), [stm]))
    except RunEngineInterrupted:
        print("running", flush=True)
        time.sleep(600.0)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM")
@pytest.mark.parametrize(("name", "state"), [("SIGHUP", "running"), ("SIGTERM", "paused")])
def test_a_session_that_is_told_to_end_withdraws_the_tip(
    tmp_path: Path, name: str, state: str
) -> None:
    """By a shutdown, or because its terminal is gone."""
    number = getattr(signal, name)
    catalog = tmp_path / "catalog"
    with Simulator("ws2", time_scale=0.0) as simulator:
        ports = ",".join(map(str, simulator.ports))
        process = subprocess.Popen(
            [sys.executable, "-c", _SESSION, ports, str(catalog), state],
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout is not None
            # What Bluesky says of a pause comes before.
            assert "running\n" in iter(process.stdout.readline, "")
            assert simulator.controller.tip.feedback is True
            process.send_signal(number)
            assert process.wait(120) == 128 + number
        assert simulator.controller.tip.feedback is False
    with open_catalog(catalog) as opened:
        stop = opened[-1].metadata["stop"]
    assert stop["exit_status"] == "abort" and stop["reason"] == "the session was told to end"
