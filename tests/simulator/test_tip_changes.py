"""The simulated tip changes as a tip does, and the truth knows it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bluesky_gpsts.nanonis import Client
from bluesky_gpsts.physics import Tip, Treatment, faults, quality, random_tip, treat, worn_tip
from bluesky_gpsts.physics.tiplife import FAULTS
from bluesky_gpsts.simulator import Sample, Simulator, open_sample

Start = Callable[..., Simulator]
Connect = Callable[..., Client]


@pytest.fixture(scope="module")
def au111() -> Sample:
    return open_sample("au111", 3)


def poke(client: Client, depth: float) -> None:
    client.call("TipShaper.PropsSet", 0.0, 2, 0.0, -depth, 0.3, 0.0, 0.3, depth, 0.5, 0.1, 1)
    client.call("TipShaper.Start", 1, -1)


def odds(treatment: Treatment, count: int = 600) -> tuple[float, float]:
    """Share of tips that changed, and of these the share of good ones."""
    rng = np.random.default_rng(4)
    bad = worn_tip(rng)
    after = [treat(bad, treatment, rng) for _ in range(count)]
    changed = [tip for tip in after if tip is not bad]
    good = [tip for tip in changed if not faults(tip)]
    return len(changed) / count, len(good) / max(1, len(changed))


def test_mostly_another_bad_tip_but_better_on_clean_metal_and_worse_after_a_crash() -> None:
    gentle = odds(Treatment(depth=0.6e-9))
    deep = odds(Treatment(depth=5e-9))
    dirty = odds(Treatment(depth=0.6e-9, clean=False))
    pulse = odds(Treatment(bias=4.0))
    crash = odds(Treatment(depth=0.6e-9, crash=True))
    assert 0.28 < gentle[1] < 0.42
    assert crash[1] < 0.06 < dirty[1] < 0.15 < pulse[1] < gentle[1]
    assert deep[1] < 0.5 * gentle[1]
    assert crash[0] == 1.0
    assert odds(Treatment(depth=0.1e-9))[0] < gentle[0] < deep[0]
    assert odds(Treatment(bias=1.0))[0] < 0.05 < 0.8 < pulse[0]


def test_faults_and_quality_agree() -> None:
    rng = np.random.default_rng(7)
    seen = set()
    for _ in range(60):
        good, bad = random_tip(rng, double_probability=0.0), worn_tip(rng)
        assert not faults(good) and quality(good) >= 0.5
        assert faults(bad) and quality(bad) < 0.5
        seen |= set(faults(bad))
    assert seen == set(FAULTS)


def test_an_indentation_changes_the_tip_and_marks_the_metal(
    start: Start, connect: Connect, au111: Sample
) -> None:
    simulator = start(au111)
    client = connect(simulator)
    here = np.zeros(1)
    before = simulator.truth.tip
    flat = simulator.controller.tip.sample.height(here, here)[0]
    poke(client, 2e-9)
    truth = simulator.truth
    assert (truth.crashes, truth.indentations, truth.tip_changes) == (0, 1, 1)
    assert truth.tip is not before and truth.tip_quality == quality(truth.tip)
    x, y = simulator.controller.tip.under(np.array([simulator.controller.clock.now()]))[0]
    sample = simulator.controller.tip.sample
    raised = sample.height(np.array([x]), np.array([y]))[0] - flat
    assert raised > 20e-12
    assert au111.height(here, here)[0] == pytest.approx(flat), "samples are shared"


def test_the_same_seed_gives_the_same_tips(start: Start, connect: Connect, au111: Sample) -> None:
    def history(seed: int) -> list[Any]:
        simulator = start(au111, seed=seed)
        client = connect(simulator)
        tips = []
        for _ in range(4):
            poke(client, 1.5e-9)
            client.call("Bias.Pulse", 1, 0.05, 4.0, 1, 2)
            tips.append(simulator.truth.tip)
        return tips

    assert history(5) == history(5) != history(6)


def test_a_gentle_pulse_leaves_the_tip_alone(start: Start, connect: Connect, au111: Sample) -> None:
    simulator = start(au111)
    client = connect(simulator)
    for _ in range(5):
        client.call("Bias.Pulse", 1, 0.05, 0.5, 1, 2)
    assert simulator.truth.tip_changes == 0 and simulator.truth.crashes == 0


def test_a_crash_is_no_indentation_and_makes_the_tip_bad(start: Start, connect: Connect) -> None:
    bad = 0
    for seed in range(5):
        simulator = start("au111", seed=seed)
        client = connect(simulator)
        client.call("ZCtrl.OnOffSet", 0)
        (z,) = client.call("ZCtrl.ZPosGet")
        client.call("ZCtrl.ZPosSet", z - 2e-9)
        client.call("ZCtrl.ZPosSet", z + 1e-9)
        truth = simulator.truth
        assert (truth.crashes, truth.indentations, truth.tip_changes) == (1, 0, 1)
        assert truth.tip is not None and truth.tip.length < 0.0
        bad += bool(truth.tip_faults)
    assert bad >= 4


def test_a_tip_change_shows_in_the_middle_of_an_image(
    start: Start, connect: Connect, au111: Sample
) -> None:
    simulator = start(au111)
    client = connect(simulator)
    client.call("Scan.FrameSet", 0.0, 0.0, 8e-9, 8e-9, 0.0)
    client.call("Scan.BufferSet", [30], 64, 32)
    client.call("Scan.SpeedSet", 0.0, 0.0, 0.1, 0.1, 0, 1.0)
    simulator.change_tip(Tip(length=0.3e-9), after=16 * 0.2)
    client.call("Scan.Action", 0, 1)
    _, plane, _ = client.call("Scan.FrameDataGrab", 30, 1)
    offsets = np.median(np.diff(plane, axis=0), axis=1)
    row = int(np.argmax(np.abs(offsets)))
    # Upwards: the rows above the change are those taken later, with the longer tip.
    assert 12 <= row <= 18 and offsets[row] == pytest.approx(-0.3e-9, abs=0.05e-9)


def test_an_unstable_tip_makes_noise(start: Start, connect: Connect, au111: Sample) -> None:
    noise = []
    for jitter in (0.0, 10e-12):
        simulator = start(au111)
        client = connect(simulator)
        simulator.change_tip(Tip(jitter=jitter))
        client.call("ZCtrl.OnOffSet", 0)
        values = []
        for _ in range(60):
            client.call("FolMe.XYPosSet", 0.0, 0.0, 1)
            values.append(client.call("Current.Get")[0])
        noise.append(float(np.std(np.log(values))))
    assert noise[1] > 5 * noise[0] and 0.1 < noise[1] < 0.4


def test_another_tip_needs_a_sample_that_has_been_seen_with_it(start: Start, au111: Sample) -> None:
    simulator = start(au111)
    with pytest.raises(ValueError, match="after is -1 s"):
        simulator.change_tip(after=-1)
