"""Surfaces read by the shipped model: right where it can be, refused where it cannot."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bluesky_gpsts.benchmarks.images.scores import (
    Counts,
    direction_error,
    score_atoms,
    score_defects,
    score_terraces,
)
from bluesky_gpsts.images import SurfaceReading, find_pixel, read_surface, simulate
from bluesky_gpsts.images.drawn import DrawnImage
from bluesky_gpsts.images.features import measure_defects
from bluesky_gpsts.images.prepare import check_image, plain_image
from bluesky_gpsts.images.quality import FEATURES, fit_gate, judge
from bluesky_gpsts.images.registry import load_classes
from bluesky_gpsts.images.rowshifts import row_shifts
from bluesky_gpsts.images.simulate import RUINED, draw_blunt, draw_image
from bluesky_gpsts.images.sites import THREE_DIMERS, find_sites

SEED = 900

_BONDS = np.array(
    [
        *((204, 12), (137, 19), (175, 21), (185, 56), (112, 66), (275, 68), (296, 90), (8, 99)),
        *((54, 103), (143, 106), (191, 109), (44, 110), (209, 113), (89, 118), (129, 119)),
        *((180, 122), (20, 131), (115, 132), (82, 135), (146, 145), (208, 161), (76, 185)),
        *((7, 188), (215, 188), (102, 202), (111, 218), (8, 234), (247, 277), (259, 279)),
        *((44, 293),),
    ]
)
"""Bright bonds of the image of the NIST tip detector, by eye (pixels)."""


def images(count: int, seed: int, **kwargs: object) -> list[DrawnImage]:
    rng = np.random.default_rng([SEED, seed])
    return [draw_image(rng, **kwargs) for _ in range(count)]


def atoms_of(reading: SurfaceReading, drawn: DrawnImage) -> Counts:
    return score_atoms(reading.atoms, np.asarray(drawn.sites[drawn.occupied]), drawn.pixel)


@pytest.fixture(scope="module")
def plain() -> DrawnImage:
    return images(1, 1, snr=8.0, steps=0, pixel=0.09e-9, pixels=192)[0]


@pytest.fixture(scope="module")
def read(plain: DrawnImage) -> SurfaceReading:
    return read_surface(plain.image, plain.pixel)


def test_atoms_terraces_and_defects_of_images_with_steps() -> None:
    atoms, defects, right, merged = [], [], [], []
    for drawn in images(4, 2, snr=6.0, steps=1):
        reading = read_surface(drawn.image, drawn.pixel)
        atoms.append(atoms_of(reading, drawn))
        defects.append(score_defects(reading.defect_labels, drawn.defect_map > 0)[0])
        share, joined = score_terraces(reading.terraces, drawn.terrace, 200)
        right.append(share)
        merged.append(joined)
        for terrace in reading.terrace_list:
            if terrace.vectors is None or terrace.area < 2e-17:
                continue
            under = np.bincount(drawn.terrace[reading.terraces == terrace.number]).argmax()
            error = direction_error(terrace.direction, float(drawn.rows[under - 1]))
            assert np.degrees(error) < 1.5
            assert np.hypot(*terrace.vectors[0]) == pytest.approx(0.384e-9, rel=0.06)
            assert np.hypot(*terrace.vectors[1]) == pytest.approx(0.768e-9, rel=0.06)
    assert Counts.pooled(atoms).f1 > 0.93
    assert Counts.pooled(defects).f1 > 0.75
    assert np.mean(right) > 0.95 and sum(merged) <= 1


def test_a_single_terrace_is_read_to_a_fraction_of_a_pixel(plain, read) -> None:
    counts = atoms_of(read, plain)
    assert counts.f1 > 0.97 and counts.rms < 25e-12
    assert len(read.terrace_list) == 1 and not read.steps.any()
    assert np.all((read.confidence >= 0) & (read.confidence <= 1))
    assert len(read.sites) == len(read.occupied) == len(read.doubt) == len(read.site_terrace)
    terrace = read.terrace_list[0]
    assert terrace.area == pytest.approx(plain.image.size * plain.pixel**2)
    near = np.hypot(*(read.sites - terrace.origin).T).min()
    assert near < 0.5


def test_confidence_tells_right_from_wrong(plain, read) -> None:
    """Sites that are vacant in truth have less of it than those with an atom."""
    from bluesky_gpsts.benchmarks.images.scores import match

    pairs, _ = match(read.sites, np.asarray(plain.sites), 2.0)
    taken = plain.occupied[pairs[:, 1]]
    sure = read.confidence[pairs[:, 0]]
    assert sure[taken].mean() > sure[~taken].mean() + 0.3


def test_defects_are_numbered_and_lie_where_their_label_is(read) -> None:
    assert read.defects and [d.number for d in read.defects] == list(
        range(1, len(read.defects) + 1)
    )
    for defect in read.defects:
        rows, columns = np.nonzero(read.defect_labels == defect.number)
        assert defect.area == pytest.approx(rows.size * read.pixel[0] ** 2)
        assert columns.min() <= defect.x <= columns.max()
        assert 0.5 < defect.probability <= 1.0


def test_readings_are_the_same_each_time(plain, read) -> None:
    again = read_surface(plain.image.copy(), plain.pixel)
    np.testing.assert_array_equal(again.sites, read.sites)
    np.testing.assert_array_equal(again.confidence, read.confidence)


def test_windows_of_8_nm_give_the_direction_of_the_rows() -> None:
    errors = []
    for drawn in images(10, 3, pixels=84, pixel=0.095e-9, snr=4.0, steps=0):
        reading = read_surface(drawn.image, drawn.pixel)
        largest = max(reading.terrace_list, key=lambda t: t.area, default=None)
        found = np.nan if largest is None else largest.direction
        errors.append(np.degrees(direction_error(found, float(drawn.rows[0]))))
    assert np.nanmedian(errors) < 0.4 and np.isnan(errors).sum() <= 1


def test_ruined_images_are_refused_and_good_ones_are_not() -> None:
    refused = [
        not read_surface(drawn.image, drawn.pixel).verdict.readable
        for kind in RUINED
        for drawn in images(2, 4, ruined=kind, pixels=192)
    ]
    assert np.mean(refused) > 0.75
    good = [
        read_surface(drawn.image, drawn.pixel).verdict.readable
        for drawn in images(12, 5, pixels=192)
    ]
    assert np.mean(good) > 0.85


def test_a_refused_image_has_a_reason_and_nothing_else() -> None:
    noise = np.random.default_rng(1).standard_normal((128, 128)) * 1e-11
    reading = read_surface(noise, 0.1e-9)
    assert not reading.verdict.readable
    assert reading.verdict.reason.startswith("unresolved, tip or contamination: ")
    assert not len(reading.sites) and not reading.defects and not reading.terrace_list
    assert not reading.resolved and reading.remark == ""
    assert reading.terraces.shape == noise.shape


def test_the_pixel_size_is_found_from_the_lattice(plain) -> None:
    assert find_pixel(plain.image) == pytest.approx(plain.pixel, rel=0.03)
    reading = read_surface(plain.image, None)
    assert atoms_of(reading, plain).f1 > 0.95
    with pytest.raises(ValueError, match="the pixel size cannot be found: no pixel size was"):
        find_pixel(np.random.default_rng(2).random((100, 100)))


def test_a_wrong_pixel_size_is_told(plain) -> None:
    reading = read_surface(plain.image, 2.0 * plain.pixel)
    assert not reading.verdict.readable
    assert reading.verdict.reason.startswith("the pixel size is given as 0.18 nm, and")
    slightly = read_surface(plain.image, 1.05 * plain.pixel)
    counts = score_atoms(slightly.atoms, np.asarray(plain.sites[plain.occupied]), plain.pixel)
    assert counts.f1 > 0.95


def test_unfinished_scans_are_read_as_far_as_they_go(plain) -> None:
    image = plain.image.astype(float)
    image[120:] = np.nan
    reading = read_surface(image, plain.pixel)
    assert reading.verdict.readable and reading.sites[:, 1].max() < 120.5
    done = plain.sites[plain.occupied & (plain.sites[:, 1] < 119)]
    assert score_atoms(reading.atoms, np.asarray(done), plain.pixel).f1 > 0.93
    assert not reading.defect_labels[120:].any() and not reading.terraces[120:].any()
    other = plain.image.astype(float)
    other[:70] = np.nan
    upward = read_surface(other, plain.pixel)
    true = plain.sites[plain.occupied & (plain.sites[:, 1] > 70.5)]
    assert score_atoms(upward.atoms, np.asarray(true), plain.pixel).f1 > 0.93
    assert all(d.y > 69 and upward.defect_labels[round(d.y), round(d.x)] for d in upward.defects)


def test_grey_values_and_colours_are_read_as_well(plain, read) -> None:
    low, high = np.percentile(plain.image, (0.2, 99.8))
    grey = (255 * np.clip((plain.image - low) / (high - low), 0, 1)).astype(np.uint8)
    for picture in (grey, np.repeat(grey[:, :, None], 3, axis=2)):
        reading = read_surface(picture, plain.pixel)
        assert atoms_of(reading, plain).f1 > 0.9


def test_any_shape_and_layout(plain) -> None:
    part = plain.image[:101, :]
    true = plain.sites[plain.occupied & (plain.sites[:, 1] < 100.5)]
    for view in (part, np.asfortranarray(part), part.astype(">f8")):
        counts = score_atoms(read_surface(view, plain.pixel).atoms, np.asarray(true), plain.pixel)
        assert counts.f1 > 0.93


def test_pixels_that_are_higher_than_wide() -> None:
    drawn = images(1, 6, snr=8.0, steps=0, pixel=0.06e-9)[0]
    reading = read_surface(drawn.image[::2], (drawn.pixel, 2 * drawn.pixel))
    assert reading.verdict.readable and reading.pixel == (drawn.pixel, 2 * drawn.pixel)
    found = reading.atoms * (1.0, 2.0)
    true = np.asarray(drawn.sites[drawn.occupied])
    assert score_atoms(found, true, drawn.pixel).f1 > 0.9


@pytest.mark.parametrize(
    ("image", "pixel", "message"),
    [
        (np.zeros((15, 200)), 1e-10, "at least 16 x 16"),
        (np.zeros(40), 1e-10, "two axes"),
        (np.full((40, 40), np.nan), 1e-10, "no pixel is finite"),
        (np.full((40, 40), np.inf), 1e-10, "no pixel is finite"),
        (np.random.default_rng(0).random((40, 40)), "a", "pixel size is 'a' m; give one"),
        (np.zeros((40, 40), complex), 1e-10, "give real numbers"),
        (np.random.default_rng(0).random((40, 40)), 0.0, "one positive number"),
        (np.random.default_rng(0).random((40, 40)), float("nan"), "one positive number"),
        (np.random.default_rng(0).random((40, 40)), (1e-10, 1e-10, 1e-10), "one positive"),
    ],
)
def test_what_is_no_image_is_told(image, pixel, message) -> None:
    with pytest.raises(ValueError, match=message):
        read_surface(image, pixel)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.int16])
def test_whole_numbers_are_read_as_what_they_count(dtype) -> None:
    drawn = np.random.default_rng(2).integers(0, 2, (20, 20))
    low, high = (0, 1) if dtype is bool else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    values = np.where(drawn, high, low).astype(dtype)
    assert np.array_equal(check_image(values), drawn.astype(np.float32))


@pytest.mark.filterwarnings("error")
def test_an_image_without_a_peak_is_refused_without_a_warning() -> None:
    image = np.zeros((64, 64))
    image[:, 32:] = 1e-9
    reading = read_surface(image, 1e-10, refuse=False)
    assert not reading.verdict.readable and reading.doubt.shape == (len(reading.sites),)


@pytest.mark.parametrize(
    ("image", "pixel", "reason"),
    [
        (np.full((64, 64), 3e-9), 1e-10, "constant"),
        (
            np.random.default_rng(0).random((16, 16)),
            1e-10,
            "too small; scan 2.5 nm or more on each side",
        ),
        (np.random.default_rng(0).random((64, 64)), 1e-9, "too coarse"),
        (np.random.default_rng(0).random((64, 64)), 1e-12, "too small"),
    ],
)
def test_what_cannot_be_resolved_is_refused(image, pixel, reason) -> None:
    verdict = read_surface(image, pixel).verdict
    assert not verdict.readable and reason in verdict.reason


def test_large_images_are_read_in_tiles(plain, monkeypatch) -> None:
    """The same image four times over gives the same atoms four times over."""
    monkeypatch.setattr("bluesky_gpsts.images.surfacemodel._TILE", 208)
    reading = read_surface(np.tile(plain.image, (2, 2)), plain.pixel)
    assert reading.verdict.readable
    sites = np.asarray(plain.sites[plain.occupied])
    side = plain.image.shape[0]
    shifts = [(x, y) for x in (0, side) for y in (0, side)]
    true = np.concatenate([sites + shift for shift in shifts])
    assert score_atoms(reading.atoms, true, plain.pixel).f1 > 0.85


def test_the_gate_separates_what_is_separable() -> None:
    rng = np.random.default_rng(3)
    fine = np.arange(200) % 2 == 0
    values = rng.normal(0.0, 1.0, (200, len(FEATURES))) + 3.0 * fine[:, None] * (
        np.arange(len(FEATURES)) < 2
    )
    gate = fit_gate(values, fine)
    quality = np.array([0.1, 0.6, 0.1, 0.1, 0.1, 0.0, 0.0, 0.0])
    verdicts = [judge(gate, row, quality) for row in values]
    right = np.array([v.readable for v in verdicts]) == fine
    assert right.mean() > 0.95
    refused = next(v for v in verdicts if not v.readable)
    assert refused.reason.endswith("atoms are not resolved")
    assert all(0.0 <= v.probability <= 1.0 for v in verdicts)
    with pytest.raises(ValueError, match="give both sorts"):
        fit_gate(values, np.ones(200, bool))


def test_a_refused_image_is_read_by_whoever_wants_to(plain) -> None:
    drawn = images(1, 8, ruined="saturated", pixels=160)[0]
    assert not len(read_surface(drawn.image, drawn.pixel).sites)
    anyway = read_surface(drawn.image, drawn.pixel, refuse=False)
    assert not anyway.verdict.readable and anyway.verdict.reason
    assert anyway.terraces.min() >= 1


def test_a_pixel_size_that_is_somewhat_wrong_is_told(plain) -> None:
    right = read_surface(plain.image, plain.pixel)
    assert right.remark == ""
    for factor, way in ((1.08, "too large"), (0.93, "too small")):
        wrong = read_surface(plain.image, factor * plain.pixel)
        assert wrong.verdict.readable
        assert wrong.scale == pytest.approx(factor * right.scale, rel=0.005)
        assert "the lattice says" in wrong.remark and way in wrong.remark


def test_a_tip_that_shows_only_rows_gives_rows_and_defects_but_no_atoms() -> None:
    """Rows, steps and most defects are read; nothing is made up along the rows."""
    counts = []
    for seed in range(4):
        drawn = draw_blunt(np.random.default_rng([seed, 31]), snr=4.0)
        reading = read_surface(drawn.image, drawn.pixel)
        assert reading.verdict.readable and not reading.resolved, seed
        assert len(reading.atoms) == len(reading.vacancies) == 0
        assert reading.remark.startswith("the rows are resolved, the dimers in them are not")
        largest = max(reading.terrace_list, key=lambda terrace: terrace.area)
        true = np.bincount(drawn.terrace[reading.terraces == largest.number]).argmax()
        off = direction_error(largest.direction, float(drawn.rows[true - 1]))
        assert off < np.radians(0.5), seed
        assert largest.vectors is not None
        along, across = np.hypot(*largest.vectors.T)
        assert across == pytest.approx(0.768e-9, rel=0.03)
        assert across == pytest.approx(2.0 * along, rel=0.01)
        counts.append(score_defects(reading.defect_labels, drawn.defect_map > 0)[0])
        with pytest.raises(ValueError, match="a pattern fits is not known: the rows are resolved"):
            find_sites(drawn.image, reading, THREE_DIMERS)
        for shift in row_shifts(reading):
            assert np.isnan(shift.shift) == np.isnan(shift.error) == shift.turned
    assert Counts.pooled(counts).f1 > 0.8


def test_dimers_that_are_resolved_are_not_doubted(read: SurfaceReading) -> None:
    assert read.resolved and read.remark == "" and len(read.atoms) > 900


def test_dimers_along_the_lines_of_the_scan_are_seen_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines have offsets of their own, in which such dimers hide from a first look."""
    drawn_terraces = simulate.random_terraces
    monkeypatch.setattr(
        simulate,
        "random_terraces",
        lambda *given: replace(drawn_terraces(*given), angle=0.5 * np.pi),
    )
    seen = rows_only = 0
    for seed in range(32):
        drawn = draw_image(np.random.default_rng(seed), pixels=192, snr=6.0, steps=0)
        reading = read_surface(drawn.image, drawn.pixel)
        seen += reading.resolved
        if reading.verdict.readable and not reading.resolved:
            rows_only += 1
            assert "turn the scan by some degrees" in reading.remark
    assert seen >= 26 and rows_only <= 6


