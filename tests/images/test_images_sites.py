"""Sites for patterns, and rows of terraces against each other."""

import numpy as np
import pytest

from bluesky_gpsts.images import SurfaceReading, read_surface
from bluesky_gpsts.images.assemble import at_right_angles
from bluesky_gpsts.images.drawn import DrawnImage
from bluesky_gpsts.images.relief import frame_of
from bluesky_gpsts.images.rowshifts import row_shifts
from bluesky_gpsts.images.simulate import draw_image
from bluesky_gpsts.images.sites import (
    ELECTRODE,
    THREE_DIMERS,
    WRITABLE,
    Pattern,
    Site,
    find_sites,
)
from bluesky_gpsts.images.surface import Terrace

SEED = 920


def seen(seed: int, **kwargs: object) -> tuple[DrawnImage, SurfaceReading]:
    drawn = draw_image(np.random.default_rng([SEED, seed]), **kwargs)
    reading = read_surface(drawn.image, drawn.pixel)
    assert reading.verdict.readable
    return drawn, reading


def classes_of(drawn: DrawnImage, reading: SurfaceReading) -> dict[int, str]:
    """True class of each defect that was found."""
    named = {}
    for defect in reading.defects:
        own = drawn.defect_map[reading.defect_labels == defect.number]
        if (own > 0).any():
            named[defect.number] = drawn.defects[np.bincount(own[own > 0]).argmax() - 1].kind
    return named


def covered(sites: list[Site], reading: SurfaceReading) -> int:
    """Dimers of sites that lie on a defect."""
    places = [site.dimers.reshape(-1, 2) for site in sites]
    columns, rows = np.round(np.concatenate([np.zeros((0, 2)), *places])).astype(int).T
    return int((reading.defect_labels[rows, columns] > 0).sum())


@pytest.fixture(scope="module")
def stepped() -> tuple[DrawnImage, SurfaceReading]:
    return seen(2, snr=4.0, steps=1)


def test_offered_sites_have_no_forbidden_defect_and_no_step(stepped) -> None:
    drawn, reading = stepped
    writable = [n for n, d in enumerate(drawn.defects, 1) if d.kind in WRITABLE]
    forbidden = ~np.isin(drawn.defect_map, [0, *writable])
    sites = find_sites(drawn.image, reading, THREE_DIMERS, classes_of(drawn, reading))
    assert len(sites) > 30
    wrong = 0
    for site in sites:
        frame = frame_of(reading, site.terrace).vectors
        grid = np.stack(np.meshgrid(np.linspace(-1.5, 1.5, 13), np.linspace(-0.5, 0.5, 7)), -1)
        places = np.round((site.x, site.y) + grid.reshape(-1, 2) @ frame).astype(int)
        columns, rows = np.clip(places, 0, np.array(drawn.image.shape)[::-1] - 1).T
        step = len(np.unique(drawn.terrace[rows, columns])) > 1
        wrong += step or bool(forbidden[rows, columns].any())
        assert site.step_distance >= THREE_DIMERS.step_margin
        assert site.defect_distance >= THREE_DIMERS.margin
    assert wrong <= 1


def test_sites_are_three_dimers_of_one_row_and_share_none(stepped) -> None:
    drawn, reading = stepped
    sites = find_sites(drawn.image, reading)
    dimers = np.concatenate([site.dimers.reshape(-1, 2) for site in sites])
    assert len(np.unique(dimers.round(3), axis=0)) == 3 * len(sites)
    for site in sites:
        first, middle, last = site.dimers[:, 0] * reading.pixel
        assert np.hypot(*(last - first)) == pytest.approx(0.768e-9, rel=0.1)
        assert (site.x, site.y) == pytest.approx(tuple(site.dimers.mean(axis=(0, 1))))
        along = np.arctan2(*(last - first)[::-1])
        assert abs(np.sin(along - site.direction)) < 0.1
    ranks = [min(s.step_distance, s.defect_distance, 3e-9) for s in sites]
    assert ranks == sorted(ranks, reverse=True)


