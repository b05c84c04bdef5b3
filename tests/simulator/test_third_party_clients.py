"""Two published clients, unmodified, drive the simulator.

Their known bugs are expected failures: each test states what the protocol document asks for. Both
clients loop for ever when a connection ends in the middle of a reply, so that here the simulator
always outlives the client.
"""

import socket
import struct
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from nanonis_spm import Nanonis
from nanonisTCP import nanonisTCP
from nanonisTCP.Bias import Bias
from nanonisTCP.BiasSpectr import BiasSpectr
from nanonisTCP.Current import Current
from nanonisTCP.FolMe import FolMe
from nanonisTCP.LockIn import LockIn
from nanonisTCP.Piezo import Piezo
from nanonisTCP.SafeTip import SafeTip
from nanonisTCP.Scan import Scan
from nanonisTCP.Signals import Signals
from nanonisTCP.Util import Util
from nanonisTCP.ZController import ZController

from bluesky_gpsts.nanonis import Client
from bluesky_gpsts.nanonis.codec import encode_error, pack_reply
from bluesky_gpsts.simulator import Fault, Simulator

Start = Callable[..., Simulator]
Connect = Callable[..., Client]

REFUSAL = "Error in command: signals.valget: signal index 200 is out of range"


@pytest.fixture
def padded(start: Start) -> Simulator:
    """Error replies with the return values filled in: neither client understands others."""
    return start(error_style="padded")


@pytest.fixture
def spm_to(stack: ExitStack) -> Callable[..., Nanonis]:
    def connect(simulator: Simulator, place: int = 0) -> Nanonis:
        connection = socket.create_connection((simulator.host, simulator.ports[place]), 5)
        return Nanonis(stack.enter_context(connection))

    return connect


@pytest.fixture
def tcp_to(stack: ExitStack) -> Callable[..., nanonisTCP]:
    def connect(simulator: Simulator, place: int = 1, version: int = 14718) -> nanonisTCP:
        client = nanonisTCP(simulator.host, simulator.ports[place], version=version)
        stack.callback(client.close_connection)
        return client

    return connect


@pytest.fixture
def spm(padded: Simulator, spm_to: Callable[..., Nanonis]) -> Nanonis:
    return spm_to(padded)


@pytest.fixture
def tcp(padded: Simulator, tcp_to: Callable[..., nanonisTCP]) -> nanonisTCP:
    return tcp_to(padded)


class Replay:
    """A connection that gives out recorded bytes in pieces, and then the end of the stream."""

    def __init__(self, data: bytes, piece: int) -> None:
        self.data, self.piece, self.ends = data, piece, 0

    def send(self, data: bytes) -> int:
        return len(data)

    def settimeout(self, seconds: float) -> None:
        pass

    def close(self) -> None:
        pass

    def recv(self, size: int) -> bytes:
        if not self.data and size:
            self.ends += 1
            if self.ends > 5000:
                raise RuntimeError("still reading, long after the end of the stream")
        size = min(size, self.piece)
        out, self.data = self.data[:size], self.data[size:]
        return out


BIAS_REPLY = pack_reply(b"Bias.Get", struct.pack(">f", 1.5) + encode_error())


def values(answer: Any) -> Any:
    """Values of a nanonis-spm reply without an error."""
    error, _, got = answer
    assert error == ""
    return got


# ---------------------------------------------------------------- nanonis-spm 1.0.9


def test_spm_bias_and_z_controller(spm: Nanonis) -> None:
    values(spm.Bias_Set(0.75))
    assert values(spm.Bias_Get()) == [0.75]
    values(spm.ZCtrl_SetpntSet(50e-12))
    assert values(spm.ZCtrl_SetpntGet())[0] == pytest.approx(50e-12)
    values(spm.ZCtrl_OnOffSet(0))
    assert values(spm.ZCtrl_OnOffGet()) == [0]
    assert values(spm.ZCtrl_StatusGet()) == [1]
    values(spm.ZCtrl_ZPosSet(5e-9))
    assert values(spm.ZCtrl_ZPosGet())[0] == pytest.approx(5e-9)
    values(spm.ZCtrl_Withdraw(1, -1))
    assert values(spm.ZCtrl_ZPosGet())[0] == pytest.approx(values(spm.ZCtrl_LimitsGet())[0])
    values(spm.SafeTip_PropsSet(1, 1, 2e-9))
    assert values(spm.SafeTip_PropsGet()) == [1, 1, pytest.approx(2e-9)]


