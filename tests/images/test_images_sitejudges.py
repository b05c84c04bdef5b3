"""Whether an atom is at a site, and how sure that is."""

import numpy as np
import pytest

from bluesky_gpsts.benchmarks.images.scores import calibration_error, match
from bluesky_gpsts.images.decode import Decoded
from bluesky_gpsts.images.networks import SITE_FEATURES
from bluesky_gpsts.images.reading import read_surface
from bluesky_gpsts.images.rowlattice import fit_row_lattice
from bluesky_gpsts.images.simulate import draw_image
from bluesky_gpsts.images.sitejudges import fit_judges, judge_sites, site_features
from bluesky_gpsts.images.surfacemodel import Maps

SIDE = 64


def test_what_is_looked_at() -> None:
    """A lattice of 4 by 8 pixels, one site of it vacant, and a lonely peak."""
    x, y = (
        part.ravel().astype(float) for part in np.meshgrid(np.arange(4, 60, 4), range(4, 60, 8))
    )
    points = np.column_stack([x, y])
    lattice = fit_row_lattice(points, np.ones(len(points)), 0.0, 4.0, 8.0)
    atom = np.full((SIDE, SIDE), 0.1, np.float32)
    atom[y.astype(int), x.astype(int)] = 0.9
    atom[20, 32] = 0.2
    defect = np.zeros((SIDE, SIDE), np.float32)
    defect[20, 32] = 0.7
    step = np.zeros((SIDE // 2, SIDE // 2), np.float32)
    step[:, 30:] = 0.6
    sites = np.array([[32.0, 20.0], [32.3, 19.8], [36.0, 20.0], [60.0, 20.0], [62.6, 31.0]])
    decoded = Decoded(
        sites,
        np.zeros(5),
        np.ones(5, np.int32),
        np.array([True, True, True, True, False]),
        (lattice,),
        True,
    )
    maps = Maps(
        atom,
        points,
        np.ones(len(points)),
        defect,
        step,
        np.zeros((2, SIDE // 2, SIDE // 2), np.float32),
        np.array([1.0, 0.0]),
    )
    found = site_features(maps, decoded)
    assert found.shape == (5, SITE_FEATURES) and found.dtype == np.float32
    odds = 1.0 / (1.0 + np.exp(-found[:, :14].astype(float)))
    np.testing.assert_allclose(odds[0, :9], [0.1] * 4 + [0.2] + [0.1] * 4, rtol=1e-5)
    # Next sites along the row and across, then the defect.
    np.testing.assert_allclose(odds[0, 9:], [0.9, 0.9, 0.9, 0.9, 0.7], rtol=1e-5)
    np.testing.assert_array_equal(found[1, :16], found[0, :16])
    np.testing.assert_allclose(found[1, 16:], [0.3, -0.2], rtol=1e-5)
    assert odds[2, 9:11].min() == pytest.approx(0.2) and odds[2, 9:11].max() == pytest.approx(0.9)
    np.testing.assert_allclose(found[:, 14], [0.0, 0.0, 0.0, 0.6, 0.6], rtol=1e-5)
    np.testing.assert_array_equal(found[:, 15], [1, 1, 1, 1, 0])
    # What belongs to no lattice has no neighbours in it.
    assert odds[4, 9:13].max() < 1e-3


def taught(seed: int) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """Sites of thirty images, whose odds hang on two of their numbers."""
    rng = np.random.default_rng(seed)
    images = [rng.normal(5.0, 2.0, (300, SITE_FEATURES)).astype(np.float32) for _ in range(30)]
    right = [1.0 / (1.0 + np.exp(-1.5 * (part[:, 4] - part[:, 13]))) for part in images]
    return images, [rng.random(300) < p for p in right], np.concatenate(right)


def test_confidence_is_a_probability_and_doubt_is_larger_after_fewer_examples() -> None:
    images, occupied, _ = taught(1)
    net = fit_judges(images, occupied, seed=3, members=4, steps=400, progress=False)
    others, _, right = taught(2)
    sure, doubt = judge_sites(net, np.concatenate(others))
    assert np.sqrt(np.mean((sure - right) ** 2)) < 0.08
    few = fit_judges(images[:3], occupied[:3], seed=3, members=4, steps=400, progress=False)
    assert judge_sites(few, np.concatenate(others))[1].mean() > 1.5 * doubt.mean() > 0.0
    again = fit_judges(images, occupied, seed=3, members=4, steps=400, progress=False)
    np.testing.assert_array_equal(judge_sites(again, np.concatenate(others))[0], sure)


def test_both_kinds_of_sites_are_needed() -> None:
    images, occupied, _ = taught(1)
    with pytest.raises(ValueError, match="9000 of 9000 sites have an atom; give both"):
        fit_judges(images, [part | True for part in occupied], seed=1, members=2, progress=False)


def test_the_package_knows_how_sure_it_is() -> None:
    sure, doubt, there = [], [], []
    rng = np.random.default_rng(31)
    for _ in range(6):
        drawn = draw_image(rng, pixels=192, snr=3.0, steps=1)
        reading = read_surface(drawn.image, drawn.pixel)
        assert reading.verdict.readable
        atoms = np.asarray(drawn.sites[drawn.occupied], float)
        pairs, _ = match(reading.sites, atoms, 1.5e-10 / drawn.pixel)
        found = np.zeros(len(reading.sites), bool)
        found[pairs[:, 0]] = True
        sure.append(reading.confidence)
        doubt.append(reading.doubt)
        there.append(found)
    confidence, spread, right = map(np.concatenate, (sure, doubt, there))
    assert calibration_error(confidence, right) < 0.015
    wrong = (confidence > 0.5) != right
    assert wrong.mean() < 0.03 and spread[wrong].mean() > 3.0 * spread[~wrong].mean()
