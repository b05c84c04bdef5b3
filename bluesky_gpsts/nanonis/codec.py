"""Bytes of the Nanonis TCP protocol: headers, bodies and the error block, big-endian.

The client and the simulator share this module; nothing here touches a socket.
"""

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from bluesky_gpsts.nanonis.commands import Command, Field
from bluesky_gpsts.nanonis.errors import CommandError, ProtocolError

__all__ = [
    "HEADER_SIZE",
    "MAX_BODY",
    "decode_fields",
    "decode_reply",
    "encode_error",
    "encode_fields",
    "pack_reply",
    "pack_request",
    "unpack_header",
]

HEADER_SIZE = 40
MAX_BODY = 100_000_000
"""Largest body accepted, in bytes: several 2048 x 2048 frames."""

_SCALARS = {
    "u16": ("H", 0, 2**16 - 1),
    "i16": ("h", -(2**15), 2**15 - 1),
    "u32": ("I", 0, 2**32 - 1),
    "i32": ("i", -(2**31), 2**31 - 1),
    "f32": ("f", None, None),
    "f32?": ("f", None, None),
    "f64": ("d", None, None),
}
_DTYPES = {
    "u8": ">u1",
    "u16": ">u2",
    "i16": ">i2",
    "u32": ">u4",
    "i32": ">i4",
    "f32": ">f4",
    "f64": ">f8",
}
_FLOAT32_MAX = float(np.finfo(np.float32).max)


# ---------------------------------------------------------------- headers


def pack_request(name: str, body: bytes, respond: bool = True) -> bytes:
    """Header and body of a request."""
    return struct.pack(">32siHH", name.encode("ascii"), len(body), int(respond), 0) + body


def pack_reply(name: bytes, body: bytes) -> bytes:
    """Header and body of a reply; `name` is echoed as it came (32 bytes)."""
    return struct.pack(">32siI", name, len(body), 0) + body


def unpack_header(header: bytes, max_body: int = MAX_BODY) -> tuple[bytes, int, int]:
    """Name (32 raw bytes), body size and send-response word of a header.

    Raises
    ------
    ProtocolError
        If it does not have 40 bytes, the body size is negative or above `max_body` bytes, or the
        name is not printable.
    """
    if len(header) != HEADER_SIZE:
        raise ProtocolError(f"header of {len(header)} bytes instead of {HEADER_SIZE}", header)
    name, size, respond = struct.unpack(">32siH2x", header)
    text = name.rstrip(b"\0")
    if not text or not all(32 < byte < 127 for byte in text):
        raise ProtocolError(f"header with an unreadable command name {name!r}", header)
    if not 0 <= size <= max_body:
        raise ProtocolError(
            f"header of {text.decode()} announces a body of {size} bytes; "
            f"0 to {max_body} are allowed",
            header,
        )
    return name, size, respond


# ---------------------------------------------------------------- encoding


def _encode_text(text: str) -> bytes:
    # LabVIEW shows bytes in the code page of its Windows, which is cp1252 in most laboratories.
    try:
        data = text.encode("cp1252")
    except UnicodeEncodeError:
        data = text.encode("utf-8")
    return struct.pack(">i", len(data)) + data


def _encode_scalar(field: Field, value: Any) -> bytes:
    code, low, high = _SCALARS[field.type]
    if low is not None and high is not None:
        if isinstance(value, float | np.floating) and not float(value).is_integer():
            raise ValueError(f"{field.name} must be a whole number, not {value!r}")
        whole = int(value)
        if not low <= whole <= high:
            raise ValueError(f"{field.name} must lie in {low} to {high}, not {whole}")
        return struct.pack(">" + code, whole)
    number = float(value)
    if field.type == "f32?" and np.isnan(number):
        return struct.pack(">f", number)
    if not np.isfinite(number):
        raise ValueError(f"{field.name} must be a finite number, not {number}")
    if field.type != "f64" and abs(number) > _FLOAT32_MAX:
        raise ValueError(f"{field.name} is too large for 32 bits: {number}")
    return struct.pack(">" + code, number)


