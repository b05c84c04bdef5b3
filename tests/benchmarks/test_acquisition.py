"""The acquisition benchmark: its maps, its runs, its report; who wins is not judged here."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bluesky_gpsts.benchmarks import acquisition
from bluesky_gpsts.benchmarks.acquisition_rows import quantiles, rows_of
from bluesky_gpsts.benchmarks.acquisition_store import Cell, Record, Store
from bluesky_gpsts.benchmarks.maps import truth_of
from bluesky_gpsts.benchmarks.measuring import Sample, Trace, correlation, design, measure
from bluesky_gpsts.benchmarks.strategies import ACQUISITIONS, STRATEGIES, unavailable
from bluesky_gpsts.benchmarks.table import table
from bluesky_gpsts.cli import main

SIDE, LIMIT = 32, 12
CHOSEN = ("weighted", "symmetry", "farthest point")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("acquisition")


@pytest.fixture(scope="module")
def result(folder: Path) -> dict[str, Any]:
    return acquisition.run(
        cases=("vacancy",),
        strategies=CHOSEN,
        seeds=2,
        side=SIDE,
        limit=LIMIT,
        results=folder / "runs.jsonl",
        figure=folder / "figure.png",
        progress=False,
    )


def test_the_report(result: dict[str, Any]) -> None:
    assert result["bench"] == "acquisition"
    assert {"machine", "versions", "seed", "rows", "protocol", "notes", "seconds"} <= set(result)
    assert json.loads(json.dumps(result)) == result
    assert {row["method"] for row in result["rows"]} == set(CHOSEN)
    counts = [row for row in result["rows"] if row["metric"].startswith("spectra to r")]
    assert all(row["n"] == 2 and 1 <= row["value"] <= LIMIT + 1 for row in counts)
    goals = {
        (row["method"], row["metric"]): row["goal"]
        for row in counts
        if "goal" in row and row["case"] == "vacancy; 3 %"
    }
    assert goals == {
        ("weighted", "spectra to r 0.95, median"): 30,
        ("weighted", "spectra to r 0.95, p90"): 40,
        ("symmetry", "spectra to r 0.95, median"): 12,
        ("symmetry", "spectra to r 0.95, p90"): 16,
    }
    assert "vacancy" in table(result)


def test_the_text_names_each_strategy_once_per_map(result: dict[str, Any]) -> None:
    lines = acquisition.text(result).splitlines()
    for name in CHOSEN:
        assert sum(line.startswith(f"  {name}  ") for line in lines) == 1
    assert any(line.split() and line.split()[0] in ("ok", "NO") for line in lines)


def test_the_figure(result: dict[str, Any], folder: Path) -> None:
    data = (folder / "figure.png").read_bytes()
    assert data.startswith(b"\x89PNG") and len(data) < 300_000


def test_a_run_goes_on_where_it_stopped(
    result: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (folder / "runs.jsonl").read_text().splitlines(keepends=True)
    cut = folder / "cut.jsonl"
    cut.write_text("".join(lines[:-1]) + lines[-1][: len(lines[-1]) // 2])
    ran = []
    real = acquisition.measure
    monkeypatch.setattr(
        acquisition, "measure", lambda *args: ran.append(args[0].name) or real(*args)
    )
    again = acquisition.run(
        cases=("vacancy",),
        strategies=CHOSEN,
        seeds=2,
        side=SIDE,
        limit=LIMIT,
        results=cut,
        progress=False,
    )
    assert len(ran) == 1
    assert sorted(map(str, again["rows"])) == sorted(map(str, result["rows"]))


def test_a_report_on_what_there_is(result: dict[str, Any], folder: Path) -> None:
    arguments: dict[str, Any] = {"side": SIDE, "limit": LIMIT, "report_only": True}
    again = acquisition.run(
        cases=("vacancy", "moire"),
        strategies=CHOSEN,
        seeds=2,
        results=folder / "runs.jsonl",
        progress=False,
        **arguments,
    )
    assert sorted(map(str, again["rows"])) == sorted(map(str, result["rows"]))
    assert any(note.startswith("not run yet: ") for note in again["notes"])
    more = acquisition.run(
        cases=("vacancy",),
        strategies=CHOSEN,
        seeds=3,
        results=folder / "runs.jsonl",
        progress=False,
        **arguments,
    )
    assert more["rows"] == [] and any(n.startswith("left out: 8 cells") for n in more["notes"])
    with pytest.raises(FileNotFoundError, match="there are no results to report on"):
        acquisition.run(results=folder / "none.jsonl", **arguments)


def test_a_results_file_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_text('{"a": 1}\n{"b": 2}\n')
    with pytest.raises(ValueError, match="line 1 of .* is not a run"):
        Store(path)


def test_sustained_is_to_the_end() -> None:
    trace = Trace((1, 2, 3, 4, 5), (0.1, 0.96, 0.94, 0.95, 0.97), (0, 0, 0.95, 0.9, 0.99), 0.0)
    assert trace.sustained(0.95) == 4
    assert trace.claimed(0.95) == (3, 0.94)
    assert Trace((1, 2), (0.99, 0.90), None, 0.0).sustained(0.95) is None


def test_quantiles_are_measured_values() -> None:
    assert quantiles([9, 3, 1, 5, 7, 8, 2, 4, 101, 6]) == (5.0, 2.0, 9.0)
    assert quantiles([7]) == (7.0, 7.0, 7.0)
    assert quantiles([7, 5]) == (5.0, 5.0, 7.0)


def _records(case: str, strategy: str, counts: list[int | None]) -> list[Record]:
    cell = Cell(case, strategy, 0.03, False)
    return [
        Record(cell, seed, 43, 100, count, (20, 0.9), True, (100,), (0.9,), 1.0)
        for seed, count in enumerate(counts)
    ]


def test_a_wrong_prior_is_compared_with_none() -> None:
    runs = _records("vacancy", "weighted", [20, 20]) + _records(
        "vacancy", "wrong library", [30, 30]
    )
    rows, _ = rows_of(runs)
    ratio = next(row for row in rows if row.metric == "times the blind median")
    assert ratio.value == 1.5 and ratio.met is False
    claims = [row for row in rows if row.metric.startswith("real r")]
    assert len(claims) == 2 and all(row.met is False and row.value == 0.9 for row in claims)


def test_counts_above_the_limit_are_compared_at_a_level_that_all_reach() -> None:
    runs = []
    for strategy, r in (("weighted", (0.5, 0.7, 0.92)), ("wrong library", (0.4, 0.5, 0.714))):
        cell = Cell("moire", strategy, 0.03, False)
        runs.append(Record(cell, 0, 43, 100, None, None, True, (10, 50, 100), r, 1.0))
    rows, notes = rows_of(runs)
    ratio = next(row for row in rows if row.metric.startswith("times"))
    assert ratio.metric == "times the blind median at r = 0.71"
    # The blind run is at 0.71 from 100 spectra on, like the other.
    assert ratio.value == 1.0 and ratio.met is True
    assert "none of wrong library, weighted reaches 0.95" in notes[0]


def test_the_noise_is_the_same_for_all_strategies() -> None:
    truth = truth_of("vacancy", 3, SIDE)
    first, second = Sample.draw(truth, 0.1, True), Sample.draw(truth, 0.1, False)
    np.testing.assert_array_equal(first.values, second.values)
    deviation = np.std(first.values - truth.values.ravel()) / truth.span
    assert deviation == pytest.approx(0.1, rel=0.1)
    assert first.variances is not None
    assert first.variances.mean() == pytest.approx((0.1 * truth.span) ** 2, rel=0.1)
    assert "figure_of_merit_variance" not in second.point(5)


@pytest.mark.parametrize("how", ["farthest", "sobol", "random"])
def test_designs_take_every_candidate_once(how: str) -> None:
    grid = truth_of("vacancy", 0, SIDE).grid
    points = design(how, grid, 1, 200)
    assert len(points) == len(set(points)) == 200
    assert points == design(how, grid, 1, 200)
    assert all(0 <= point < grid.size for point in points)


def test_correlation() -> None:
    truth = truth_of("moire", 0, SIDE)
    assert correlation(3 * truth.values - 2, truth) == pytest.approx(1.0)
    assert correlation(np.full_like(truth.values, 7.0), truth) == 0.0


@pytest.mark.parametrize("name", ["raster", "raster (linear)"])
def test_a_raster_counts_when_it_is_finished(name: str) -> None:
    sample = Sample.draw(truth_of("vacancy", 0, SIDE), 0.03, False)
    trace = measure(STRATEGIES[name], sample, 60)
    assert trace.n == (9, 16, 25, 36, 49)
    assert trace.r[-1] > 0.8


@pytest.mark.parametrize("name", ACQUISITIONS)
def test_every_acquisition_function_can_be_run(name: str) -> None:
    assert unavailable(STRATEGIES[name]) is None
    sample = Sample.draw(truth_of("vacancy", 0, 12), 0.03, False)
    trace = measure(STRATEGIES[name], sample, 12)
    assert trace.n == tuple(range(1, 13)) and np.isfinite(trace.r).all()


def test_gpcam_as_it_comes_is_the_same_twice() -> None:
    sample = Sample.draw(truth_of("vacancy", 0, 16), 0.03, False)
    state = np.random.get_state()[1].copy()
    first, again = (measure(STRATEGIES["gpCAM variance"], sample, 9) for _ in range(2))
    assert first.r == again.r and first.n == tuple(range(1, 10))
    assert first.estimated is None
    np.testing.assert_array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize("case", ["vacancy", "moire"])
def test_every_prior_can_be_run(case: str) -> None:
    truth = truth_of(case, 0, 16)
    sample = Sample.draw(truth, 0.1, True)
    names = {"vacancy": ("library", "topograph"), "moire": ("lattice", "uninformative image")}
    for name in names[case]:
        assert len(measure(STRATEGIES[name], sample, 10).r) == 10


def test_a_map_that_lacks_what_a_strategy_needs() -> None:
    sample = Sample.draw(truth_of("moire", 0, 12), 0.03, False)
    with pytest.raises(ValueError, match="'symmetry' needs what the survey image of 'moire'"):
        measure(STRATEGIES["symmetry"], sample, 10)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cases": ("sulfur",)}, "no map 'sulfur'; choose from vacancy"),
        ({"strategies": ("guess",)}, "no strategy 'guess'"),
        ({"seeds": 0}, "seeds is 0"),
        ({"limit": 3}, "limit is 3"),
        ({"noise": 0.5}, "noise is 0.5; choose from 0.03, 0.1"),
    ],
)
def test_wrong_arguments(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        acquisition.run(**wrong, progress=False)


def test_the_command_with_a_map_of_ones_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.npy"
    np.save(path, truth_of("vacancy", 1, 20).values)
    arguments = ["bench", "acquisition", "--quick", "--map", str(path), "--strategies"]
    out = tmp_path / "out.json"
    assert main([*arguments, "farthest point,raster", "--json", str(out)]) == 0
    assert "mine.npy" in capsys.readouterr().out
    methods = {row["method"] for row in json.loads(out.read_text())["rows"]}
    assert methods == {"farthest point", "raster"}


def test_an_option_of_another_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "decode", "--map", "x.npy"]) == 1
    assert "--map is for the benchmark 'acquisition'" in capsys.readouterr().err


def test_recorded_maps_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="the real measurements are not at"):
        acquisition.run(cases=("NbS2 a",), data=tmp_path / "none", progress=False)
