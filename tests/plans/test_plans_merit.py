"""The figure of merit: known integrals, and an honest estimate of its noise."""

from typing import Any

import numpy as np
import pytest
from bluesky import RunEngine

from bluesky_gpsts.plans import gp_sts
from bluesky_gpsts.plans.merit import check_window, figure_of_merit, judge

WINDOW = (0.0, 0.7)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("points", [321, 1281])
def test_known_integrals(points: int, descending: bool) -> None:
    """Bias axes that hit both ends of the window: the trapezoid is the whole integral."""
    bias = np.linspace(-1.8, 1.4, points)[:: -1 if descending else 1]
    assert figure_of_merit(bias, np.full(points, 2e-9), WINDOW)[0] == pytest.approx(1.4e-9)
    assert figure_of_merit(bias, 1e-9 * bias, WINDOW)[0] == pytest.approx(1e-9 * 0.7**2 / 2)
    value, _ = figure_of_merit(bias, 1e-9 * np.cos(2 * bias), WINDOW)
    assert value == pytest.approx(1e-9 * np.sin(1.4) / 2, rel=1e-4)


def test_order_does_not_matter() -> None:
    bias = np.linspace(1.4, -1.8, 1200)
    didv = np.random.default_rng(0).normal(size=1200)
    forward, backward = (
        figure_of_merit(axis, values, WINDOW)
        for axis, values in ((bias, didv), (bias[::-1], didv[::-1]))
    )
    assert forward == pytest.approx(backward, rel=1e-12)


def test_window_ends_count_in_32_bits() -> None:
    bias = np.linspace(-1.8, 1.4, 321)
    controller = bias.astype(np.float32).astype(float)
    exact = figure_of_merit(bias, np.ones(321), WINDOW)[0]
    assert figure_of_merit(controller, np.ones(321), WINDOW)[0] == pytest.approx(exact, rel=1e-6)


def test_points_outside_the_window_do_not_matter() -> None:
    bias = np.linspace(-1.8, 1.4, 321)
    didv = np.where((bias > -0.001) & (bias < 0.701), 1.0, np.nan)
    assert figure_of_merit(bias, didv, WINDOW)[0] == pytest.approx(0.7)


@pytest.mark.parametrize("points", [64, 1200])
def test_variance_is_that_of_the_noise(points: int) -> None:
    """Over many spectra, a smooth one with noise: estimate against what the integral scatters."""
    rng = np.random.default_rng(1)
    bias = np.linspace(1.4, -1.8, points)
    smooth = 5.0 / (1 + ((bias - 0.4) / 0.2) ** 2)
    sigma = 0.3
    results = np.array(
        [
            figure_of_merit(bias, smooth + sigma * rng.normal(size=points), WINDOW)
            for _ in range(2000)
        ]
    )
    scatter, estimate = results[:, 0].var(), results[:, 1].mean()
    # With few points the trapezoid's half weights at the ends and the curvature count a little.
    assert estimate == pytest.approx(scatter, rel=0.3 if points < 100 else 0.1)


def test_variance_without_noise_is_small() -> None:
    bias = np.linspace(1.4, -1.8, 1200)
    value, variance = figure_of_merit(bias, 1.0 + np.sin(3 * bias), WINDOW)
    assert np.sqrt(variance) < 1e-5 * value


def test_too_few_points() -> None:
    bias = np.linspace(-1.8, 1.4, 12)
    with pytest.raises(ValueError, match="2 points of the spectrum lie in the window"):
        figure_of_merit(bias, np.ones(12), WINDOW)
    with pytest.raises(ValueError, match="take more points or a wider window"):
        check_window(WINDOW, (1.4, -1.8), 12)
    check_window(WINDOW, (1.4, -1.8), 24)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_value_that_is_not_finite(bad: float) -> None:
    bias = np.linspace(-1.8, 1.4, 321)
    didv = np.ones(321)
    didv[200] = bad
    with pytest.raises(ValueError, match="not finite"):
        figure_of_merit(bias, didv, WINDOW)


def test_variance_against_the_microscopes_own_noise(bench: Any) -> None:
    """Spectra repeated at one place scatter as the estimate says."""
    sts = bench.stm.spectroscopy
    sts.prepare()
    for signal, value in (
        (sts.start, 1.4),
        (sts.end, -1.8),
        (sts.points, 400),
        (sts.integration, 20e-3),
        (bench.stm.lock_in.on, 1),
    ):
        signal.put(value)
    results = []
    for _ in range(50):
        sts.trigger().wait(timeout=30)
        results.append(figure_of_merit(sts.bias.get(), sts.didv.get(), WINDOW))
    values, variances = np.array(results).T
    # Differences of neighbours, because the sample drifts; 50 values give their scatter to 10 %.
    scatter = np.std(np.diff(values)) / np.sqrt(2)
    assert np.sqrt(variances.mean()) == pytest.approx(scatter, rel=0.4)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.ones(1200), "returned an array of shape (1200,); it must return a finite number"),
        (np.ones((1, 2)), "returned an array of shape (1, 2)"),
        ([], "returned an array of shape (0,)"),
        (np.nan, "returned nan; it must return a finite number"),
        (1e300, "returned 1e+300; it must return a finite number, of size 1e+60 at most"),
        ((1.0, 1e300), "returned the variance 1e+300"),
        ((1.0, -1.0), "returned the variance -1"),
    ],
)
def test_a_merit_of_ones_own_that_is_no_number_fails(answer: Any, message: str) -> None:
    bias = np.linspace(1.4, -1.8, 1200)
    found = judge(bias, np.ones(1200), WINDOW, lambda bias, didv: answer)
    assert message in found.failure and len(found.failure) < 150
    assert np.isnan(found.value)


def test_a_function_that_exits_ends_the_run_and_not_the_session(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any], own_module: Any
) -> None:
    name = own_module(
        "import sys\ndef leave(*args):\n    sys.exit(3)\n"
        "def spoil(bias, didv):\n    bias[:] = 0.0\n    didv *= 0.0\n    return 1.0\n"
    )
    with pytest.raises(RuntimeError, match=r"5 spectra in a row.*called sys.exit\(3\)"):
        engine(gp_sts(bench.stm, **small, merit=f"{name}:leave"))
    with pytest.raises(Exception, match=r"sys.exit\(3\)"):
        engine(gp_sts(bench.stm, **small, acquisition=f"{name}:leave"))
    documents.all.clear()
    engine(gp_sts(bench.stm, **small, merit=f"{name}:spoil"))
    didv = documents.of("start")[0]["columns"]["didv"]
    assert all(np.any(spectrum) for spectrum in documents.columns("primary")[didv])


@pytest.fixture
def own_module(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, request: Any) -> Any:
    def write(text: str) -> str:
        name = f"own_{abs(hash(request.node.name))}"
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        return name

    return write
