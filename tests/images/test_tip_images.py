"""Sharpness of steps, echoes of adsorbates, flat places and jumps, on images with a known tip."""

import numpy as np
import pytest
from numpy.typing import NDArray

from bluesky_gpsts.images import echo, flat_places, level_plane, step_edge
from bluesky_gpsts.images.rowjumps import row_jumps
from bluesky_gpsts.physics import Junction, Tip
from bluesky_gpsts.physics.au111 import Au111, Impurity

SIDE, NX, NY = 30e-9, 256, 128
PIXEL = SIDE / NX, SIDE / NY
SPOTS = (Impurity(-6e-9, 3e-9, 80e-12), Impurity(-9e-9, -8e-9, 80e-12))


def surface(direction: float = 20.0, spots: tuple[Impurity, ...] = SPOTS) -> Au111:
    return Au111(step_distance=8e-9, step_direction=np.radians(direction), impurities=spots)


def image(
    tip: Tip, direction: float = 20.0, tilt: float = 0.0, seed: int = 0
) -> NDArray[np.float64]:
    u = ((np.arange(NX) + 0.5) / NX - 0.5) * SIDE
    v = (0.5 - (np.arange(NY) + 0.5) / NY) * SIDE
    x, y = np.meshgrid(u, v)
    z = Junction(surface(direction), tip).topography(x.ravel(), y.ravel(), 1.0, 30e-12)
    noise = 0.5e-12 * np.random.default_rng(seed).standard_normal((NY, NX))
    return np.asarray(z.reshape(NY, NX) + tilt * (x + 0.5 * y) + noise)


@pytest.mark.parametrize("direction", [0.0, 20.0, 90.0, 135.0, 250.0])
@pytest.mark.parametrize("blur", [0.06e-9, 0.4e-9])
def test_width_of_a_step(direction: float, blur: float) -> None:
    """The surface's own step is 0.12 nm wide."""
    edge = step_edge(image(Tip(blur=blur), direction, tilt=0.01), PIXEL)
    assert edge is not None and edge.lines >= 40
    assert edge.width == pytest.approx(np.hypot(0.12e-9, blur), rel=0.15)
    assert edge.height == pytest.approx(0.23e-9, abs=0.015e-9)
    assert edge.second == 0.0
    assert np.all(np.diff(edge.position) > 0) and edge.profile.shape == edge.position.shape


def test_a_second_apex_shows_beside_a_step_and_beside_adsorbates() -> None:
    across = Tip(apexes=((0, 0, 1), (-1.5e-9 * np.cos(0.35), -1.5e-9 * np.sin(0.35), 0.3)))
    edge = step_edge(image(across), PIXEL)
    assert edge is not None and edge.second > 0.07
    assert edge.separation == pytest.approx(1.5e-9, abs=0.4e-9)
    along = Tip(apexes=((0, 0, 1), (-1.5e-9 * np.sin(0.35), 1.5e-9 * np.cos(0.35), 0.9)))
    edge = step_edge(image(along), PIXEL)
    assert edge is not None and edge.second < 0.07, "no step tells of an apex along it"
    found = echo(image(along), PIXEL)
    assert found.strength > 0.15
    assert np.hypot(found.dx, found.dy) == pytest.approx(1.5e-9, abs=0.2e-9)
    single = echo(image(Tip()), PIXEL)
    assert single.strength < 0.12 and single.adsorbates in (2, 3)


def test_nothing_to_see() -> None:
    flat = 1e-12 * np.random.default_rng(1).standard_normal((64, 64))
    pixel = (0.2e-9, 0.2e-9)
    assert step_edge(flat, pixel) is None
    assert np.isnan(echo(flat, pixel).strength) and echo(flat, pixel).adsorbates == 0
    assert row_jumps(flat).size == 0


def test_levelling_keeps_the_height_of_a_step() -> None:
    flat = level_plane(image(Tip(), tilt=0.05))
    assert np.ptp(np.quantile(flat, [0.02, 0.98])) == pytest.approx(0.26e-9, abs=0.05e-9)
    unscanned = image(Tip())
    unscanned[:20] = np.nan
    assert np.isnan(level_plane(unscanned)[:20]).all()


def test_flat_places_keep_off_what_is_there() -> None:
    places = flat_places(image(Tip(), tilt=0.02), PIXEL, 2e-9, 6)
    assert len(places) == 6
    x = ((places[:, 0] + 0.5) / NX - 0.5) * SIDE
    y = (0.5 - (places[:, 1] + 0.5) / NY) * SIDE
    gold = surface()
    assert all(gold.bare(a, b, 0.9e-9) for a, b in zip(x, y, strict=True))
    assert np.all(np.abs([x, y]) < SIDE / 2 - 2e-9 + PIXEL[1])
    apart = np.hypot(x[:, None] - x, y[:, None] - y)[np.triu_indices(6, 1)]
    assert apart.min() >= 4e-9 - 2 * PIXEL[1]
    kept = flat_places(image(Tip()), PIXEL, 2e-9, 6, [places[0]], 9e-9)
    offset = np.hypot(
        (kept[:, 0] - places[0, 0]) * PIXEL[0], (kept[:, 1] - places[0, 1]) * PIXEL[1]
    )
    assert len(kept) and offset.min() > 8.9e-9
    assert flat_places(image(Tip()), PIXEL, 2e-9, 3, [(128, 64)], 40e-9).shape == (0, 2)


def test_jump_of_the_lines() -> None:
    rng = np.random.default_rng(3)
    steps = np.cumsum(2e-12 * rng.standard_normal(NY))[:, None]
    still = image(Tip()) + steps
    assert row_jumps(still).size == 0
    moved = still.copy()
    moved[50:] += 40e-12
    moved[90:] -= 80e-12
    assert row_jumps(moved).tolist() == [90, 50]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: level_plane(np.zeros((8, 64))), "give 16 x 16 pixels or more"),
        (lambda: level_plane(np.full((32, 32), np.nan)), "nothing of the image was scanned"),
        (lambda: step_edge(np.zeros((32, 32)), (0.0, 1e-10)), "lengths must be positive"),
        (lambda: echo(np.zeros((32, 32)), (1e-10, -1e-10)), "above 0"),
        (lambda: flat_places(np.zeros((32, 32)), (1e-10, 1e-10), 0.0), "must be positive"),
        (lambda: row_jumps(np.zeros((8, 32))), "8 lines were scanned"),
        (lambda: row_jumps(np.zeros((32, 32)), 1.5), "false_alarm is 1.5"),
    ],
)
def test_unfit_arguments(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
