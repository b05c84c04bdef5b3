"""The decode benchmark: its report and its values; timing is not judged here."""

import json
import sys
from typing import Any

import numpy as np
import pytest

from bluesky_gpsts.benchmarks import decode
from bluesky_gpsts.benchmarks.table import Row, report, table


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return decode.run(quick=True)


def test_the_report(result: dict[str, Any]) -> None:
    assert set(result) == {"bench", "machine", "versions", "seed", "rows"}
    assert result["bench"] == "decode" and result["seed"] == 0
    assert result["versions"]["nanonis-spm"] == "1.0.9"
    assert result["machine"]["cores"] >= 1
    assert json.loads(json.dumps(result)) == result


def test_the_rows(result: dict[str, Any]) -> None:
    rows = result["rows"]
    by_case: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        assert {"case", "method", "metric", "value", "unit", "n"} <= set(row)
        assert row["value"] > 0 and row["n"] >= 2
        by_case.setdefault(row["case"], []).append(row)
    assert list(by_case) == ["decode 512 x 512", "whole call 512 x 512"]
    for ours, theirs, ratio in by_case.values():
        assert (ours["method"], theirs["method"]) == ("bluesky-gpsts", "nanonis-spm")
        assert ours["unit"] == theirs["unit"] == "s"
        assert ratio["value"] == pytest.approx(theirs["value"] / ours["value"])
    goals = [row for row in rows if "goal" in row]
    assert [row["goal"] for row in goals] == [50.0]
    assert goals[0]["met"] == (goals[0]["value"] >= 50.0)


def test_both_decode_the_same_values() -> None:
    body = decode.frame_reply(size=64, seed=3)
    ours, theirs = decode.decode_ours(body), decode.decode_theirs(body)
    assert ours.shape == theirs.shape == (64, 64)
    np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(ours, decode.decode_ours(decode.frame_reply(size=64, seed=4)))


def test_the_peer_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nanonis_spm", None)
    with pytest.raises(ModuleNotFoundError, match="pip install nanonis-spm==1.0.9"):
        decode.run(quick=True)


def test_goals() -> None:
    at_least = Row("c", "m", "speed", 50.0, "1/s", 1, goal=50.0)
    assert at_least.met is True and Row("c", "m", "x", 49.9, "", 1, goal=50.0).met is False
    assert Row("c", "m", "time", 0.2, "s", 1, goal=0.15, at_most=True).met is False
    assert Row("c", "m", "time", 0.1, "s", 1).met is None
    assert "goal" not in Row("c", "m", "time", 0.1, "s", 1).as_dict()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_makes_no_row(value: float) -> None:
    with pytest.raises(ValueError, match="c, m: speed is"):
        Row("c", "m", "speed", value, "", 1)
    with pytest.raises(ValueError, match="n is 0"):
        Row("c", "m", "speed", 1.0, "", 0)


def test_the_table() -> None:
    rows = [
        Row("decode", "ours", "time", 0.0012, "s", 350),
        Row("decode", "ours", "ratio", 12.3456, "", 7, goal=50.0),
    ]
    text = table(report("decode", rows, seed=1, packages=("no-such-package",))).splitlines()
    assert text[0].split() == ["case", "method", "metric", "value", "unit", "n", "goal", "met"]
    assert text[2].split() == ["decode", "ours", "time", "0.0012", "s", "350"]
    assert text[3].split() == ["decode", "ours", "ratio", "12.35", "7", "50", "NO"]
    found = report("x", [], seed=1, packages=("no-such-package",))["versions"]
    assert found["no-such-package"] == "not installed"
