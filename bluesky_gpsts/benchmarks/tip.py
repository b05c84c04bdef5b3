"""Tip checks, conditioning and tip changes on the simulated microscope, judged by its truth."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from bluesky_gpsts.benchmarks.table import Row, report
from bluesky_gpsts.devices import NanonisSTM
from bluesky_gpsts.devices.limits import SIMULATOR_LIMITS
from bluesky_gpsts.images.rowjumps import row_jumps
from bluesky_gpsts.nanonis.files import Frame
from bluesky_gpsts.physics import HeightNoise, Junction, build_surface, faults, random_tip, worn_tip
from bluesky_gpsts.plans import Conditioned, TipVerdict, check_tip, condition_tip
from bluesky_gpsts.simulator import Simulator
from bluesky_gpsts.spectra.reference import compare_spectra

__all__ = ["FIRST", "run"]

FIRST = 2000
"""First seed; nothing was tuned on it or any after it."""

FIT_GOAL, CLEAN_GOAL = 0.9, 1.0
ALLOWED = replace(
    SIMULATOR_LIMITS, pulse=4.0, pulse_width=0.1, depth=2e-9, conditioning_per_hour=10_000
)
"""Limits under which the simulator's tip may be conditioned."""

_OURS = "bluesky-gpsts"
_POINTS, _STEP, _LOCKIN_NOISE = 256, 24e-3, 5e-15


def run(quick: bool = False, *, seeds: int | None = None, progress: bool = True) -> dict[str, Any]:
    """Check, condition and watch simulated tips on Au(111).

    Parameters
    ----------
    quick : bool
        Four seeds instead of thirty.
    seeds : int, optional
        Seeds of each case.
    progress : bool
        Show a bar with the time left.

    Returns
    -------
    dict
        Report of the benchmark "tip".

    Raises
    ------
    ValueError
        If seeds is below 2.
    """
    from tqdm import tqdm

    count = seeds or (4 if quick else 30)
    if count < 2:
        raise ValueError(f"seeds is {count}; give 2 or more")
    wanted = range(FIRST, FIRST + count)
    with tqdm(total=5 * count, disable=not progress) as bar:
        rows = _check_rows(wanted, bar)
        rows += _condition_rows(wanted, bar)
        rows += _hopeless_rows(wanted, bar)
    rows += _spectrum_rows(10 * count)
    rows += _jump_rows(wanted)
    packages = ("numpy", "scipy", "bluesky", "ophyd")
    return report("tip", rows, seed=FIRST, packages=packages)


@contextmanager
def _microscope(seed: int, bad: bool) -> Iterator[tuple[Simulator, NanonisSTM]]:
    """Yield a simulated microscope over Au(111), with a bad tip or a good one."""
    with Simulator("au111", seed=seed, time_scale=0.0) as simulator:
        ports = simulator.ports
        stm = NanonisSTM(ports=(ports[0], ports[1], ports[3]), limits=ALLOWED).connect()
        try:
            if bad:
                simulator.change_tip(worn_tip(np.random.default_rng([seed, 61])))
            yield simulator, stm
        finally:
            stm.disconnect()


def _engine() -> Any:
    from bluesky import RunEngine

    return RunEngine({}, call_returns_result=True)


def _check_rows(seeds: range, bar: Any) -> list[Row]:
    """Verdicts on good and on bad tips; what is wrong is known."""
    engine = _engine()
    passed: dict[bool, list[bool]] = {False: [], True: []}
    errors = []
    for seed in seeds:
        for bad in (False, True):
            with _microscope(seed, bad) as (_, stm):
                verdict: TipVerdict = engine(check_tip(stm)).plan_result
            passed[bad].append(verdict.passed)
            if not bad and verdict.passed:
                errors.append(verdict.onset + 0.48)
            bar.update()
    n = len(seeds)
    good, wrong = float(np.mean(passed[False])), float(np.mean(passed[True]))
    rows = [
        Row("check, good tip", _OURS, "passed", 100 * good, "%", n),
        Row("check, bad tip", _OURS, "failed", 100 * (1 - wrong), "%", n),
    ]
    if errors:
        spread = 1e3 * float(np.sqrt(np.mean(np.square(errors))))
        rows.append(Row("check, good tip", _OURS, "onset, rms error", spread, "mV", len(errors)))
    return rows


def _condition_rows(seeds: range, bar: Any) -> list[Row]:
    """Conditioning of bad tips within the budget."""
    engine = _engine()
    passed, fit, attempts, minutes, crashes = [], [], [], [], []
    for seed in seeds:
        with _microscope(seed, True) as (simulator, stm):
            result: Conditioned = engine(condition_tip(stm)).plan_result
            truth = simulator.truth
            passed.append(result.passed)
            if result.passed:
                fit.append(not truth.tip_faults)
                attempts.append(result.attempts)
            crashes.append(truth.crashes)
            minutes.append(simulator.controller.clock.now() / 60.0)
        bar.update()
    n, case, share = len(seeds), "condition, bad tip", float(np.mean(passed))
    rows = [
        Row(
            case,
            _OURS,
            "share that passes within 15 attempts",
            share,
            "",
            n,
            FIT_GOAL,
        ),
        Row(case, _OURS, "contacts that were not meant", float(np.sum(crashes)), "", n, 0.0, True),
        Row(case, _OURS, "time of the microscope, median", float(np.median(minutes)), "min", n),
    ]
    if attempts:
        m = len(attempts)
        rows += [
            Row(case, _OURS, "attempts, median", float(np.median(attempts)), "", m),
            Row(
                case, _OURS, "passed, and truly without a fault", 100 * float(np.mean(fit)), "%", m
            ),
        ]
    return rows


