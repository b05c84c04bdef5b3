"""What a journal holds, and whether the catalog holds the same."""

import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import JournalError
from .journal import iter_records


@dataclass
class Contents:
    """What a journal says that a run holds.

    Attributes
    ----------
    start : dict or None
    stop : dict or None
    seq_nums : dict
        Stream name -> sequence numbers of its events, in order.
    arrays : dict
        Stream name -> data keys that are stored as arrays of one row per event.
    end : int
        Byte after the last intact record.
    damage : JournalError or None
        Why reading ended early.
    """

    start: dict[str, Any] | None = None
    stop: dict[str, Any] | None = None
    seq_nums: dict[str, list[int]] = field(default_factory=dict)
    arrays: dict[str, list[str]] = field(default_factory=dict)
    end: int = 0
    damage: JournalError | None = None


def contents_of(path: Path) -> Contents:
    """Read a journal through and tell what the catalog must hold of it.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Contents
    """
    found = Contents()
    streams: dict[str, str] = {}
    try:
        for record in iter_records(path):
            doc = record.doc
            found.end = record.end
            if record.name == "start":
                found.start = doc
            elif record.name == "stop":
                found.stop = doc
            elif record.name == "descriptor":
                stream = streams[doc["uid"]] = doc["name"]
                found.seq_nums.setdefault(stream, [])
                found.arrays[stream] = [
                    key
                    for key, spec in doc["data_keys"].items()
                    if spec.get("dtype") == "array"
                    and "external" not in spec
                    and None not in spec.get("shape", ())
                    and 0 not in spec.get("shape", ())
                ]
            elif record.name == "event":
                found.seq_nums[streams[doc["descriptor"]]].append(doc["seq_num"])
            elif record.name == "event_page":
                found.seq_nums[streams[doc["descriptor"]]].extend(doc["seq_num"])
    except JournalError as error:
        found.damage = error
    return found


def closing_document(contents: Contents, when: float, reason: str) -> dict[str, Any]:
    """Stop document for a run that never got one.

    Parameters
    ----------
    contents : Contents
        What the run holds; its start must be there.
    when : float
        Time of the last sign of life, in s since 1970.
    reason : str

    Returns
    -------
    dict
    """
    assert contents.start is not None
    return {
        "uid": str(uuid.uuid4()),
        "time": when,
        "run_start": contents.start["uid"],
        "exit_status": "fail",
        "reason": reason,
        "num_events": {name: len(numbers) for name, numbers in contents.seq_nums.items()},
    }


def run_of(client: Any, uid: str) -> Any | None:
    """Find a run by its whole uid.

    Parameters
    ----------
    client : tiled.client.container.Container
        Container of runs. What it does not know it would take for the beginning of a uid.
    uid : str

    Returns
    -------
    tiled.client.container.Container or None
    """
    from tiled.client.container import Container

    try:
        return Container.__getitem__(client, uid)
    except KeyError:
        return None


def differences(run: Any, contents: Contents) -> str:
    """Compare a run in the catalog with its journal.

    Parameters
    ----------
    run : tiled.client.container.Container or None
        The run, if it is there.
    contents : Contents
        From `contents_of`.

    Returns
    -------
    str
        First difference found; empty if there is none.
    """
    if run is None:
        return "the run is missing"
    stop = run.metadata.get("stop")
    if not stop or contents.stop is None or stop["uid"] != contents.stop["uid"]:
        return "the stop document is missing"
    base = run.base
    for stream, expected in contents.seq_nums.items():
        node = base[stream].base
        if not expected:
            continue
        keys = set(node)
        table = node["internal"].read(["seq_num"]) if "internal" in keys else {"seq_num": []}
        found = [int(number) for number in table["seq_num"]]
        # A server may return rows in any order; each event must be there as often as written.
        if Counter(found) != Counter(expected):
            return f"stream {stream} holds {len(found)} rows instead of {len(expected)}"
        for key in contents.arrays[stream]:
            rows = node[key].shape[0] if key in keys else 0
            if rows != len(expected):
                return f"{stream}/{key} holds {rows} rows instead of {len(expected)}"
    return ""
