"""The drift benchmark: its images, its bound and its report; not the times."""

import json
from pathlib import Path

import numpy as np
import pytest

from bluesky_gpsts.benchmarks import drift
from bluesky_gpsts.benchmarks.drift_images import draw_pair, draw_surface
from bluesky_gpsts.benchmarks.drift_methods import LEAN, METHODS, OURS, PLAIN
from bluesky_gpsts.benchmarks.drift_real import jump, read_scans

FAST = "bluesky-gpsts block-matching"


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict:
    nowhere = tmp_path_factory.mktemp("data") / "absent"
    return drift.run(pairs=2, side=128, data=nowhere, methods=(OURS, FAST), progress=False)


def test_the_report(result: dict) -> None:
    assert result["bench"] == "drift"
    assert json.loads(json.dumps(result)) == result
    cases = {row["case"] for row in result["rows"]}
    assert {"adsorbates, SNR 0.7", "terraces, SNR 4, tip changes", "all"} <= cases
    assert {row["method"] for row in result["rows"]} >= {OURS, FAST, "Cramer-Rao bound"}
    assert any("real scans" in note for note in result["notes"])
    # The goals are for 256 x 256 pixels.
    assert not [row for row in result["rows"] if "goal" in row]


def test_all_block_matchings_agree() -> None:
    pair = draw_pair("adsorbates", 4, 4.0)
    found = [METHODS[name][0](pair.reference, pair.image) for name in (PLAIN, LEAN, FAST)]
    assert len({(one.dx, one.dy) for one in found}) == 1
    assert found[0].confidence == pytest.approx(found[1].confidence)


def test_peers_find_a_clean_shift() -> None:
    surface = draw_surface("adsorbates", 3)
    reference, image = surface.heights(), surface.heights(5.0, -3.0)
    names, notes = drift.available()
    assert len(names) + len(notes) == len(METHODS)
    for name in names:
        found = METHODS[name][0](reference, image)
        assert np.isfinite(found.confidence)
        if name != "scikit-image, phase":
            # Without noise its whitening finds the edges of the frame instead.
            assert (found.dx, found.dy) == pytest.approx((5.0, -3.0), abs=0.6), name


def test_a_drifted_surface_is_the_same_surface_elsewhere() -> None:
    for name in ("adsorbates", "terraces", "herringbone"):
        surface = draw_surface(name, 1)
        np.testing.assert_allclose(
            surface.heights(3.0, 5.0)[5:, 3:], surface.heights()[:-5, :-3], atol=1e-12
        )
        assert surface.heights().std() == pytest.approx(1.0)


def test_the_bound_is_that_of_a_known_case() -> None:
    """Halving the noise halves it."""
    first = drift.bound(drift.Condition("adsorbates", 2.0), 1, 128)
    assert drift.bound(drift.Condition("adsorbates", 4.0), 1, 128) == pytest.approx(first / 2.0)


def test_the_auroc() -> None:
    assert drift.auroc([0.8, 0.9], [0.1, 0.2]) == 1.0
    assert drift.auroc([0.1], [0.1, 0.2]) == 0.25


@pytest.mark.shared_data
def test_the_last_scan_has_jumped(shared_data: Path) -> None:
    images, times, pixel = read_scans(shared_data)
    assert times[-1] == pytest.approx(53 * 60, abs=60)
    size, surprise = jump(images, times, pixel)
    assert size == pytest.approx(0.11e-9, abs=0.01e-9)
    assert surprise > 5.0
    # The scans before did not, though the contrast of the last but one is another.
    for n in (4, 5, 6):
        assert jump(images[:n], times[:n], pixel)[1] < 4.0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"methods": ("abacus",)}, "method 'abacus'"), ({"pairs": 1}, "pairs is 1")],
)
def test_wrong_arguments(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        drift.run(**wrong, progress=False)


def test_surfaces_are_checked() -> None:
    with pytest.raises(ValueError, match="no surface 'sponge'"):
        draw_surface("sponge", 1)
    with pytest.raises(ValueError, match="ratio is 0"):
        draw_pair("adsorbates", 1, 0.0)