def test_a_defect_without_a_sure_class_forbids() -> None:
    drawn, reading = seen(4, snr=8.0, steps=0, defects={"dangling_bond": 6e16})
    named = classes_of(drawn, reading)
    over = Pattern("over defects", 3, 1, margin=0.0, step_margin=0.0)

    assert covered(find_sites(drawn.image, reading, over, named, 2000), reading) > 5
    assert covered(find_sites(drawn.image, reading, over, {}, 2000), reading) == 0


def test_an_electrode_may_lie_over_missing_dimers() -> None:
    drawn, reading = seen(5, snr=8.0, steps=0, defects={"missing_dimer": 4e16})
    named = classes_of(drawn, reading)
    large = find_sites(drawn.image, reading, ELECTRODE, named)
    strict = Pattern("strict", ELECTRODE.along, ELECTRODE.across)
    assert large and large[0].dimers.shape == (14, 6, 2)
    assert covered(large, reading) > 0
    assert covered(find_sites(drawn.image, reading, strict, named), reading) == 0


def test_rows_turn_and_lie_a_quarter_beside_from_terrace_to_terrace() -> None:
    straight, across = [], []
    for seed in (6, 7, 8):
        drawn, reading = seen(seed, snr=6.0, steps=2, plain=True)
        for found in row_shifts(reading):
            if found.turned:
                across.append(min(abs(found.shift), abs(abs(found.shift) - 0.25)))
            else:
                straight.append(abs(abs(found.shift) - 0.25))
            assert abs(np.degrees(found.angle)) < 1.5
            assert 0.0 < found.error < 0.3
    assert len(straight) >= 2 and len(across) >= 4
    assert np.median(straight) < 0.05 and np.median(across) < 0.05


def test_a_terrace_at_no_right_angle_to_the_others_is_as_uncertain_as_it_is_off() -> None:
    def terrace(number: int, area: float, degrees: float, error: float) -> Terrace:
        vectors = np.array([[0.384e-9, 0.0], [0.0, 0.768e-9]])
        angle, sigma = np.radians(degrees % 180.0), np.radians(error)
        return Terrace(number, area * 1e-18, vectors, np.zeros(2), angle, sigma, 0.9)

    given = [terrace(1, 300, 36.4, 0.02), terrace(2, 250, 126.3, 0.02), terrace(3, 21, 121.4, 0.4)]
    nothing = Terrace(4, 1e-18, None, np.full(2, np.nan), np.nan, np.nan, 0.0)
    errors = np.degrees([t.direction_error for t in at_right_angles([*given, nothing])])
    assert errors[:2] == pytest.approx([0.02, 0.1])
    assert errors[2] == pytest.approx(5.0) and np.isnan(errors[3])
    straight = [terrace(1, 300, 36.4, 0.02), terrace(2, 250, 126.41, 0.02)]
    assert at_right_angles(straight) == tuple(straight)
    assert at_right_angles(straight[:1]) == tuple(straight[:1])


def test_bad_input_is_told(stepped) -> None:
    drawn, reading = stepped
    with pytest.raises(ValueError, match="1 or more"):
        Pattern("none", 0, 1)
    with pytest.raises(ValueError, match="keeps -1"):
        Pattern("near", 3, 1, margin=-1.0)
    with pytest.raises(ValueError, match="count is 0"):
        find_sites(drawn.image, reading, count=0)
    with pytest.raises(ValueError, match="pattern is 'three'; give a Pattern"):
        find_sites(drawn.image, reading, "three")
    with pytest.raises(ValueError, match="there is no defect 9999"):
        find_sites(drawn.image, reading, classes={9999: "water"})
    with pytest.raises(ValueError, match="called 'danglingbond'; give one of .*dangling_bond, "):
        find_sites(drawn.image, reading, classes={1: "danglingbond"})
    own = Pattern("own", 3, 1, allowed=("bond",))
    assert find_sites(drawn.image, reading, own, {1: "bond"})
    assert find_sites(drawn.image, reading, classes={1: "cluster 1"}, known=["cluster 1"])
