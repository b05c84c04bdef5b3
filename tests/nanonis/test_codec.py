"""The codec, against every layout of the command table and against bytes that nobody meant."""

import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bluesky_gpsts.nanonis import CommandError, ProtocolError, UnsupportedCommand
from bluesky_gpsts.nanonis.codec import (
    HEADER_SIZE,
    MAX_BODY,
    decode_fields,
    decode_reply,
    encode_error,
    encode_fields,
    pack_reply,
    pack_request,
    unpack_header,
)
from bluesky_gpsts.nanonis.commands import RELEASES, Command, Field, command, command_names

INTEGERS = {
    "u16": (0, 2**16 - 1),
    "i16": (-(2**15), 2**15 - 1),
    "u32": (0, 2**32 - 1),
    "i32": (-(2**31), 2**31 - 1),
}
ERROR_TEXT = "Error in command: zctrl.zposset: switch the Z-Controller off first"
HOSTILE = (2**31 - 1, 2**30, 2**24, 65536, -1, -(2**31))

deterministic = settings(derandomize=True, deadline=None, database=None)


def layouts() -> list[Command]:
    """Every layout that one of the three releases uses, once."""
    found: dict[tuple[str, int], Command] = {}
    for release in RELEASES:
        for name in command_names():
            try:
                layout = command(name, release)
            except UnsupportedCommand:
                continue
            found[layout.name, layout.since] = layout
    return list(found.values())


LAYOUTS = layouts()


def survives(text: str) -> bool:
    """Whether a text is read back as written: cp1252 that looks like UTF-8 is not."""
    try:
        data = text.encode("cp1252")
        return data.decode("utf-8") == text
    except UnicodeError:
        return True


TEXTS = st.text(
    st.characters(codec="utf-8", max_codepoint=0x2200, exclude_categories=["Cs", "Cc"]), max_size=12
).filter(survives)


def scalars(kind: str) -> st.SearchStrategy[Any]:
    if kind in INTEGERS:
        low, high = INTEGERS[kind]
        return st.integers(low, high)
    if kind == "f64":
        return st.floats(allow_nan=False, allow_infinity=False)
    return st.floats(width=32, allow_nan=kind == "f32?", allow_infinity=False)


@st.composite
def values_of(draw: st.DrawFn, fields: tuple[Field, ...]) -> list[Any]:
    """Values that `fields` can carry."""
    values: list[Any] = []
    count = 0
    for field in fields:
        kind, _, suffix = field.type.partition("[")
        item = TEXTS if kind == "str" else scalars(kind)
        if not suffix:
            values.append(draw(item))
            continue
        if suffix == ",]":
            rows, columns = draw(st.sampled_from([(0, 0), (1, 1), (2, 3), (3, 1)]))
            drawn = [[draw(item) for _ in range(columns)] for _ in range(rows)]
            values.append(drawn if kind == "str" else np.reshape(drawn, (rows, columns)))
            continue
        if suffix != "=]":
            count = draw(st.integers(0, 4))
        values.append([draw(item) for _ in range(count)])
    return values


def same(sent: Any, got: Any) -> bool:
    if isinstance(got, np.ndarray):
        return got.shape == np.shape(sent) and np.array_equal(got, np.asarray(sent, got.dtype))
    if isinstance(sent, float) and np.isnan(sent):
        return bool(np.isnan(got))
    return bool(got == sent)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: f"{layout.name}-{layout.since}")
@settings(deterministic, max_examples=6)
@given(data=st.data())
def test_every_layout_round_trips(layout: Command, data: st.DataObject) -> None:
    sent = data.draw(values_of(layout.request))
    got = decode_fields(layout.request, encode_fields(layout.request, sent))
    assert all(map(same, sent, got)) and len(got) == len(sent)
    sent = data.draw(values_of(layout.response))
    got = decode_reply(layout, encode_fields(layout.response, sent) + encode_error())
    assert all(map(same, sent, got)) and len(got) == len(sent)


def test_the_table_covers_the_releases() -> None:
    assert len(LAYOUTS) >= 210
    assert {layout.since for layout in LAYOUTS} >= set(RELEASES)


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize("text", [ERROR_TEXT, "Cannot access the module.", ""])
@pytest.mark.parametrize("padded", [False, True], ids=["alone", "padded"])
def test_both_shapes_of_errors(padded: bool, text: str) -> None:
    for layout in LAYOUTS:
        empty: list[Any] = [
            [] if "[" in field.type else "" if field.type == "str" else 0
            for field in layout.response
        ]
        body = encode_fields(layout.response, empty) if padded else b""
        with pytest.raises(CommandError) as caught:
            decode_reply(layout, body + encode_error(1, text))
        assert (caught.value.command, caught.value.status) == (layout.name, 1)
        assert caught.value.text == text
        assert layout.name in str(caught.value)


