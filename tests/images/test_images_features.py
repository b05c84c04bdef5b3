"""Features of defects: what the paper's are, and pictures that do not depend on the image."""

import numpy as np
import pytest

from bluesky_gpsts.images import read_surface
from bluesky_gpsts.images.features import (
    PATCH,
    DefectTable,
    average_patch,
    measure_defects,
)
from bluesky_gpsts.images.simulate import draw_image

DENSITIES = {"missing_dimer": 4e16, "dangling_bond": 4e16}


def measured(seed: int, pixel: float) -> tuple[DefectTable, np.ndarray]:
    """Features from the true masks of an image, and whether each is a dangling bond."""
    rng = np.random.default_rng([910, seed])
    side = round(20e-9 / pixel)
    # Plain: in one of them bonds might tower over the lattice, and in the other not.
    drawn = draw_image(
        rng, pixels=side, pixel=pixel, snr=8.0, steps=0, defects=DENSITIES, plain=True
    )
    reading = read_surface(drawn.image, drawn.pixel)
    table = measure_defects(drawn.image, reading, drawn.defect_map)
    return table, np.array([drawn.defects[n - 1].kind == "dangling_bond" for n in table.numbers])


@pytest.fixture(scope="module")
def fine() -> tuple[DefectTable, np.ndarray]:
    return measured(1, 0.075e-9)


@pytest.fixture(scope="module")
def coarse() -> tuple[DefectTable, np.ndarray]:
    return measured(2, 0.11e-9)


def test_depressions_and_protrusions_are_told_apart(fine, coarse) -> None:
    for table, bright in (fine, coarse):
        assert len(table) > 10
        assert np.mean(table.depression == ~bright) > 0.95
        assert np.median(table.height[bright]) > 1.0
        assert np.median(table.height[~bright]) < -1.5


def test_area_and_circularity_of_single_dimers(fine, coarse) -> None:
    """A missing dimer is about a unit cell in size, and nearly round, at any pixel size."""
    for table, bright in (fine, coarse):
        assert np.median(table.area[~bright]) == pytest.approx(1.1, abs=0.3)
        assert np.median(table.circularity[~bright]) > 0.85
        assert np.all((table.circularity > 0.0) & (table.circularity <= 1.0))


def test_pictures_are_the_same_whatever_rotation_and_pixel_size(fine, coarse) -> None:
    for kind in (True, False):
        one, other = (
            average_patch(table.patches[bright == kind])[0] for table, bright in (fine, coarse)
        )
        assert one.shape == PATCH
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.85
        # Rows across, four pixels from dimer to dimer along: the lattice shows beside the defect.
        beside = one[:4, :].mean(axis=0)
        power = np.abs(np.fft.rfft(beside - beside.mean()))
        assert 4 + power[4:].argmax() == PATCH[1] // 4


def test_a_mirrored_picture_averages_to_the_same() -> None:
    rng = np.random.default_rng(1)
    picture = np.zeros((1, 2, *PATCH))
    picture[0, 0, 8:11, 18:22] = 1.0
    turned = [np.flip(picture, axes) for axes in ((), (2,), (3,), (2, 3))]
    noisy = np.concatenate([turned[n % 4] + rng.normal(0, 0.1, picture.shape) for n in range(40)])
    mean = average_patch(noisy)[0]
    assert any(np.abs(mean - turn[0, 0]).max() < 0.15 for turn in turned)


def test_rows_of_tables_are_taken_and_joined(fine, coarse) -> None:
    joined = DefectTable.joined([fine[0], coarse[0]])
    assert len(joined) == len(fine[0]) + len(coarse[0])
    deep = joined.take(joined.depression)
    assert deep.depression.all() and 0 < len(deep) < len(joined)
    assert joined.published.shape == (len(joined), 3)


def test_grey_values_and_unscanned_lines_make_no_difference_elsewhere() -> None:
    rng = np.random.default_rng([910, 7])
    drawn = draw_image(rng, pixels=192, pixel=0.09e-9, snr=8.0, steps=0, defects=DENSITIES)
    whole = np.asarray(drawn.image, float)
    part = whole.copy()
    part[150:] = np.nan
    low, high = whole.min(), whole.max()
    grey = np.round(255.0 * (whole - low) / (high - low)).astype(np.uint8)
    reading = read_surface(whole, drawn.pixel)
    table = measure_defects(whole, reading)
    grey_table = measure_defects(grey, reading)
    np.testing.assert_allclose(grey_table.height, table.height, atol=0.15)
    part_reading = read_surface(part, drawn.pixel)
    assert part_reading.verdict.readable
    cut = measure_defects(part, part_reading)
    assert len(cut) and np.isfinite(cut.patches).all() and cut.places[:, 1].max() < 150


def test_what_cannot_be_measured_is_told() -> None:
    rng = np.random.default_rng([910, 4])
    drawn = draw_image(rng, pixels=128, pixel=0.09e-9, ruined="noise")
    reading = read_surface(drawn.image, drawn.pixel)
    with pytest.raises(ValueError, match="was not read: .*take it again"):
        measure_defects(drawn.image, reading)
    with pytest.raises(ValueError, match="give the image that was read"):
        measure_defects(drawn.image[:100], reading)
    good = draw_image(rng, pixels=128, pixel=0.09e-9, snr=8.0, steps=0, defects={})
    clear = read_surface(good.image, good.pixel)
    none = measure_defects(good.image, clear, np.zeros((128, 128), int))
    assert len(none) == 0 and none.patches.shape == (0, 2, *PATCH)
    assert average_patch(none.patches).shape == (2, *PATCH)
    with pytest.raises(ValueError, match="whole numbers"):
        measure_defects(good.image, clear, np.zeros((128, 128)))
    with pytest.raises(ValueError, match="give"):
        average_patch(np.zeros((3, 4)))