def test_spm_moves(spm: Nanonis) -> None:
    values(spm.FolMe_SpeedSet(50e-9, 1))
    values(spm.FolMe_XYPosSet(1e-9, -2e-9, 1))
    assert values(spm.FolMe_XYPosGet(1)) == [1e-9, -2e-9]
    assert values(spm.Current_Get())[0] == pytest.approx(30e-12, rel=0.1)


def test_spm_scans(spm: Nanonis) -> None:
    values(spm.Scan_FrameSet(0.0, 0.0, 3e-9, 3e-9, 0.0))
    values(spm.Scan_BufferSet([0, 30], 32, 16))
    assert values(spm.Scan_BufferGet()) == [2, [(0,), (30,)], 32, 16]
    values(spm.Scan_PropsSet(2, 2, 3, "image", "a comment", ["Bias", "Current"], 0))
    values(spm.Scan_SpeedSet(0.0, 0.0, 0.2, 0.2, 2, 1.0))
    values(spm.Scan_Action(0, 1))
    assert values(spm.Scan_WaitEndOfScan(-1)) == [0, 0, ""]
    size, name, rows, columns, plane, up = values(spm.Scan_FrameDataGrab(30, 1))
    assert (size, name, rows, columns, up) == (5, "Z (m)", 16, 32, 1)
    assert plane.shape == (16, 32) and np.isfinite(plane).all() and np.ptp(plane) > 1e-12


def test_spm_signals_lock_in_and_piezo(spm: Nanonis) -> None:
    names = values(spm.Signals_NamesGet())[2]
    assert len(names) == 128 and names[24] == "Bias (V)"
    assert values(spm.Signals_ValGet(24, 0))[0] == pytest.approx(1.2)
    assert values(spm.Signals_ValsGet([24, 28], 1))[1] == [(np.float32(1.2),), (0.0,)]
    values(spm.LockIn_ModAmpSet(1, 5e-3))
    values(spm.LockIn_ModOnOffSet(1, 1))
    values(spm.LockIn_ModPhasFreqSet(1, 683.0))
    assert values(spm.LockIn_ModAmpGet(1)) == [pytest.approx(5e-3)]
    assert values(spm.LockIn_ModOnOffGet(1)) == [1]
    assert values(spm.LockIn_ModPhasFreqGet(1)) == [683.0]
    assert values(spm.Piezo_RangeGet())[:2] == [pytest.approx(1e-6)] * 2
    values(spm.Piezo_DriftCompSet(1, 1e-12, -2e-12, 0.0, 10.0))
    got = values(spm.Piezo_DriftCompGet())
    assert got[:3] == [1, pytest.approx(1e-12), pytest.approx(-2e-12)] and got[7] == 10.0


def test_spm_takes_a_spectrum(spm: Nanonis) -> None:
    values(spm.BiasSpectr_Open())
    values(spm.BiasSpectr_ChsSet([0, 86]))
    assert values(spm.BiasSpectr_ChsGet())[1] == [(0,), (86,)]
    assert values(spm.BiasSpectr_ChsGet())[4] == ["Current (A)", "LI Demod 1 X (A)"]
    values(spm.BiasSpectr_PropsSet(0, 1, 2, 64, 0.0, 0, 0))
    values(spm.BiasSpectr_LimitsSet(1.0, -1.5))
    assert values(spm.BiasSpectr_LimitsGet()) == [1.0, -1.5]
    timing = [0.1, 0.0, 0.1, 5.0, 0.002, 0.004, 0.1, 0.1]
    values(spm.BiasSpectr_TimingSet(*timing))
    assert values(spm.BiasSpectr_TimingGet()) == pytest.approx(timing)
    got = values(spm.BiasSpectr_Start(1, "base"))
    assert got[2] == ["Bias calc (V)", "Current (A)", "LI Demod 1 X (A)"]
    assert got[5].shape == (3, 64) and got[6] == len(got[7])
    np.testing.assert_allclose(got[5][0], np.linspace(1.0, -1.5, 64), atol=1e-6)
    assert values(spm.BiasSpectr_Start(0, ""))[3:5] == [0, 0]