@pytest.mark.parametrize("extra", [4, 8, 11])
def test_bytes_before_the_error_block(extra: int) -> None:
    for layout in LAYOUTS:
        with pytest.raises(CommandError) as caught:
            decode_reply(layout, bytes(range(1, extra + 1)) + encode_error(1, ERROR_TEXT))
        assert caught.value.text == ERROR_TEXT


def test_data_that_looks_like_an_error_is_data() -> None:
    # One channel with index 8, then the empty error block: also status 1 and 8 bytes of text.
    layout = command("BiasSpectr.ChsGet", 10862)
    body = struct.pack(">ii", 1, 8) + encode_error()
    assert body == struct.pack(">Ii", 1, 8) + bytes(8)
    (channels,) = decode_reply(layout, body)
    assert channels.tolist() == [8]
    assert decode_reply(command("BiasSpectr.StatusGet"), bytes([0, 0, 0, 1]) + encode_error()) == (
        1,
    )


def test_error_text_in_the_code_page_of_windows() -> None:
    body = encode_error(1, "Temperatur 4,5 °C überschritten")
    assert b"\xb0C \xfcber" in body
    with pytest.raises(CommandError, match="4,5 °C überschritten"):
        decode_reply(command("Bias.Get"), body)


def test_bytes_that_cp1252_leaves_undefined_do_not_stop_anything() -> None:
    (text,) = decode_reply(
        command("Util.SessionPathGet"), struct.pack(">i", 3) + b"a\x81\xff" + encode_error()
    )
    assert text.startswith("a") and len(text) == 3


@pytest.mark.parametrize("body", [b"", encode_error(), b"\0" * 11, encode_error() * 2])
def test_a_reply_without_its_values_is_no_success(body: bytes) -> None:
    with pytest.raises(ProtocolError, match="Bias.Get") as caught:
        decode_reply(command("Bias.Get"), body)
    assert caught.value.raw == body


# ---------------------------------------------------------------- fuzz


@settings(deterministic, max_examples=600)
@given(st.sampled_from(LAYOUTS), st.binary(max_size=120))
@example(command("BiasSpectr.ChsGet", 13742), struct.pack(">iii", 0, -5, 7))
def test_arbitrary_bytes(layout: Command, body: bytes) -> None:
    try:
        assert len(decode_reply(layout, body)) == len(layout.response)
    except (ProtocolError, CommandError):
        pass
    for fields in (layout.request, layout.response):
        try:
            assert len(decode_fields(fields, body)) == len(fields)
        except ProtocolError:
            pass


@settings(deterministic, max_examples=400)
@given(data=st.data(), layout=st.sampled_from([c for c in LAYOUTS if c.response]))
def test_damaged_replies(data: st.DataObject, layout: Command) -> None:
    body = bytearray(
        encode_fields(layout.response, data.draw(values_of(layout.response))) + encode_error()
    )
    position = data.draw(st.integers(0, len(body) - 1))
    damage = data.draw(st.sampled_from(["cut", "insert", "flip", "count"]))
    if damage == "cut":
        del body[position:]
    elif damage == "insert":
        body[position:position] = data.draw(st.binary(min_size=1, max_size=9))
    elif damage == "flip":
        body[position] ^= data.draw(st.integers(1, 255))
    else:
        body[position : position + 4] = struct.pack(">i", data.draw(st.sampled_from(HOSTILE)))
    try:
        assert len(decode_reply(layout, body)) == len(layout.response)
    except (ProtocolError, CommandError):
        pass


def test_counts_that_promise_too_much_allocate_nothing() -> None:
    arrays = [c for c in LAYOUTS if any("[" in f.type for f in c.response)]
    assert len(arrays) > 15
    tracemalloc.start()
    try:
        for layout in arrays:
            body = bytes(64)
            for place in range(0, 40, 2):
                for count in HOSTILE:
                    forged = bytearray(body)
                    forged[place : place + 4] = struct.pack(">i", count)
                    try:
                        decode_reply(layout, forged)
                    except (ProtocolError, CommandError):
                        pass
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


