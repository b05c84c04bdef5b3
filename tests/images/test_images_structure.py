"""Lattice and centre of an image."""

import numpy as np
import pytest

from bluesky_gpsts.images import find_center, lattice_from_image


def make_lattice(vectors, side=96, size=6e-9, noise=0.2, slope=3.0):
    rng = np.random.default_rng(4)
    axis = ((np.arange(side) + 0.5) / side - 0.5) * size
    x, y = np.meshgrid(axis, axis)
    waves = np.linalg.inv(np.array(vectors)).T
    phase = waves @ np.stack([x.ravel(), y.ravel()])
    image = np.cos(2 * np.pi * phase).sum(axis=0) + np.cos(2 * np.pi * (phase[0] - phase[1]))
    image = image.reshape(side, side) + slope * x / size
    return image + noise * rng.normal(size=image.shape), size


def same_lattice(found, expected, tolerance):
    """Whether each expected vector is a whole-number combination of the found ones."""
    numbers = np.array(expected) @ np.linalg.inv(np.array(found))
    return np.abs(numbers - np.round(numbers)).max() < tolerance and np.isclose(
        abs(np.linalg.det(np.round(numbers))), 1.0
    )


@pytest.mark.parametrize("turn", [0.0, 0.2, 0.9])
@pytest.mark.parametrize("opening", [np.pi / 3, np.pi / 2])
def test_the_lattice_is_found_to_a_hundredth(turn, opening):
    vectors = 0.8e-9 * np.array(
        [[np.cos(turn), np.sin(turn)], [np.cos(turn + opening), np.sin(turn + opening)]]
    )
    image, size = make_lattice(vectors)
    assert same_lattice(lattice_from_image(image, size, size), vectors, 0.02)


def test_a_turned_frame_turns_the_vectors():
    image, size = make_lattice([(0.8e-9, 0.0), (0.0, 0.6e-9)])
    straight = np.array(lattice_from_image(image, size, size))
    turned = np.array(lattice_from_image(image, size, size, angle=90.0))
    # Clockwise: what points right in the frame points down on the sample.
    np.testing.assert_allclose(turned, np.column_stack([straight[:, 1], -straight[:, 0]]))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((16, 16)), "no two periods"),
        (np.full((16, 16), np.nan), "finite"),
        (np.zeros((4, 16)), "8 x 8"),
    ],
)
def test_an_image_without_a_lattice_is_refused(image, message):
    with pytest.raises(ValueError, match=message):
        lattice_from_image(image, 1e-9, 1e-9)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_centre_is_found_on_a_slope_with_noise(sign):
    rng = np.random.default_rng(1)
    axis = (np.arange(128) + 0.5) / 128 - 0.5
    u, v = np.meshgrid(axis, axis)
    image = sign * np.exp(-((u - 0.13) ** 2 + (v + 0.21) ** 2) / (2 * 0.06**2))
    image += 2.0 * u - v + 0.1 * rng.normal(size=u.shape)
    np.testing.assert_allclose(find_center(image), (0.13, -0.21), atol=0.02)


def test_a_flat_image_has_no_centre():
    with pytest.raises(ValueError, match="flat"):
        find_center(np.full((16, 16), 3e-9))
    with pytest.raises(ValueError, match="finite"):
        find_center(np.full((16, 16), np.inf))