def test_spm_tells_padded_errors(spm: Nanonis) -> None:
    assert spm.Signals_ValGet(200, 0)[0] == REFUSAL
    assert "99 V is outside" in spm.Bias_Set(99.0)[0]
    assert "no scan data" in spm.Scan_FrameDataGrab(30, 1)[0]
    assert "Please make sure it is running" in spm.AutoApproach_OnOffGet()[0]


def test_spm_drives_every_release(start: Start, spm_to: Callable[..., Nanonis]) -> None:
    for release in (10862, 13742, 14718):
        client = spm_to(start(protocol_release=release, error_style="padded"))
        values(client.Bias_Set(0.5))
        assert values(client.Bias_Get()) == [0.5]
        assert values(client.Scan_FrameGet())[2] == pytest.approx(3e-9)


@pytest.mark.xfail(strict=True, reason="declares no return value, and shows it as an error text")
def test_spm_status_of_the_spectroscopy(spm: Nanonis) -> None:
    assert values(spm.BiasSpectr_StatusGet()) == [0]


@pytest.mark.xfail(strict=True, reason="expects the tail of release 10862")
def test_spm_properties_of_the_spectroscopy(spm: Nanonis) -> None:
    values(spm.BiasSpectr_PropsSet(0, 1, 2, 64, 0.0, 1, 2))
    assert values(spm.BiasSpectr_PropsGet())[-2:] == [1, 0]


@pytest.mark.xfail(strict=True, reason="takes the 2-D texts for a list with a count")
def test_spm_properties_of_the_scan(spm: Nanonis) -> None:
    assert values(spm.Scan_PropsGet())[0] == 0


@pytest.mark.xfail(strict=True, reason="declares the texts as arguments are declared")
def test_spm_version(spm: Nanonis) -> None:
    assert values(spm.Util_VersionGet())[-1] == 14718


@pytest.mark.xfail(strict=True, reason="sends a body without the list where a text is given")
def test_spm_modules_as_a_text(spm: Nanonis) -> None:
    values(spm.Scan_PropsSet(0, 0, 0, "image", "", "Bias", 0))


@pytest.mark.xfail(strict=True, reason="prints errors, and raises none")
def test_spm_raises_errors(spm: Nanonis) -> None:
    with pytest.raises(Exception, match="99 V"):
        spm.Bias_Set(99.0)


@pytest.mark.xfail(strict=True, reason="looks for the error behind the values that are not there")
def test_spm_errors_of_a_real_controller(start: Start, spm_to: Callable[..., Nanonis]) -> None:
    assert spm_to(start()).Signals_ValGet(200, 0)[0] == REFUSAL


@pytest.mark.xfail(strict=True, reason="crashes where the error block is shorter than the values")
def test_spm_refused_picture(start: Start, spm_to: Callable[..., Nanonis]) -> None:
    assert "no scan data" in spm_to(start()).Scan_FrameDataGrab(30, 1)[0]


@pytest.mark.xfail(strict=True, reason="replaces the time-out by 1000 s")
def test_spm_keeps_the_time_out(spm: Nanonis) -> None:
    spm.Bias_Get()
    assert spm.connection.gettimeout() == 5


@pytest.mark.xfail(strict=True, reason="turns the numbers of the caller's list into numpy's")
def test_spm_leaves_arguments_alone(spm: Nanonis) -> None:
    channels = [0, 30]
    spm.Scan_BufferSet(channels, 32, 16)
    assert [type(channel) for channel in channels] == [int, int]