def _hopeless_rows(seeds: range, bar: Any) -> list[Row]:
    """Pulses too weak to change a tip: it must stop, and leave everything as it was."""
    engine = _engine()
    clean, wrong = [], []
    for seed in seeds:
        with _microscope(seed, True) as (simulator, stm):
            before = _state(stm)
            result: Conditioned = engine(
                condition_tip(stm, attempts=3, method="pulse", pulses=(0.3, 0.5))
            ).plan_result
            same = before == _state(stm) and simulator.truth.crashes == 0
            ended = result.passed or result.attempts == 3
            clean.append(same and ended)
            wrong.append(result.passed)
        bar.update(2)
    case = "condition, treatment too weak"
    metric = "ended within the budget, no contact, all as before"
    n = len(seeds)
    return [
        Row(case, _OURS, metric, float(np.mean(clean)), "", n, CLEAN_GOAL),
        Row(
            case, _OURS, "bad tips that passed one of up to 4 checks", float(np.mean(wrong)), "", n
        ),
    ]


def _state(stm: NanonisSTM) -> list[float]:
    signals = [signal for signal in stm.settings() if "offset" not in signal.name]
    return [float(signal.get()) for signal in (*signals, stm.bias, stm.shaper.lift)]


def _spectrum_rows(count: int) -> list[Row]:
    """Alarms of repeated spectra, under the same tip and under another one."""
    rng = np.random.default_rng([FIRST, 62])
    bias = np.linspace(1.0, -1.0, _POINTS)
    surfaces = [build_surface("au111", seed) for seed in range(FIRST, FIRST + 10)]
    tells: dict[str, list[float]] = {}

    def spectrum(junction: Junction, noise: HeightNoise, begin: float) -> Any:
        here = np.array([1e-9])
        gap = junction.setpoint_gap(here, here, 1.0, 30e-12)
        times = np.asarray(begin + _STEP * np.arange(_POINTS), float)
        shake = noise.series(times)
        if junction.tip.jitter:
            shake = shake + junction.tip.jitter * noise.hops(times)
        signal = junction.lockin(here, here, bias, 5e-3, gap)[0] * np.exp(-2.2e10 * shake)
        return signal + _LOCKIN_NOISE / np.sqrt(20e-3) * rng.standard_normal(_POINTS)

    for number in range(count):
        surface, noise = surfaces[number % 10], HeightNoise(FIRST + number)
        junction = Junction(surface, random_tip(rng, double_probability=0.0))
        reference = [spectrum(junction, noise, 10.0 * k) for k in range(3)]
        worn = worn_tip(rng)
        while "contaminated" not in faults(worn):
            worn = worn_tip(rng)
        for name, later in (
            ("same tip", junction),
            ("another good tip", Junction(surface, random_tip(rng, double_probability=0.0))),
            ("contaminated tip", Junction(surface, worn)),
        ):
            found = compare_spectra(reference, spectrum(later, noise, 600.0))
            tells.setdefault(name, []).append(found.probability)
    rows = []
    for level in (0.01, 0.001):
        for name, values in tells.items():
            share = 100 * float(np.mean(np.array(values) < level))
            case = f"repeated spectrum, {name}"
            rows.append(Row(case, _OURS, f"alarms at {level:g}", share, "%", count))
    return rows


def _jump_rows(seeds: range) -> list[Row]:
    """Jumps found in images during which the tip changed, or did not."""
    found: dict[bool, list[bool]] = {False: [], True: []}
    for seed in seeds:
        rng = np.random.default_rng([seed, 63])
        for changed in (False, True):
            with _microscope(seed, False) as (simulator, stm):
                stm.stage()
                stm.scan.set(Frame(0.0, 0.0, 20e-9, 20e-9)).wait(timeout=10)
                stm.scan.line_time.put(0.3)
                stm.scan.line_time_backward.put(0.3)
                row = int(rng.integers(20, 108))
                if changed:
                    jump = float(rng.choice([-1.0, 1.0]) * rng.uniform(30e-12, 200e-12))
                    tip = replace(random_tip(rng, double_probability=0.0), length=jump)
                    simulator.change_tip(tip, after=0.6 * (128 - row) + 0.1)
                stm.scan.trigger().wait(timeout=60)
                rows = row_jumps(stm.scan.forward.get())
                stm.unstage()
            if changed:
                found[True].append(bool(np.any(np.abs(rows - row) <= 3)))
            else:
                found[False].append(bool(rows.size))
    n = len(seeds)
    return [
        Row(
            "image, tip shortens or lengthens by 30 to 200 pm",
            _OURS,
            "jump found within 3 lines",
            100 * float(np.mean(found[True])),
            "%",
            n,
        ),
        Row("image, same tip", _OURS, "alarms", 100 * float(np.mean(found[False])), "%", n),
    ]
