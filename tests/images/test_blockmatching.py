"""Block matching: the fast form is the plain one."""

import numpy as np
import pytest

from bluesky_gpsts.benchmarks.drift_images import draw_pair
from bluesky_gpsts.images.blockmatching import block_scores, block_scores_loop, find_feature


@pytest.mark.parametrize("center", [(48, 48), (20, 30), (80, 70)])
def test_the_fast_form_is_the_plain_one(center: tuple[int, int]) -> None:
    pair = draw_pair("adsorbates", 1, 3.0, side=96)
    image = pair.image.copy()
    image[:30, :30] = 2.0
    arguments = dict(search=15, feature=8)
    plain = block_scores_loop(pair.reference, image, center, **arguments)
    fast = block_scores(pair.reference, image, center, **arguments)
    np.testing.assert_allclose(fast, plain, atol=1e-9)
    # Blocks that would leave the image are marked alike.
    np.testing.assert_array_equal(fast == -1.0, plain == -1.0)


def test_a_block_lies_on_itself() -> None:
    image = draw_pair("adsorbates", 1, 3.0, side=96).reference
    scores = block_scores(image, image, (48, 48), search=10, feature=8)
    assert scores[10, 10] == pytest.approx(1.0)
    assert np.argmax(scores) == 10 * 21 + 10


def test_the_feature_pins_both_directions() -> None:
    y, x = np.mgrid[:120, :120]
    image = np.tanh((x - 20.0) / 2.0) + 0.8 * np.exp(-((x - 70) ** 2 + (y - 64) ** 2) / 30.0)
    row, column = find_feature(image, 12)
    assert abs(row - 64) < 10
    assert abs(column - 70) < 10
    image[60:] = np.nan
    row, _ = find_feature(image, 12)
    assert row <= 47


def test_a_feature_needs_room() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        find_feature(np.zeros((30, 60)), 20)
    with pytest.raises(ValueError, match="known as a whole"):
        find_feature(np.full((60, 60), np.nan), 20)
