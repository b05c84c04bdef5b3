"""Tests of drawn images: the truth fits the picture, noise has its size, ruined is ruined."""

from dataclasses import fields

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from bluesky_gpsts.images.drawn import DrawnImage
from bluesky_gpsts.images.simulate import PIXELS, RUINED, SNRS, draw_blunt, draw_image
from bluesky_gpsts.images.truths import Track
from bluesky_gpsts.physics.hsi100 import ATOM_DISTANCE, KINDS, ROW_DISTANCE, STEP_HEIGHT

Array = NDArray[np.float64]


def _at(image: Array, places: Array) -> Array:
    """Values (n,) between the pixels."""
    values: Array = ndimage.map_coordinates(
        image.astype(float), [places[:, 1], places[:, 0]], order=3, mode="nearest"
    )
    return values


def _inner(drawn: DrawnImage, margin: float) -> NDArray[np.bool_]:
    ny, nx = drawn.image.shape
    x, y = drawn.sites.T
    inside = (x > margin) & (x < nx - 1 - margin) & (y > margin) & (y < ny - 1 - margin)
    return np.asarray(inside)


def _rows(drawn: DrawnImage) -> Array:
    """Unit vectors (n, 2) across the rows, at each site."""
    angle = drawn.rows[drawn.site_terrace - 1] + np.pi / 2
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _contrast(drawn: DrawnImage) -> float:
    """How far dimers stand out of the troughs beside their rows, in units of the scatter."""
    keep = _inner(drawn, 8.0)
    half = 0.5 * ROW_DISTANCE / drawn.pixel * _rows(drawn)[keep]
    places = drawn.sites[keep]
    troughs = 0.5 * (_at(drawn.image, places + half) + _at(drawn.image, places - half))
    rise = _at(drawn.image, places) - troughs
    return float(np.median(rise) / (1.4826 * np.median(np.abs(rise - np.median(rise)))))


def test_the_same_seed_draws_the_same_image() -> None:
    first, second, other = (draw_image(np.random.default_rng(s), pixels=96) for s in (4, 4, 5))
    for item in fields(DrawnImage):
        left, right = getattr(first, item.name), getattr(second, item.name)
        assert np.array_equal(left, right) if isinstance(left, np.ndarray) else left == right
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("seed", range(6))
def test_the_truth_is_consistent(seed: int) -> None:
    ruined = None if seed < 4 else RUINED[seed]
    drawn = draw_image(np.random.default_rng(seed), pixels=(150, 200), ruined=ruined)
    assert drawn.image.shape == (150, 200) and drawn.image.dtype == np.float32
    assert np.isfinite(drawn.image).all()
    assert PIXELS[0] <= drawn.pixel <= PIXELS[1] and drawn.ruined == (ruined or "")
    if ruined is None:
        assert SNRS[0] <= drawn.snr <= SNRS[1]
    assert set(np.unique(drawn.terrace)) == set(range(1, len(drawn.rows) + 1))
    assert ((drawn.rows >= 0.0) & (drawn.rows < np.pi)).all()
    count = len(drawn.sites)
    assert drawn.occupied.shape == drawn.site_terrace.shape == (count,)
    assert drawn.occupied.dtype == bool and drawn.steps.dtype == bool
    x, y = np.round(drawn.sites).astype(int).T
    assert ((x >= 0) & (x < 200) & (y >= 0) & (y < 150)).all()
    assert np.mean(drawn.terrace[y, x] == drawn.site_terrace) > 0.99
    area = 150 * 200 * drawn.pixel**2 / (ROW_DISTANCE * ATOM_DISTANCE)
    assert 0.85 * area < count < 1.05 * area
    assert set(np.unique(drawn.defect_map)) - {0} == set(range(1, len(drawn.defects) + 1))
    for index, defect in enumerate(drawn.defects, start=1):
        assert defect.kind in KINDS
        for site in defect.sites:
            hidden = defect.kind in ("missing_dimer", "missing_cluster", "contaminant")
            hidden |= defect.kind == "unresolved"
            assert drawn.occupied[site] != hidden
        marked = np.argwhere(drawn.defect_map == index)
        if len(marked) > 20 and 10 < defect.x < 190 and 10 < defect.y < 140:
            middle = marked.mean(axis=0)[::-1]
            reach = 8.0 if defect.kind in ("contaminant", "unresolved") else 3.0
            assert np.hypot(*(middle - (defect.x, defect.y))) < reach