@pytest.mark.xfail(strict=True, reason="answers a reply to another command with an empty result")
def test_spm_wrong_name(padded: Simulator, spm: Nanonis) -> None:
    padded.inject(Fault("wrong name", "Bias.Get"))
    with pytest.raises(Exception, match="Wrong"):
        spm.Bias_Get()


@pytest.mark.xfail(strict=True, reason="decodes texts as Latin-1, not as the code page of Windows")
def test_spm_code_page(padded: Simulator, spm: Nanonis, connect: Connect) -> None:
    connect(padded, 3).call("Util.SessionPathSet", "5 €", 0)
    assert values(spm.Util_SessionPathGet())[1] == "5 €"


@pytest.mark.xfail(strict=True, reason="concatenates the decimal digits of a length's four bytes")
def test_spm_long_items() -> None:
    item = b"x" * 300
    assert Nanonis(None).decodeStringPrepended(struct.pack(">i", 300) + item, 0, 1) == ["x" * 300]


@pytest.mark.xfail(strict=True, raises=RuntimeError, reason="reads on for ever")
def test_spm_end_of_stream() -> None:
    with pytest.raises(ConnectionError):
        Nanonis(Replay(BIAS_REPLY[:-3], 4096)).Bias_Get()


@pytest.mark.xfail(strict=True, raises=struct.error, reason="expects the header in one piece")
def test_spm_header_in_pieces() -> None:
    assert values(Nanonis(Replay(BIAS_REPLY, 16)).Bias_Get()) == [1.5]


@pytest.mark.xfail(strict=True, reason="absent")
@pytest.mark.parametrize(
    "name", ["Scan_WaitEndOfLine", "Util_SessionPathSet", "BiasSpectr_SafeCond1Set"]
)
def test_spm_commands(name: str) -> None:
    assert hasattr(Nanonis, name)


# ---------------------------------------------------------------- nanonisTCP 1.1.5


def test_tcp_bias_and_z_controller(tcp: nanonisTCP) -> None:
    bias, control = Bias(tcp), ZController(tcp)
    bias.Set(0.75)
    assert bias.Get() == 0.75
    assert bias.RangeGet() == [["+-10 V"], 0]
    control.SetpntSet(50e-12)
    assert control.SetpntGet() == pytest.approx(50e-12)
    control.OnOffSet(False)
    assert control.OnOffGet() == 0 and control.StatusGet() == [1, "Off"]
    control.ZPosSet(5e-9)
    assert control.ZPosGet() == pytest.approx(5e-9)
    control.Withdraw(True)
    assert control.ZPosGet() == pytest.approx(control.LimitsGet()[0])
    safe = SafeTip(tcp)
    safe.PropsSet(1, 1, 2e-9)
    assert safe.PropsGet() == [1, 1, pytest.approx(2e-9)]


def test_tcp_moves(tcp: nanonisTCP) -> None:
    follow = FolMe(tcp)
    follow.SpeedSet(50e-9, True)
    assert follow.SpeedGet() == (pytest.approx(50e-9), True)
    follow.XYPosSet(1e-9, -2e-9, True)
    assert follow.XYPosGet(True) == (1e-9, -2e-9)
    assert Current(tcp).Get() == pytest.approx(30e-12, rel=0.1)


def test_tcp_scans(tcp: nanonisTCP) -> None:
    scan = Scan(tcp)
    scan.FrameSet(0.0, 0.0, 3e-9, 3e-9)
    assert scan.FrameGet()[2:4] == [pytest.approx(3e-9)] * 2
    scan.BufferSet([0, 30], 32, 16)
    assert scan.BufferGet() == [2, [0, 30], 32, 16]
    scan.PropsSet(2, 2, 3, "image", "a comment", ["Bias", "Current"], "off")
    scan.SpeedSet(fwd_line_time=0.2, bwd_line_time=0.2)
    scan.Start("up")
    assert scan.WaitEndOfScan() == [False, 0, ""]
    assert scan.StatusGet() is False
    name, plane, direction = scan.FrameDataGrab(30, 1)
    assert (name, direction, plane.shape) == ("Z (m)", "up", (16, 32))
    assert np.isfinite(plane).all() and np.ptp(plane) > 1e-12