def _encode_array(field: Field, value: Any, kind: str) -> bytes:
    array = np.asarray(value)
    target = np.dtype(_DTYPES[kind])
    if target.kind in "iu":
        info = np.iinfo(target)
        if array.size and (array.min() < info.min or array.max() > info.max):
            raise ValueError(f"{field.name} must lie in {info.min} to {info.max}")
        if array.dtype.kind == "f" and not np.array_equal(array, np.trunc(array)):
            raise ValueError(f"{field.name} must hold whole numbers")
    with np.errstate(over="ignore"):
        data = array.astype(target)
    # Only pictures, which are two-dimensional, have values that are missing (NaN).
    if target.kind == "f" and not field.type.endswith(",]") and not np.isfinite(data).all():
        raise ValueError(f"{field.name} must hold finite numbers that fit {kind}")
    return data.tobytes()


def encode_fields(fields: Sequence[Field], values: Sequence[Any]) -> bytes:
    """Body with `values` laid out as `fields` say.

    Raises
    ------
    ValueError
        If the number of values is wrong, a number is not finite or does not fit its type, or
        arrays that share a count differ in length.
    """
    if len(values) != len(fields):
        names = ", ".join(field.name for field in fields) or "no arguments"
        raise ValueError(f"takes {len(fields)} values ({names}), got {len(values)}")
    out = bytearray()
    count = 0
    for field, value in zip(fields, values, strict=True):
        kind, _, suffix = field.type.partition("[")
        if not suffix:
            out += _encode_text(str(value)) if kind == "str" else _encode_scalar(field, value)
        elif kind == "str":
            rows = np.atleast_1d(np.asarray(value, dtype=object))
            items = b"".join(_encode_text(str(item)) for item in rows.ravel())
            if suffix == ",]":
                if rows.size and rows.ndim != 2:
                    raise ValueError(f"{field.name} must be two-dimensional, not {rows.ndim}-d")
                out += struct.pack(">ii", *(rows.shape if rows.size else (0, 0))) + items
            elif suffix == "b]":
                out += struct.pack(">i", len(items)) + items
            else:
                out += struct.pack(">ii", len(items), rows.size) + items
        else:
            array = np.asarray(value)
            if suffix == ",]":
                if array.size == 0:
                    array = np.zeros((0, 0))
                if array.ndim != 2:
                    raise ValueError(f"{field.name} must be two-dimensional, not {array.ndim}-d")
                out += struct.pack(">ii", *array.shape)
            elif suffix == "]":
                count = array.size
                out += struct.pack(">i", count)
            elif array.size != count:
                raise ValueError(
                    f"{field.name} must have {count} items like the array before, not {array.size}"
                )
            out += _encode_array(field, array, kind)
    return bytes(out)


def encode_error(status: int = 0, text: str = "") -> bytes:
    """Error block that closes every reply body: status, size of the text, text."""
    return struct.pack(">I", status) + _encode_text(text)


# ---------------------------------------------------------------- decoding


class _Reader:
    """Cursor over a body that refuses to read past its end."""

    def __init__(self, body: bytes | bytearray | memoryview) -> None:
        self.view = memoryview(body)
        self.position = 0

    @property
    def left(self) -> int:
        return len(self.view) - self.position

    def take(self, size: int, what: str) -> memoryview:
        if size < 0 or size > self.left:
            raise ProtocolError(
                f"{what} needs {size} bytes at offset {self.position}, {self.left} are left",
                bytes(self.view[:4096]),
            )
        start = self.position
        self.position += size
        return self.view[start : self.position]

    def scalar(self, kind: str, what: str) -> Any:
        code = ">" + _SCALARS[kind][0]
        return struct.unpack(code, self.take(struct.calcsize(code), what))[0]

    def text(self, what: str) -> str:
        data = bytes(self.take(self.scalar("i32", what), what))
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            # cp1252 leaves five bytes undefined; a text must never stop a measurement.
            return data.decode("cp1252", "replace")

    def texts(self, count: int, what: str) -> list[str]:
        # Each string has at least its length word, which bounds what a count can claim.
        if count < 0 or 4 * count > self.left:
            raise ProtocolError(
                f"{what} claims {count} strings, {self.left} bytes are left",
                bytes(self.view[:4096]),
            )
        return [self.text(what) for _ in range(count)]

    def array(self, kind: str, count: int, what: str) -> np.ndarray:
        dtype = np.dtype(_DTYPES[kind])
        raw = self.take(count * dtype.itemsize, what)
        return np.frombuffer(raw, dtype).astype(dtype.newbyteorder("="))