@pytest.mark.parametrize("seed", range(3))
def test_dimers_are_where_the_truth_says(seed: int) -> None:
    """Shifting the truth by a tenth of a pixel or more, either way, fits the picture less."""
    drawn = draw_image(
        np.random.default_rng(seed), pixels=160, snr=300.0, steps=0, defects=0.0, plain=True
    )
    keep = _inner(drawn, 4.0)
    assert drawn.occupied.all()
    across = _rows(drawn)[keep]
    along = across[:, ::-1] * (1.0, -1.0)
    for axis in (across, along):
        shifts = np.linspace(-1.0, 1.0, 41)
        means = [_at(drawn.image, drawn.sites[keep] + s * axis).mean() for s in shifts]
        a, b, _ = np.polyfit(shifts, means, 2)
        assert a < 0.0 and abs(-b / (2 * a)) < 0.03


def test_the_truth_follows_the_drift() -> None:
    """Positions and directions under drift and creep of a few per cent of the image."""
    track = Track((120, 100), 0.1e-9, np.array([0.4e-9, -0.3e-9]), np.array([0.1e-9, 0.05e-9]))
    still = Track((120, 100), 0.1e-9, np.zeros(2), np.zeros(2))
    x, y = track.positions()
    grid = np.indices((120, 100))[::-1].reshape(2, -1).T
    np.testing.assert_allclose(track.pixels(x.ravel(), y.ravel()), grid, atol=1e-6)
    np.testing.assert_allclose(still.pixels(x.ravel(), y.ravel())[0], grid[0], atol=1e-6)
    end = still.pixels(x[-1:, -1], y[-1:, -1])[0] - (99.0, 119.0)
    assert end[0] > 4.0 and end[1] < -2.0
    lines = np.arange(120.0)
    assert still.direction(0.7, lines) == pytest.approx(0.7)
    c, s = np.cos(0.7), np.sin(0.7)
    reach = np.linspace(-4e-9, 4e-9, 50)
    seen = track.pixels(reach * c, reach * s)
    fitted = np.arctan2(*np.polyfit(reach, seen, 1)[0][::-1])
    assert track.direction(0.7, np.round(seen[:, 1])) == pytest.approx(fitted, abs=0.003)
    assert abs(fitted - 0.7) > 0.005


def test_rows_run_along_their_direction() -> None:
    """The nearest neighbours of dimers lie along the rows, one dimer distance away."""
    for seed in range(4):
        drawn = draw_image(np.random.default_rng(seed), pixels=128, steps=1)
        for label in range(1, len(drawn.rows) + 1):
            own = drawn.sites[drawn.site_terrace == label]
            if len(own) < 100:
                continue
            gaps = own[:, None] - own[None]
            length = np.linalg.norm(gaps, axis=2)
            near = (length > 0.0) & (length < 1.3 * ATOM_DISTANCE / drawn.pixel)
            angle = np.arctan2(gaps[near][:, 1], gaps[near][:, 0]) - drawn.rows[label - 1]
            assert np.abs(np.mean(np.exp(2j * angle))) > 0.9999
            assert abs(np.angle(np.mean(np.exp(2j * angle)))) / 2 < np.radians(0.3)


def test_terraces_are_a_step_apart_and_steps_lie_between() -> None:
    drawn = draw_image(
        np.random.default_rng(2), pixels=200, steps=2, defects=0.0, snr=50.0, plain=True
    )
    large = [k for k in range(1, len(drawn.rows) + 1) if (drawn.terrace == k).sum() > 2000]
    assert len(large) == 3
    flat = ndimage.gaussian_filter(drawn.image.astype(float), 0.8 * ROW_DISTANCE / drawn.pixel)
    away = ndimage.distance_transform_edt(~drawn.steps) > 12
    heights = sorted(float(np.median(flat[(drawn.terrace == k) & away])) for k in large)
    np.testing.assert_allclose(np.diff(heights), STEP_HEIGHT, atol=3e-12)
    turns = np.abs(np.diff(drawn.rows[np.array(large) - 1]))
    assert np.isclose(turns, np.pi / 2, atol=1e-6).sum() >= 1
    assert drawn.steps.any() and drawn.steps.mean() < 0.25
    edge = drawn.terrace[:, 1:] != drawn.terrace[:, :-1]
    assert drawn.steps[:, 1:][edge].all()
    assert not draw_image(np.random.default_rng(2), pixels=64, steps=0).steps.any()