# Rows without columns, columns without rows, and products beyond 64 bits.
@pytest.mark.parametrize("shape", [(2**31 - 1, 0), (2**31 - 1, 2**31 - 1), (-1, 4), (-2, -2)])
def test_pictures_of_impossible_shape(shape: tuple[int, int]) -> None:
    for name, fill in (("Scan.FrameDataGrab", 0), ("BiasSpectr.Start", 0)):
        layout = command(name)
        prefix = struct.pack(">i", fill) if name.startswith("Scan") else struct.pack(">ii", 0, 0)
        body = prefix + struct.pack(">ii", *shape) + bytes(16) + encode_error()
        with pytest.raises(ProtocolError):
            decode_reply(layout, body)


@settings(deterministic, max_examples=300)
@given(st.binary(max_size=60))
@example(b"Bias.Get".ljust(32, b"\0") + struct.pack(">i", 4) + bytes(4))
def test_arbitrary_headers(header: bytes) -> None:
    try:
        name, size, _ = unpack_header(header)
    except ProtocolError:
        return
    assert len(name) == 32 and 0 <= size <= MAX_BODY


@pytest.mark.parametrize("size", [-1, MAX_BODY + 1, 2**31 - 1, -(2**31)])
def test_header_with_an_impossible_size(size: int) -> None:
    with pytest.raises(ProtocolError, match=f"{size} bytes"):
        unpack_header(struct.pack(">32siI", b"Bias.Get", size, 0))


def test_headers() -> None:
    request = pack_request("Bias.Set", b"1234")
    assert len(request) == HEADER_SIZE + 4
    name, size, respond = unpack_header(request[:HEADER_SIZE])
    assert (name, size, respond) == (b"Bias.Set".ljust(32, b"\0"), 4, 1)
    assert unpack_header(pack_request("Bias.Set", b"", respond=False))[2] == 0
    # The name goes back byte by byte, and four bytes of zero close the header.
    assert pack_reply(name, b"ab") == name + b"\0\0\0\x02" + bytes(4) + b"ab"


# ---------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("Bias.Set", (float("nan"),), "Bias value must be a finite number"),
        ("Bias.Set", (float("-inf"),), "finite"),
        ("Bias.Set", (1e39,), "too large for 32 bits"),
        ("Bias.Set", (), r"takes 1 values \(Bias value\), got 0"),
        ("Bias.Get", (1.0,), "no arguments"),
        ("FolMe.XYPosSet", (float("nan"), 0.0, 1), "X must be a finite"),
        ("BiasSpectr.AdvPropsSet", (65536, 0, 0, 0), "0 to 65535"),
        ("BiasSpectr.AdvPropsSet", (-1, 0, 0, 0), "0 to 65535"),
        ("BiasSpectr.AdvPropsSet", (0.5, 0, 0, 0), "whole number"),
        ("ZCtrl.Withdraw", (1, 2**31), "must lie in"),
        ("BiasSpectr.ChsSet", ([0, 2**31],), "must lie in"),
        ("BiasSpectr.ChsSet", ([0.5],), "whole numbers"),
        ("Pattern.CloudSet", (1, [0.0, 1.0], [0.0]), "2 items"),
        ("Pattern.CloudSet", (1, [0.0], [float("nan")]), "finite"),
        ("Pattern.CloudSet", (1, [1e39], [0.0]), "finite"),
    ],
)
def test_arguments_that_do_not_fit(name: str, values: tuple[Any, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        encode_fields(command(name).request, values)


def test_a_threshold_may_be_nan() -> None:
    # NaN leaves the threshold of a safety condition as it is.
    layout = command("BiasSpectr.SafeCond1Set")
    body = encode_fields(layout.request, (1, float("nan"), -1, 2))
    assert np.isnan(decode_fields(layout.request, body)[1])


def test_rows_that_were_not_scanned_are_nan() -> None:
    plane = np.array([[1.0, 2.0], [np.nan, np.nan]])
    layout = command("Scan.FrameDataGrab")
    body = encode_fields(layout.response, ("Z (m)", plane, 1)) + encode_error()
    _, got, _ = decode_reply(layout, body)
    np.testing.assert_array_equal(got, plane)
    assert got.dtype == np.float32 and got.dtype.isnative and got.flags.writeable


def test_layouts_follow_the_release() -> None:
    assert [f.type for f in command("Current.GainSet", 10862).request] == ["u16"]
    assert [f.type for f in command("Current.GainSet", 14718).request] == ["i32", "i32"]
    assert [f.type for f in command("BiasSpectr.ChsGet", 14000).response][-1] == "str[b]"
    with pytest.raises(UnsupportedCommand, match="R13742; this controller is R10862"):
        command("Util.VersionGet", 10862)
    with pytest.raises(UnsupportedCommand, match="'Bias.Sett'"):
        command("Bias.Sett")
