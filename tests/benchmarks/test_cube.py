"""The benchmark of whole spectra runs and reports; how good it is, is for the benchmark itself."""

from typing import Any

import pytest

from bluesky_gpsts.benchmarks import cube


def test_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cube, "SPECTRA", 12)
    monkeypatch.setattr(cube, "SIDE", 16)
    result: dict[str, Any] = cube.run(quick=True)
    methods = {(row["case"], row["method"]) for row in result["rows"]}
    assert len(methods) == 8
    assert all(-1.0 <= row["value"] <= 1.0 and row["n"] == 1 for row in result["rows"])