def test_noise_has_its_size() -> None:
    """The white noise is 0.33 times the corrugation, divided by the ratio."""
    quiet, noisy = (
        draw_image(np.random.default_rng(7), pixels=128, snr=s, steps=0, defects=0.0, plain=True)
        for s in (1e6, 4.0)
    )
    sigma = float((noisy.image - quiet.image).std())
    corrugation = float(np.ptp(quiet.image))
    assert sigma == pytest.approx(0.33 * corrugation / 4.0, rel=0.05)
    assert noisy.snr == 4.0


def test_kinds_and_numbers_of_defects() -> None:
    rng = np.random.default_rng
    assert draw_image(rng(0), pixels=96, defects=0.0).defects == ()
    only = draw_image(rng(1), pixels=160, steps=0, defects={"dangling_bond": 5e16})
    assert {d.kind for d in only.defects} == {"dangling_bond"} and len(only.defects) > 3
    few, many = (draw_image(rng(2), pixels=200, steps=0, defects=d) for d in (0.3, 3.0))
    assert len(many.defects) > 3 * len(few.defects)
    seen = {d.kind for s in range(8) for d in draw_image(rng(s), defects=2.0).defects}
    assert seen == set(KINDS)


def test_bright_and_dark_defects_look_it() -> None:
    for kind, sign in (("dangling_bond", 1), ("bare_dimer", 1), ("missing_dimer", -1)):
        drawn = draw_image(
            np.random.default_rng(5), steps=0, defects={kind: 3e16}, snr=50.0, plain=True
        )
        level = float(np.median(drawn.image))
        for index in range(1, len(drawn.defects) + 1):
            here = drawn.image[drawn.defect_map == index]
            if here.size > 30:
                assert sign * (float(here.mean()) - level) > 8e-12


def test_good_images_can_be_read() -> None:
    values = [_contrast(draw_image(np.random.default_rng(s), snr=4.0)) for s in range(12)]
    assert min(values) > 0.9 and np.median(values) > 2.0


@pytest.mark.parametrize("why", ["unresolved", "contamination", "noise"])
def test_rows_cannot_be_seen(why: str) -> None:
    values = [_contrast(draw_image(np.random.default_rng(s), ruined=why)) for s in range(5)]
    assert np.max(values) < 0.9 and np.median(values) < 0.5


def test_a_blunt_tip_shows_rows_and_no_dimers() -> None:
    """Along the rows nothing changes from a dimer to half-way to the next; across them it does."""

    def along(drawn: DrawnImage) -> float:
        near = ndimage.distance_transform_edt(drawn.defect_map == 0) * drawn.pixel > 1e-9
        column, row = np.round(drawn.sites).astype(int).T
        shape = drawn.image.shape
        keep = (
            _inner(drawn, 12.0)
            & near[np.clip(row, 0, shape[0] - 1), np.clip(column, 0, shape[1] - 1)]
        )
        angle = drawn.rows[drawn.site_terrace[keep] - 1]
        step = 0.5 * ATOM_DISTANCE / drawn.pixel * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        places = drawn.sites[keep]
        between = 0.5 * (_at(drawn.image, places + step) + _at(drawn.image, places - step))
        beside = 0.5 * ROW_DISTANCE / drawn.pixel * _rows(drawn)[keep]
        troughs = 0.5 * (_at(drawn.image, places + beside) + _at(drawn.image, places - beside))
        here = _at(drawn.image, places)
        return float(np.median(here - between) / np.median(here - troughs))

    for seed in range(4):
        blunt = draw_blunt(np.random.default_rng(seed), snr=8.0)
        sharp = draw_image(np.random.default_rng(seed), snr=8.0)
        assert blunt.blunt and not sharp.blunt and blunt.ruined == ""
        assert _contrast(blunt) > 0.9
        assert abs(along(blunt)) < 0.1 < along(sharp)


