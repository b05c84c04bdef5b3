"""Whether everything appears twice."""

import numpy as np
import pytest

from bluesky_gpsts.images.ghosts import ghost
from bluesky_gpsts.images.prepare import check_image, prepare
from bluesky_gpsts.images.reading import read_surface
from bluesky_gpsts.images.registry import load_surface
from bluesky_gpsts.images.simulate import draw_image


def strength(image: np.ndarray, pixel: float) -> float:
    prepared = prepare(check_image(image), pixel)
    return ghost(prepared, load_surface().maps(prepared))


@pytest.mark.parametrize("shift", [(20, 15), (-4, 24)])
def test_images_on_top_of_each_other_are_told(shift: tuple[int, int]) -> None:
    drawn = draw_image(np.random.default_rng(21), snr=6.0, steps=0, defects=2.0)
    twice = drawn.image + 0.8 * np.roll(drawn.image, shift, (0, 1))
    once, both = strength(drawn.image, drawn.pixel), strength(twice, drawn.pixel)
    assert once < 0.15 and both > 0.3
    verdict = read_surface(twice, drawn.pixel).verdict
    assert not verdict.readable and "several ends" in verdict.reason


def test_no_defect_has_no_second_image() -> None:
    drawn = draw_image(np.random.default_rng(22), snr=6.0, steps=0, defects=0.0, plain=True)
    assert strength(drawn.image, drawn.pixel) < 0.1
    assert strength(np.tile(drawn.image, (3, 3)), drawn.pixel) <= 1.0