def _decode(fields: Sequence[Field], reader: _Reader) -> list[Any]:
    values: list[Any] = []
    count = 0
    for field in fields:
        kind, _, suffix = field.type.partition("[")
        what = field.name
        if not suffix:
            values.append(reader.text(what) if kind == "str" else reader.scalar(kind, what))
        elif suffix == ",]":
            rows, columns = reader.scalar("i32", what), reader.scalar("i32", what)
            if rows < 0 or columns < 0 or (columns == 0 and rows > 0):
                raise ProtocolError(f"{what} claims {rows} x {columns} items")
            if kind == "str":
                flat = reader.texts(rows * columns, what)
                values.append([flat[i * columns : (i + 1) * columns] for i in range(rows)])
            else:
                values.append(reader.array(kind, rows * columns, what).reshape(rows, columns))
        elif kind == "str" and suffix == "b]":
            end = reader.scalar("i32", what) + reader.position
            items = []
            while reader.position < end:
                items.append(reader.text(what))
            values.append(items)
        elif kind == "str":
            # The byte total is not used: clients count it in three different ways.
            reader.scalar("i32", what)
            values.append(reader.texts(reader.scalar("i32", what), what))
        else:
            if suffix == "]":
                count = reader.scalar("i32", what)
            values.append(reader.array(kind, count, what))
    return values


def decode_fields(fields: Sequence[Field], body: bytes) -> tuple[Any, ...]:
    """Values of a body that holds `fields` and nothing else.

    Returns
    -------
    tuple
        int, float, str, list of str, or native-endian ndarray for each field.

    Raises
    ------
    ProtocolError
        If the body is too short, too long, or a count does not fit what is left.
    """
    reader = _Reader(body)
    values = _decode(fields, reader)
    if reader.left:
        raise ProtocolError(f"{reader.left} bytes too many after the last field", bytes(body))
    return tuple(values)


def _trailer(reader: _Reader) -> tuple[int, str]:
    status, text = reader.scalar("u32", "error status"), reader.text("error text")
    if reader.left:
        raise ProtocolError(f"{reader.left} bytes too many after the error block")
    return status, text


def decode_reply(command: Command, body: bytes | bytearray) -> tuple[Any, ...]:
    """Values of a reply to `command`.

    A controller answers a refused command with the error block alone, or with the return values
    filled in before it; both are understood.

    Raises
    ------
    CommandError
        If the reply carries an error.
    ProtocolError
        If the reply fits neither the command's layout nor an error.
    """
    reader = _Reader(body)
    try:
        values = _decode(command.response, reader)
        status, text = _trailer(reader)
    except ProtocolError as mismatch:
        error = _find_error(body)
        if error is not None:
            raise CommandError(command.name, *error) from None
        raise ProtocolError(f"reply to {command.name}: {mismatch}", bytes(body)) from None
    if status:
        raise CommandError(command.name, status, text)
    return tuple(values)


def _find_error(body: bytes | bytearray) -> tuple[int, str] | None:
    """Error block that stands alone, or after values the layout does not know."""
    starts = [0]
    marker = bytes(body).find(b"Error in command:")
    if marker >= 8:
        starts.append(marker - 8)
    for start in starts:
        reader = _Reader(body[start:])
        try:
            status, text = _trailer(reader)
        except ProtocolError:
            continue
        if status == 1:
            return status, text
    return None
