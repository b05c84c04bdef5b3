"""Limits, stop and the safety of a session, as a user meets them."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import pytest
from bluesky.utils import RunEngineInterrupted, TransitionError

from bluesky_gpsts import startup
from bluesky_gpsts.benchmarks import safety
from bluesky_gpsts.cli import main
from bluesky_gpsts.devices import SIMULATOR_LIMITS, Alarm, Limits, NanonisSTM
from bluesky_gpsts.devices.link import known_ports
from bluesky_gpsts.plans import survey
from bluesky_gpsts.simulator import Simulator


def test_limits_to_start_from_have_to_be_made_ones_own(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["limits"]) == 0
    text = capsys.readouterr().out
    path = tmp_path / "limits.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(ValueError, match="instrument must be the name"):
        Limits.load(path)
    path.write_text(text.replace('instrument = ""', 'instrument = "STM 1"'), "utf-8")
    assert Limits.load(path).safe_tip is True


def test_stop_withdraws(capsys: pytest.CaptureFixture[str]) -> None:
    with Simulator("ws2", time_scale=0.0) as simulator:
        assert main(["stop", "--ports", str(simulator.ports[1])]) == 0
        assert "everything stopped" in capsys.readouterr().out
        assert simulator.controller.tip.feedback is False


def test_stop_without_a_controller(capsys: pytest.CaptureFixture[str]) -> None:
    with Simulator("ws2", time_scale=0.0) as simulator:
        ports = simulator.ports
    assert main(["stop", "--ports", ",".join(map(str, ports))]) == 1
    assert "STOP AND WITHDRAW AT THE CONTROLLER" in capsys.readouterr().err


@pytest.mark.parametrize("ports", ["0", "70000", "many"])
def test_stop_with_ports_that_are_none(ports: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stop", "--ports", ports]) == 1
    assert "--ports must" in capsys.readouterr().err


def test_instrument_without_limits_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    folder = tmp_path / "catalog"
    with pytest.raises(ValueError, match="limits are required for 192.0.2.1"):
        startup.start(host="192.0.2.1", catalog=folder)
    broken = tmp_path / "limits.toml"
    broken.write_text("bias = [-1.0, 1.0]", "utf-8")
    with pytest.raises(ValueError, match="lacks instrument"):
        startup.start(host="192.0.2.1", limits=broken, catalog=folder)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mode": "readonly"}, "mode must be"),
        ({"ports": "6501"}, "three different ports .* not '6501'"),
        ({"ports": 6501}, "three different ports"),
        ({"ports": (6501, 6502, 6502, 6503)}, "three different ports"),
        ({"ports": (6501, 6502, 70000)}, "1 to 65535"),
        ({"ports": "6501,6502,x"}, "not '6501,6502,x'"),
        ({"ports": None}, "three different ports"),
        ({"host": ""}, "host must be a name"),
        ({"host": 5}, "host must be a name"),
        ({"limits": 5}, "limits must be a Limits"),
        ({"limits": "nowhere.toml"}, "no file of limits nowhere.toml; 'gpsts limits"),
        ({"seed": -1}, "seed must be"),
        ({"time_scale": "fast"}, "time_scale must be"),
        ({"sample": "cheese"}, "unknown sample 'cheese'"),
        ({"sample": None}, "a sample must be a name"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_started(
    wrong: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = tmp_path / "catalog"
    told: list[str] = []
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        startup.start(catalog=folder, tell=told.append, **wrong)
    assert told == [] and not folder.exists()


def test_ports_as_people_write_them(tmp_path: Path) -> None:
    with Simulator("ws2", time_scale=0.0) as simulator:
        ports = ", ".join(map(str, simulator.ports))
        assert known_ports(ports) == tuple(simulator.ports)
        assert NanonisSTM(ports=ports).connect().link.connected


def test_profile_takes_the_limits_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GPSTS_HOST", "192.0.2.1")
    monkeypatch.delenv("GPSTS_LIMITS", raising=False)
    with pytest.raises(ValueError, match="limits are required"):
        startup.start_from_environment()
    monkeypatch.setenv("GPSTS_LIMITS", str(tmp_path / "missing.toml"))
    with pytest.raises(OSError):
        startup.start_from_environment()


@pytest.mark.parametrize(("value", "read"), [("1", True), ("0", False)])
def test_the_environment_says_whether_surveys_are_read(
    value: str, read: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("GPSTS_HOST", "GPSTS_LIMITS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GPSTS_SURFACE", value)
    monkeypatch.setenv("GPSTS_TIME_SCALE", "0")
    monkeypatch.setenv("BLUESKY_GPSTS_CATALOG", str(tmp_path / "catalog"))
    with startup.start_from_environment(table=False, live=False) as session:
        assert (session.surface is not None) == read


def test_a_wrong_wish_to_read_surveys_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BLUESKY_GPSTS_CATALOG", str(tmp_path / "catalog"))
    monkeypatch.setenv("GPSTS_SURFACE", "yes")
    with pytest.raises(ValueError, match="GPSTS_SURFACE is 'yes'; give 1 to read survey images"):
        startup.start_from_environment()
    assert not (tmp_path / "catalog").exists()


def test_session_is_guarded_and_logs_its_writes(tmp_path: Path) -> None:
    path = tmp_path / "limits.toml"
    path.write_text(SIMULATOR_LIMITS.to_toml("STM 1"), "utf-8")
    with (
        Simulator("ws2", time_scale=0.0) as simulator,
        startup.start(
            host="127.0.0.1", ports=simulator.ports, limits=path, catalog=tmp_path / "catalog"
        ) as session,
    ):
        assert session.stm.instrument_limits.instrument == "STM 1"
        assert len(session.RE.preprocessors) == 1
        assert "gpsts stop --host 127.0.0.1 --ports" in session.description
        session.stm.bias.put(1.0)
        assert '"Bias.Set"' in (tmp_path / "catalog" / "audit.jsonl").read_text("utf-8")


@pytest.fixture
def session(tmp_path: Path) -> Iterator[startup.Session]:
    """A session on a simulator that is as fast as it can be."""
    with (
        Simulator("ws2", time_scale=0.0) as simulator,
        startup.start(
            host="127.0.0.1", ports=simulator.ports, catalog=tmp_path / "catalog"
        ) as session,
    ):
        yield session


def test_session_tells_that_it_was_stopped(session: startup.Session) -> None:
    """In place of the words that a pause has; there is nothing to resume."""
    stm, engine, stops = session.stm, session.RE, []
    engine.subscribe(lambda name, doc: stops.append(doc), "stop")
    ports = ",".join(map(str, stm.link.ports))

    def stop() -> None:
        assert main(["stop", "--ports", ports]) == 0

    threading.Timer(0.5, stop).start()
    with pytest.raises(Alarm, match="by gpsts stop.*cannot be resumed.*stm.reset_alarm"):
        engine(bpp.run_wrapper(bps.sleep(30.0)))
    assert engine.state == "idle"
    (told,) = stops
    assert told["exit_status"] == "abort" and "withdrawn from outside" in told["reason"]
    assert stm.z_controller.withdrawn()
    with pytest.raises(TransitionError):
        engine.resume()
    with pytest.raises(Alarm, match="there has been an alarm"):
        engine(survey(stm))


def test_paused_plan_ends_when_it_is_resumed_after_an_alarm(session: startup.Session) -> None:
    stm, engine, stops = session.stm, session.RE, []
    engine.subscribe(lambda name, doc: stops.append(doc), "stop")
    with pytest.raises(RunEngineInterrupted):
        engine(bpp.run_wrapper(bps.pause()))
    assert engine.state == "paused"
    stm.emergency_stop("for a test")
    with pytest.raises(Alarm, match="for a test"):
        engine.resume()
    assert engine.state == "idle"
    assert stops[0]["exit_status"] == "abort" and stops[0]["reason"] == "for a test"


def test_benchmark_of_safety_fails_where_harm_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the restoring of settings, then with it."""
    monkeypatch.setattr(safety, "_QUICK", 40)
    with monkeypatch.context() as patch:
        patch.setattr(NanonisSTM, "restore", lambda *_: None)
        assert main(["bench", "safety", "--quick"]) == 1
    assert "NO" in capsys.readouterr().out
    assert main(["bench", "safety", "--quick"]) == 0
