"""The format of a journal: records with checksums, and NumPy arrays inside msgpack.

A journal is one append-only file per run. It begins with the eight bytes ``GPSTSJ1`` and a
newline; then come records. A record is twelve bytes of header (three little-endian unsigned
32-bit integers: length of the payload, CRC-32 of the payload, CRC-32 of the first eight
bytes) and the payload, a msgpack array ``[name, document]``. NumPy arrays are msgpack
extensions of type 1, holding ``[dtype, shape, bytes]``.

The header has a checksum of its own so that a damaged length is told from a torn end.
"""

import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import msgpack
import numpy as np

from .errors import JournalError

MAGIC = b"GPSTSJ1\n"
_HEADER = struct.Struct("<III")
_ARRAY = 1


@dataclass(frozen=True)
class Record:
    """One document of a journal.

    Attributes
    ----------
    name : str
        Kind of the document ("start", "descriptor", "event", ...).
    doc : dict
        The document; arrays are NumPy arrays.
    offset, end : int
        Bytes at which the record begins and ends in the file.
    """

    name: str
    doc: dict[str, Any]
    offset: int
    end: int


def _to_msgpack(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject or value.dtype.names:
            raise TypeError(f"an array of dtype {value.dtype} cannot be journaled")
        body = msgpack.packb([value.dtype.str, value.shape, value.tobytes()])
        return msgpack.ExtType(_ARRAY, body)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"a value of type {type(value).__name__} cannot be journaled")


def _from_msgpack(code: int, body: bytes) -> Any:
    if code != _ARRAY:
        raise ValueError(f"unknown extension type {code}")
    dtype, shape, data = msgpack.unpackb(body)
    flat = np.frombuffer(data, np.dtype(dtype)) if data else np.empty(0, np.dtype(dtype))
    return flat.reshape(shape).copy()


def encode(name: str, doc: Mapping[str, Any]) -> bytes:
    """Pack a document as one record.

    Parameters
    ----------
    name : str
        Kind of the document.
    doc : mapping
        The document; values may be NumPy arrays and scalars.

    Returns
    -------
    bytes
        Header and payload.

    Raises
    ------
    TypeError, ValueError, OverflowError
        A value has no place in a journal.
    """
    payload = msgpack.packb([name, dict(doc)], default=_to_msgpack)
    head = struct.pack("<II", len(payload), zlib.crc32(payload))
    return head + struct.pack("<I", zlib.crc32(head)) + payload


def _damaged(path: Path, offset: int, what: str) -> JournalError:
    return JournalError(
        f"The journal {path} is damaged at byte {offset} ({what}); the records before it are "
        "intact, the rest must come from a copy of the file.",
        path,
        offset,
    )


def iter_records(path: str | Path, start: int = 0, stop: int | None = None) -> Iterator[Record]:
    """Read the records of a journal, from a byte offset on.

    A torn last record (the writer was cut off) ends the iteration without an error.

    Parameters
    ----------
    path : str or Path
        The journal.
    start : int
        `end` of the last record already read, in bytes; 0 for the beginning.
    stop : int, optional
        `end` of the last record to read, in bytes.

    Yields
    ------
    Record

    Raises
    ------
    JournalError
        The file cannot be opened, is no journal, or a checksum is wrong; `offset` says where.
    """
    path = Path(path)
    try:
        stream = path.open("rb")
    except OSError as error:
        message = f"The journal {path} cannot be opened ({error.strerror or error})."
        raise JournalError(message, path) from error
    with stream:
        size = os.fstat(stream.fileno()).st_size if stop is None else stop
        offset = start
        if offset == 0:
            magic = stream.read(len(MAGIC))
            if magic != MAGIC[: len(magic)]:
                raise _damaged(path, 0, "it does not begin as a journal does")
            offset = len(MAGIC)
        stream.seek(offset)
        while size - offset >= _HEADER.size:
            header = stream.read(_HEADER.size)
            if len(header) < _HEADER.size:
                return
            length, payload_crc, header_crc = _HEADER.unpack(header)
            if zlib.crc32(header[:8]) != header_crc:
                raise _damaged(path, offset, "the checksum of a record's header is wrong")
            end = offset + _HEADER.size + length
            if end > size:
                return
            payload = stream.read(length)
            if zlib.crc32(payload) != payload_crc:
                raise _damaged(path, offset, "the checksum of a record is wrong")
            try:
                name, doc = msgpack.unpackb(payload, ext_hook=_from_msgpack, strict_map_key=False)
                if not isinstance(name, str) or not isinstance(doc, dict):
                    raise ValueError("not a document")
            except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
                raise _damaged(path, offset, f"a record cannot be decoded: {error}") from error
            yield Record(name, doc, offset, end)
            offset = end


def read_records(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read the documents of a journal in the order in which they were written.

    Parameters
    ----------
    path : str or Path
        The journal.

    Yields
    ------
    name : str
    doc : dict

    Raises
    ------
    JournalError
        As `iter_records`.
    """
    for record in iter_records(path):
        yield record.name, record.doc