def test_tcp_signals_lock_in_and_piezo(tcp: nanonisTCP) -> None:
    signals, lock_in, piezo = Signals(tcp), LockIn(tcp), Piezo(tcp)
    assert signals.NamesGet()[24] == "Bias (V)"
    assert signals.ValGet(24) == pytest.approx(1.2)
    lock_in.ModAmpSet(1, 5e-3)
    lock_in.ModOnOffSet(1, 1)
    lock_in.ModPhasFreqSet(1, 683.0)
    assert lock_in.ModAmpGet(1) == pytest.approx(5e-3)
    assert lock_in.ModOnOffGet(1) == 1 and lock_in.ModPhasFreqGet(1) == 683.0
    assert piezo.RangeGet()[:2] == [pytest.approx(1e-6)] * 2
    piezo.DriftCompSet(1, 1e-12, -2e-12, 0.0)
    assert piezo.DriftCompGet()[:3] == [1, pytest.approx(1e-12), pytest.approx(-2e-12)]


def test_tcp_takes_a_spectrum(tcp: nanonisTCP) -> None:
    spectroscopy = BiasSpectr(tcp)
    spectroscopy.Open()
    spectroscopy.ChsSet([0, 86])
    spectroscopy.PropsSet(num_points=64, back_sweep=2)
    spectroscopy.LimitsSet(1.0, -1.5)
    assert spectroscopy.LimitsGet() == {"start_value": 1.0, "end_value": -1.5}
    timing = [0.1, 0.0, 0.1, 5.0, 0.002, 0.004, 0.1, 0.1]
    spectroscopy.TimingSet(*timing)
    assert list(spectroscopy.TimingGet().values()) == pytest.approx(timing)
    assert spectroscopy.StatusGet() == 0
    got = spectroscopy.Start(True, "base")
    data = got["data_dict"]
    assert list(data) == ["Bias calc (V)", "Current (A)", "LI Demod 1 X (A)"]
    np.testing.assert_allclose(data["Bias calc (V)"], np.linspace(1.0, -1.5, 64), atol=1e-6)
    assert got["parameters"][:2] == [1.0, -1.5]
    spectroscopy.Start(False)


def test_tcp_raises_padded_errors(tcp: nanonisTCP) -> None:
    with pytest.raises(Exception, match="99 V is outside"):
        Bias(tcp).Set(99.0)
    with pytest.raises(Exception, match="signal index 200"):
        Signals(tcp).ValGet(200)
    assert Bias(tcp).Get() == pytest.approx(1.2)


def test_tcp_drives_every_release(start: Start, tcp_to: Callable[..., nanonisTCP]) -> None:
    for release in (10862, 13742, 14718):
        simulator = start(protocol_release=release, error_style="padded")
        client = tcp_to(simulator, version=release)
        Bias(client).Set(0.5)
        assert Bias(client).Get() == 0.5
        assert Scan(client).FrameGet()[2] == pytest.approx(3e-9)


def test_tcp_channels_of_the_oldest_release(
    start: Start, tcp_to: Callable[..., nanonisTCP]
) -> None:
    client = tcp_to(start(protocol_release=10862), version=10862)
    assert BiasSpectr(client).ChsGet() == [0, 86, 87]


@pytest.mark.xfail(strict=True, reason="reads the upper half of the status, which is always zero")
def test_tcp_errors_below_14000(start: Start, tcp_to: Callable[..., nanonisTCP]) -> None:
    client = tcp_to(start(protocol_release=13742, error_style="padded"), version=13742)
    with pytest.raises(Exception, match="99 V"):
        Bias(client).Set(99.0)


@pytest.mark.xfail(strict=True, reason="skips a word too many: the text loses four characters")
def test_tcp_text_of_an_error(tcp: nanonisTCP) -> None:
    with pytest.raises(Exception, match="^Error in command: signals.valget"):
        Signals(tcp).ValGet(200)


@pytest.mark.xfail(strict=True, reason="does not look for an error in a picture")
def test_tcp_refused_picture(tcp: nanonisTCP) -> None:
    with pytest.raises(Exception, match="no scan data"):
        Scan(tcp).FrameDataGrab(30, 1)