def test_bonds_tower_over_the_lattice_in_some_images() -> None:
    """As measured: from a few to forty times the corrugation, and over a nanometre wide."""
    heights = []
    for seed in range(30):
        options = {"steps": 0, "defects": {"dangling_bond": 5e16}, "pixels": 128, "pixel": 0.1e-9}
        drawn = draw_image(np.random.default_rng(seed), **options)
        flat = drawn.image - ndimage.median_filter(drawn.image, 41)
        tops = ndimage.maximum(flat, drawn.defect_map, range(1, len(drawn.defects) + 1))
        heights.append(float(np.median(tops)))
    assert min(heights) < 0.15e-9 and max(heights) > 0.6e-9
    assert 0.1 < np.mean(np.array(heights) > 0.2e-9) < 0.5


def test_a_double_tip_shows_bonds_twice() -> None:
    for seed in range(3):
        options = {"steps": 0, "defects": {"dangling_bond": 1.5e16}, "plain": True, "snr": 30.0}
        counts = []
        for ruined in (None, "double tip"):
            drawn = draw_image(np.random.default_rng(seed), ruined=ruined, **options)
            image = ndimage.gaussian_filter(drawn.image.astype(float), 2.0)
            top = image == ndimage.maximum_filter(image, 7)
            spread = np.percentile(image, 75) - np.percentile(image, 25)
            counts.append(int((top & (image > np.median(image) + 2.2 * spread)).sum()))
        assert counts[1] > 1.4 * counts[0]


def test_a_changing_tip_jumps_from_line_to_line() -> None:
    def jumps(seed: int, ruined: str | None) -> float:
        image = draw_image(np.random.default_rng(seed), steps=0, ruined=ruined).image
        return float(np.abs(np.diff(np.median(image, axis=1))).mean())

    good, bad = ([jumps(seed, why) for seed in range(6)] for why in (None, "tip"))
    assert min(bad) > max(good) and np.mean(bad) > 2.0 * np.mean(good)


def test_an_oscillation_rules_the_lines() -> None:
    for seed in range(3):
        image = draw_image(np.random.default_rng(seed), ruined="oscillation").image
        lines = image - image.mean(axis=1, keepdims=True)
        power = np.abs(np.fft.rfft(lines * np.hanning(256), axis=1)) ** 2
        mean = power.mean(axis=0)[20:]
        assert mean.max() > 20.0 * np.median(mean)


def test_a_saturated_image_has_lost_its_heights() -> None:
    for seed in range(3):
        image = draw_image(np.random.default_rng(seed), ruined="saturated").image
        lost = (image == image.min()) | (image == image.max())
        assert 0.7 < lost.mean() < 0.9


@pytest.mark.parametrize("shape", [(1, 1), 16, (40, 90), (300, 33)])
def test_any_size(shape: int | tuple[int, int]) -> None:
    drawn = draw_image(np.random.default_rng(0), pixels=shape, pixel=0.1e-9)
    expected = (shape, shape) if isinstance(shape, int) else shape
    assert drawn.image.shape == drawn.terrace.shape == drawn.defect_map.shape == expected
    assert drawn.pixel == 0.1e-9 and np.isfinite(drawn.image).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pixels": 0}, "0 x 0 pixels"),
        ({"pixels": (10, -1)}, "10 x -1 pixels"),
        ({"pixel": -1e-10}, "pixel is -1e-10 m"),
        ({"pixel": float("nan")}, "pixel is nan m"),
        ({"snr": 0.0}, "snr is 0.0"),
        ({"steps": -1}, "steps is -1"),
        ({"steps": 9}, "room for 0 to"),
        ({"ruined": "burnt"}, "'burnt'; give one of unresolved, double tip"),
        ({"defects": -1.0}, "defects is -1.0"),
        ({"defects": {"hole": 1.0}}, "'hole'; known kinds"),
        ({"blunt": True, "ruined": "noise"}, "ruined by 'noise'; give one"),
    ],
)
def test_bad_arguments(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_image(np.random.default_rng(0), **{"pixels": 64, **options})  # type: ignore[arg-type]
