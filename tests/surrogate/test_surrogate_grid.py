import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_gpsts.surrogate import Grid

GRID = Grid(100e-9, -50e-9, 4e-9, 2e-9, 30.0, 8, 4)


def test_x_runs_first_and_row_0_is_the_bottom():
    np.testing.assert_allclose(GRID.uv[0], [-1.75e-9, -0.75e-9])
    np.testing.assert_allclose(GRID.uv[1] - GRID.uv[0], [0.5e-9, 0.0], atol=1e-24)
    np.testing.assert_allclose(GRID.uv[8] - GRID.uv[0], [0.0, 0.5e-9], atol=1e-24)
    image = GRID.as_map(GRID.uv[:, 1])
    assert image.shape == (4, 8)
    assert (image[0] < image[-1]).all()


def test_a_positive_angle_turns_clockwise():
    grid = Grid(0.0, 0.0, 2.0, 2.0, 90.0, 2, 2)
    # Turned clockwise by a right angle, the frame's right edge points down.
    np.testing.assert_allclose(grid.to_sample([(1.0, 0.0)]), [[0.0, -1.0]], atol=1e-12)


@given(
    st.floats(-720, 720),
    st.floats(-0.5, 0.5),
    st.floats(-0.5, 0.5),
    st.floats(1e-9, 1e-6),
    st.floats(-1e-6, 1e-6),
)
def test_sample_and_frame_coordinates_are_inverse(angle, fu, fv, width, centre):
    grid = Grid(centre, -centre, width, 2 * width, angle, 16, 16)
    uv = [(fu * width, fv * 2 * width)]
    np.testing.assert_allclose(grid.to_frame(grid.to_sample(uv)), uv, atol=1e-6 * width)


def test_every_pixel_finds_itself():
    found = [GRID.index_of(x, y) for x, y in GRID.xy]
    assert found == list(range(GRID.size))
    np.testing.assert_array_equal(GRID.nearest(GRID.unit), np.arange(GRID.size))


def test_the_border_is_inside_and_beyond_it_is_an_error():
    corner = GRID.to_sample([(2e-9, 1e-9)])[0]
    assert GRID.index_of(*corner) == GRID.size - 1
    outside = GRID.to_sample([(2.1e-9, 0.0)])[0]
    with pytest.raises(ValueError, match="outside the frame"):
        GRID.index_of(*outside)
    assert GRID.index_of(*outside, margin=0.05) % 8 == 7
    with pytest.raises(ValueError, match="not finite"):
        GRID.index_of(math.nan, 0.0)


def test_metadata_survives_json():
    assert Grid.from_metadata(json.loads(json.dumps(GRID.to_metadata()))) == GRID


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0.0}, "width"),
        ({"height": -1e-9}, "height"),
        ({"center_x": math.inf}, "center_x"),
        ({"angle": math.nan}, "angle"),
        ({"nx": 0}, "nx"),
    ],
)
def test_an_impossible_frame_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Grid.from_metadata(GRID.to_metadata() | change)


def test_incomplete_metadata_names_what_is_missing():
    metadata = GRID.to_metadata()
    del metadata["angle"]
    with pytest.raises(ValueError, match="lacks angle"):
        Grid.from_metadata(metadata)
    with pytest.raises(ValueError, match="no number"):
        Grid.from_metadata(GRID.to_metadata() | {"width": "wide"})


def test_a_map_needs_one_value_for_each_pixel():
    with pytest.raises(ValueError, match="32 values"):
        GRID.as_map(np.zeros(31))