@pytest.mark.xfail(strict=True, reason="does not look for an error in a spectrum")
def test_tcp_refused_spectrum(tcp: nanonisTCP, padded: Simulator) -> None:
    # No sweep while another one runs, which the other connection has started.
    padded.controller.sweep_end = float("inf")
    with pytest.raises(Exception, match="already running"):
        BiasSpectr(tcp).Start(True)


@pytest.mark.xfail(strict=True, reason="lacks the count that release 14429 added")
def test_tcp_channels_of_the_spectroscopy(tcp: nanonisTCP) -> None:
    names = ["Current (A)", "LI Demod 1 X (A)", "LI Demod 1 Y (A)"]
    assert BiasSpectr(tcp).ChsGet() == ([0, 86, 87], names)


@pytest.mark.xfail(strict=True, reason="takes two 16-bit words for one of 32 bits")
def test_tcp_properties_of_the_spectroscopy(tcp: nanonisTCP) -> None:
    BiasSpectr(tcp).PropsSet(autosave=1)
    got = BiasSpectr(tcp).PropsGet()
    assert (got["autosave"], got["save_dialog"]) == (1, 0)


@pytest.mark.xfail(strict=True, reason="takes the error block for a part of the text")
def test_tcp_sweep_mode(tcp: nanonisTCP) -> None:
    assert BiasSpectr(tcp).MLSModeGet() == "Linear"


@pytest.mark.xfail(strict=True, reason="takes the number of parameters for the autopaste mode")
def test_tcp_properties_of_the_scan(tcp: nanonisTCP) -> None:
    Scan(tcp).PropsSet(autopaste="off")
    assert Scan(tcp).PropsGet()[-1] == 2


@pytest.mark.xfail(strict=True, raises=KeyError, reason="knows four of the seven actions")
def test_tcp_freezes_a_scan(tcp: nanonisTCP) -> None:
    Scan(tcp).Action("freeze")


@pytest.mark.xfail(strict=True, reason="refuses below 14000 what release 10862 documents")
def test_tcp_status_of_the_scan(start: Start, tcp_to: Callable[..., nanonisTCP]) -> None:
    assert Scan(tcp_to(start(protocol_release=10862), version=10862)).StatusGet() is False


@pytest.mark.xfail(strict=True, reason="expects the layout of release 10862 up to 14000")
def test_tcp_gains(start: Start, tcp_to: Callable[..., nanonisTCP]) -> None:
    gains, index = Current(tcp_to(start(protocol_release=13742), version=13742)).GainsGet()
    assert gains[index] == "LN 10^9"


@pytest.mark.xfail(strict=True, reason="asks for slots, which release 11798 has removed")
def test_tcp_slots(tcp: nanonisTCP) -> None:
    with pytest.raises(Exception, match="the command is not known"):
        Signals(tcp).InSlotsGet()


@pytest.mark.xfail(strict=True, raises=UnicodeDecodeError, reason="decodes texts as UTF-8 alone")
def test_tcp_code_page(padded: Simulator, tcp: nanonisTCP, connect: Connect) -> None:
    connect(padded, 3).call("Util.SessionPathSet", "5 µm", 0)
    assert Util(tcp).SessionPathGet() == "5 µm"


def replayed(tcp: nanonisTCP, data: bytes, piece: int) -> Bias:
    tcp.close_connection()
    tcp.s = Replay(data, piece)
    return Bias(tcp)


@pytest.mark.xfail(strict=True, raises=RuntimeError, reason="reads on for ever")
def test_tcp_end_of_stream(tcp: nanonisTCP) -> None:
    with pytest.raises(ConnectionError):
        replayed(tcp, BIAS_REPLY[:-3], 4096).Get()


@pytest.mark.xfail(strict=True, reason="expects 36 bytes of the header in one piece")
def test_tcp_header_in_pieces(tcp: nanonisTCP) -> None:
    assert replayed(tcp, BIAS_REPLY, 16).Get() == 1.5
