"""H-Si(100) over TCP: what is imaged and measured is the surface that is there."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from bluesky_gpsts.nanonis import Client
from bluesky_gpsts.nanonis.files import Frame
from bluesky_gpsts.physics.hsi100 import HSi100
from bluesky_gpsts.simulator import Simulator, open_sample
from bluesky_gpsts.simulator.computed import ComputedSample
from bluesky_gpsts.simulator.scan import frame_positions

Start = Callable[..., Simulator]
Connect = Callable[..., Client]

CURRENT, Z = 0, 30
PIXELS = 96


@pytest.fixture(scope="module")
def sample() -> ComputedSample:
    sample = open_sample("hsi100", 1)
    assert isinstance(sample, ComputedSample)
    return sample


def test_an_image_over_tcp_shows_terraces_and_defects(
    start: Start, connect: Connect, sample: ComputedSample
) -> None:
    simulator = start(sample, drift=0.0)
    client = connect(simulator)
    size = 30e-9
    client.call("Scan.FrameSet", 0.0, 0.0, size, size, 0.0)
    client.call("Scan.BufferSet", [CURRENT, Z], PIXELS, PIXELS)
    client.call("Scan.SpeedSet", 0.0, 0.0, 5.0, 5.0, 2, 1.0)
    client.call("Scan.Action", 0, 0)
    image = client.call("Scan.FrameDataGrab", Z, 1)[1].astype(float)

    # Where the tip has been, with the creep of the piezo; each line goes forward, then backward.
    scanned = simulator.controller.image
    assert scanned is not None
    track = simulator.controller.tip.under(scanned.record.times)
    lines = track.reshape(PIXELS, 2 * PIXELS, 2)[:, :PIXELS]
    where = lines[::-1] if scanned.upwards else lines
    x, y = where[..., 0].ravel(), where[..., 1].ravel()
    aimed = frame_positions(Frame(0.0, 0.0, size, size), PIXELS, PIXELS)
    assert 0.0 < np.abs(where - aimed).max() < 1e-9
    bias, setpoint = sample.conditions.bias, sample.conditions.setpoint
    expected = sample.junction.topography(x, y, bias, setpoint).reshape(image.shape)
    difference = image - expected
    assert np.median(np.abs(difference - np.median(difference))) < 2e-12
    assert np.corrcoef(image.ravel(), expected.ravel())[0, 1] > 0.99
    assert simulator.truth.crashes == 0

    scene = simulator.sample
    assert isinstance(scene, ComputedSample)
    surface = scene.junction.surface
    assert isinstance(surface, HSi100)
    marked = surface.marked(x, y).reshape(image.shape)
    level = surface.terraces.level(x, y).reshape(image.shape)
    assert len(np.unique(level)) > 1
    for index in np.unique(marked[marked >= 0]):
        here, kind = marked == index, surface.defects[index].kind
        around = np.median(image[(level == np.median(level[here])) & (marked < 0)])
        if kind in ("dangling_bond", "bare_dimer", "lithography") and here.sum() > 1:
            assert image[here].max() > around + 25e-12


def test_spectra_over_tcp_show_the_gap_and_the_bond(
    start: Start, connect: Connect, sample: ComputedSample
) -> None:
    surface = sample.junction.surface
    assert isinstance(surface, HSi100)
    bond = surface.defects[0]
    currents = {}
    for kind, (x, y) in {"bond": (bond.x, bond.y), "clean": (1.9e-9, 0.0)}.items():
        assert surface.marked(np.array([x]), np.array([y]))[0] == (0 if kind == "bond" else -1)
        simulator = start(sample, drift=0.0)
        client = connect(simulator)
        client.call("FolMe.XYPosSet", x, y, 1)
        client.call("BiasSpectr.ChsSet", [CURRENT])
        client.call("BiasSpectr.LimitsSet", 1.2, -1.8)
        client.call("BiasSpectr.PropsSet", 0, 1, 2, 301, 0.0, 0, 0)
        client.call("BiasSpectr.TimingSet", 0.05, 0.0, 0.0, 10.0, 1e-3, 0.05, 0.0, 0.0)
        client.call("BiasSpectr.AdvPropsSet", 1, 1, 0, 1)
        _, (bias, current), _ = client.call("BiasSpectr.Start", 1, "")
        currents[kind] = np.interp(-0.8, bias[::-1], current[::-1])
        assert simulator.truth.crashes == 0
    assert currents["bond"] < -3e-12
    assert abs(currents["clean"]) < 0.1e-12


def test_the_same_seed_is_the_same_surface() -> None:
    first, second = (open_sample("hsi100", 2) for _ in range(2))
    x, y = np.random.default_rng(0).uniform(-20e-9, 20e-9, (2, 500))
    np.testing.assert_array_equal(first.height(x, y), second.height(x, y))
    other = open_sample("hsi100", 3)
    assert not np.array_equal(first.height(x, y), other.height(x, y))
    assert isinstance(first, ComputedSample)
    assert replace(first) == second