def test_bonds_of_a_measured_image_are_found_and_named(shared_data: Path) -> None:
    """The image of the NIST tip detector; boxes of somebody's detector are burnt into it."""
    from matplotlib.image import imread

    image = imread(shared_data / "images/full_scan_1.jpg")
    reading = read_surface(image, 0.16e-9)
    assert reading.verdict.readable and reading.resolved
    (terrace,) = reading.terrace_list
    assert np.degrees(terrace.direction) == pytest.approx(177.3, abs=0.3)
    # By the Fourier transform of the whole image: its axes are not calibrated alike.
    assert terrace.vectors is not None
    np.testing.assert_allclose(np.hypot(*terrace.vectors.T), [0.401e-9, 0.750e-9], rtol=0.01)
    assert "and not one to two" in reading.remark
    table = measure_defects(image, reading)
    names, _ = load_classes().name_defects(table)
    found = [np.hypot(*(table.places - place).T).min() < 6.0 for place in _BONDS]
    bonds = table.places[names == "dangling_bond"]
    named = [np.hypot(*(bonds - place).T).min() < 6.0 for place in _BONDS]
    # Boxes are burnt in around the bonds; most others go as bare dimers or contaminants.
    assert sum(found) >= 29 and sum(named) >= 12, (sum(found), sum(named))


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("kind", ["heights", "grey values"])
def test_lines_that_a_stopped_scan_repeats_were_not_measured(
    plain: DrawnImage, last: bool, kind: str
) -> None:
    image = plain.image
    if kind == "grey values":
        image = np.round(250.0 * (image - image.min()) / np.ptp(image)).astype(np.uint8)
    frozen = image.copy()
    unknown = image.astype(float)
    lines, line = (slice(121, None), 120) if last else (slice(0, 80), 80)
    frozen[lines], unknown[lines] = frozen[line], np.nan
    one, other = read_surface(frozen, plain.pixel), read_surface(unknown, plain.pixel)
    assert one.verdict.readable and len(one.atoms) > 400
    np.testing.assert_allclose(one.atoms, other.atoms, atol=1e-4)
    assert not one.terraces[lines].any()
    # What is unknown in the line that is repeated changes nothing.
    frozen = frozen.astype(float)
    frozen[:, 150:] = np.nan
    repeated = np.zeros(len(frozen), bool)
    repeated[lines] = True
    assert np.isnan(plain_image(frozen)[repeated]).all()
    assert np.isfinite(plain_image(frozen)[~repeated, :150]).all()
    # A few lines may be the same by chance, and an image without any change along its lines is one.
    for same in (np.tile(image[:1], (192, 1)), np.concatenate([image, image[-1:].repeat(5, 0)])):
        assert np.isfinite(plain_image(same)).all()


def test_what_is_hidden_by_a_mask_was_not_measured() -> None:
    drawn = draw_image(np.random.default_rng(4), pixels=200, pixel=0.09e-9, snr=4.0, steps=0)
    hidden = np.zeros(drawn.image.shape, bool)
    hidden[120:] = True
    masked = read_surface(np.ma.array(drawn.image, mask=hidden), drawn.pixel)
    unknown = read_surface(np.where(hidden, np.nan, drawn.image), drawn.pixel)
    np.testing.assert_array_equal(masked.atoms, unknown.atoms)
    assert len(masked.atoms) and masked.atoms[:, 1].max() < 121
