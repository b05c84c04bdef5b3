"""Registration: accuracy, and that it says when it does not know."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bluesky_gpsts.benchmarks.drift_images import draw_pair, draw_surface
from bluesky_gpsts.benchmarks.drift_real import read_scans
from bluesky_gpsts.images import level_lines, register

RNG = 5


def error(shift, pair):
    return float(np.hypot(shift.dx - pair.dx, shift.dy - pair.dy))


@pytest.mark.parametrize(("dx", "dy"), [(3.3, -5.7), (-8.25, 0.4), (0.0, 0.0)])
def test_the_image_is_the_reference_moved_by_the_shift(dx: float, dy: float) -> None:
    surface = draw_surface("adsorbates", 3)
    shift = register(surface.heights(), surface.heights(dx, dy))
    assert (shift.dx, shift.dy) == pytest.approx((dx, dy), abs=0.02)
    assert shift.ok
    assert shift.reason == ""
    assert shift.confidence > 0.8


@pytest.mark.parametrize(
    ("snr", "median"), [(8.0, 0.02), (2.0, 0.02), (0.7, 0.06)], ids=lambda value: f"{value}"
)
def test_tilt_and_line_jumps_do_not_matter(snr: float, median: float) -> None:
    errors, sigmas = [], []
    for seed in range(5):
        pair = draw_pair("adsorbates", seed, snr)
        shift = register(pair.reference, pair.image)
        assert shift.ok
        assert shift.changed is None
        errors.append(error(shift, pair))
        sigmas.append(np.hypot(shift.sigma_x, shift.sigma_y))
    assert np.median(errors) < median
    # What it says of its own uncertainty is right within a factor of three.
    assert 1 / 3 < np.median(errors) / np.median(sigmas) < 3


def test_a_scale_or_unit_does_not_matter() -> None:
    pair = draw_pair("adsorbates", 1, 4.0)
    first = register(pair.reference, pair.image)
    second = register(1e-10 * pair.reference + 3e-7, 1e-10 * pair.image - 1e-7)
    assert (second.dx, second.dy) == pytest.approx((first.dx, first.dy), abs=1e-3)


def test_forward_is_the_opposite_of_backward() -> None:
    pair = draw_pair("terraces", 2, 2.0)
    there, back = register(pair.reference, pair.image), register(pair.image, pair.reference)
    assert (there.dx, there.dy) == pytest.approx((-back.dx, -back.dy), abs=5e-3)


def test_a_step_edge_is_no_line_jump() -> None:
    pair = draw_pair("terraces", 4, 8.0)
    assert error(register(pair.reference, pair.image), pair) < 0.05


def test_bad_lines_and_glitches_are_left_out() -> None:
    pair = draw_pair("adsorbates", 2, 4.0)
    rng = np.random.default_rng(RNG)
    image = pair.image.copy()
    image[100] += 60.0 * rng.normal(size=256)
    image[170] += 60.0 * rng.normal(size=256)
    image[40:43, 90:120] += 80.0
    shift = register(pair.reference, image)
    assert shift.ok
    assert error(shift, pair) < 0.05


def test_an_unfinished_image_is_used_as_far_as_it_goes() -> None:
    pair = draw_pair("adsorbates", 6, 4.0)
    image = pair.image.copy()
    image[150:] = np.nan
    image[60, 20:30] = np.nan
    shift = register(pair.reference, image)
    assert shift.ok
    assert error(shift, pair) < 0.1
    image[20:] = np.nan
    short = register(pair.reference, image)
    assert not short.ok
    assert "only 20 rows" in short.reason


def test_a_change_of_the_tip_half_way_is_found_and_left_out() -> None:
    for seed in (2, 3, 5):
        pair = draw_pair("adsorbates", seed, 4.0, tip_change=True)
        # The line of the change, as it was drawn.
        rng = np.random.default_rng([seed, 72])
        rng.uniform(size=2)
        begin = int(rng.integers(64, 192))
        shift = register(pair.reference, pair.image)
        assert shift.changed == pytest.approx(begin, abs=15)
        assert error(shift, pair) < 0.25


def test_a_bare_lattice_is_ambiguous() -> None:
    for seed in range(3):
        pair = draw_pair("bare lattice", seed, 4.0)
        shift = register(pair.reference, pair.image)
        assert not shift.ok
        assert shift.reason.startswith("periodic lattice: shifts of (")
        places = [(shift.dx, shift.dy), *shift.alternatives]
        assert min(np.hypot(x - pair.dx, y - pair.dy) for x, y in places) < 0.1


def test_a_few_defects_settle_a_lattice() -> None:
    for seed in range(3):
        pair = draw_pair("lattice with defects", seed, 4.0)
        shift = register(pair.reference, pair.image)
        assert shift.ok
        assert error(shift, pair) < 0.1


@pytest.mark.parametrize("surface", ["adsorbates", "terraces", "herringbone"])
def test_unrelated_images_are_refused(surface: str) -> None:
    for seed in range(3):
        pair = draw_pair(surface, seed, 2.0, unrelated=True)
        shift = register(pair.reference, pair.image)
        assert not shift.ok
        assert shift.confidence < 0.4
        assert shift.reason


def test_a_frame_without_features_is_told() -> None:
    noise = draw_pair("featureless", 1, 1.0)
    assert register(noise.reference, noise.image).reason.startswith("featureless")
    flat = np.zeros((64, 64))
    for other in (flat, flat + 3.0, noise.image[:64, :64]):
        shift = register(flat, other)
        assert not shift.ok
        assert shift.confidence == 0.0
        assert shift.reason.startswith("featureless")


def test_a_patch_around_a_feature() -> None:
    pair = draw_pair("adsorbates", 8, 4.0)
    for center in ("feature", (128, 128)):
        shift = register(pair.reference, pair.image, center=center, reach=64)
        assert error(shift, pair) < 0.2


def test_a_large_shift_is_at_the_limit_of_the_search() -> None:
    surface = draw_surface("adsorbates", 3)
    shift = register(surface.heights(), surface.heights(14.0, 0.0), max_shift=10)
    assert not shift.ok
    assert register(surface.heights(), surface.heights(14.0, 0.0)).dx == pytest.approx(14, abs=0.02)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(32, 70), st.integers(32, 70), st.floats(0.0, 0.6))
def test_whatever_comes_in_an_answer_comes_out(seed: int, ny: int, nx: int, gaps: float) -> None:
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(2):
        image = np.cumsum(rng.normal(size=(ny, nx)), axis=1) * 10.0 ** rng.uniform(-12, 3)
        image[rng.uniform(size=ny) < gaps] = np.nan
        images.append(image)
    for method in ("phase", "block-matching"):
        try:
            shift = register(*images, method=method)
        except ValueError as refused:
            assert "block" in str(refused) or "reach" in str(refused)  # noqa: PT017
            continue
        assert np.isfinite([shift.dx, shift.dy, shift.confidence]).all()
        assert 0.0 <= shift.confidence <= 1.0
        assert shift.ok == (shift.reason == "")


def test_block_matching_finds_whole_pixels() -> None:
    surface = draw_surface("adsorbates", 3)
    shift = register(surface.heights(), surface.heights(6.0, -4.0), method="block-matching")
    assert (shift.dx, shift.dy) == (6.0, -4.0)
    assert shift.ok
    image = surface.heights(6.0, -4.0)
    image[200:] = np.nan
    there = register(surface.heights(), image, method="block-matching", center=(100, 100))
    assert (there.dx, there.dy) == (6.0, -4.0)
    lattice = draw_pair("bare lattice", 1, 4.0)
    doubtful = register(lattice.reference, lattice.image, method="block-matching")
    assert not doubtful.ok
    assert doubtful.alternatives


IMAGE = np.zeros((64, 64))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((IMAGE, IMAGE[:50]), {}, "one shape"),
        ((IMAGE[:20], IMAGE[:20]), {}, "at least 32 x 32"),
        ((IMAGE + np.inf, IMAGE), {}, "infinite"),
        ((IMAGE, IMAGE), {"max_shift": 0}, "max_shift is 0"),
        ((IMAGE, IMAGE), {"method": "guess"}, "no method 'guess'"),
        ((IMAGE, IMAGE), {"reach": 20}, "no center is given"),
        ((IMAGE, IMAGE), {"center": (5, 5), "reach": 20}, "leaves the frame"),
        ((IMAGE, IMAGE), {"center": "middle", "reach": 20}, "center is 'middle'"),
        ((IMAGE, IMAGE), {"center": "feature"}, "reach is 60"),
    ],
)
def test_wrong_arguments(arguments, options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        register(*arguments, **options)


def test_level_lines_keeps_steps_and_removes_jumps() -> None:
    x, y = np.meshgrid(np.arange(80.0), np.arange(60.0))
    relief = np.where(x + 0.3 * y > 50.0, 1.0, 0.0)
    rng = np.random.default_rng(RNG)
    image = relief + 0.02 * x + rng.normal(size=(60, 1)) * 5.0
    flat, good = level_lines(image)
    assert good.all()
    assert np.corrcoef(flat.ravel(), relief.ravel())[0, 1] > 0.99


def test_level_lines_marks_a_bad_line_only() -> None:
    pair = draw_pair("adsorbates", 2, 8.0)
    image = pair.image.copy()
    image[77] += 50.0 * np.random.default_rng(RNG).normal(size=256)
    _, good = level_lines(image)
    assert list(np.flatnonzero(~good.all(axis=1))) == [77]


@pytest.mark.shared_data
def test_real_scans_agree_with_themselves(shared_data: Path) -> None:
    images, _, pixel = read_scans(shared_data)
    steps = [register(images[i], images[i + 1]) for i in range(6)]
    assert all(step.ok for step in steps)
    for i in range(5):
        back = register(images[i + 1], images[i])
        assert np.hypot(steps[i].dx + back.dx, steps[i].dy + back.dy) < 0.1
        skip = register(images[i], images[i + 2])
        assert abs(skip.dx - steps[i].dx - steps[i + 1].dx) < 0.1
        assert abs(skip.dy - steps[i].dy - steps[i + 1].dy) < 0.1
    lengths = np.array([np.hypot(step.dx, step.dy) for step in steps]) * pixel
    assert lengths[:5].max() < 0.04e-9
    assert lengths[5] == pytest.approx(0.11e-9, abs=0.01e-9)
