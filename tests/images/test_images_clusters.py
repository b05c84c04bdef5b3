"""Clusters of points and of defects."""

import numpy as np
import pytest

from bluesky_gpsts.benchmarks.images.classes import rand_index
from bluesky_gpsts.images.clusters import (
    bandwidth,
    cluster_numbers,
    cluster_published,
    dendrogram,
    mean_shift,
    picture_components,
)
from bluesky_gpsts.images.patchtraining import NOTHING, draw_defects
from bluesky_gpsts.images.registry import load_classes

SEED = 950


def blobs(counts: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    middles = np.array([(0, 0, 0), (8, 0, 0), (0, 9, 2), (-7, -7, 5)], float)[: len(counts)]
    true = np.repeat(np.arange(len(counts)), counts)
    return middles[true] + rng.normal(0, 0.8, (len(true), 3)), true


def test_mean_shift_finds_blobs_and_orders_them_by_size() -> None:
    points, true = blobs((30, 60, 45))
    found = mean_shift(points, 3.0)
    assert rand_index(found, true) == 1.0
    assert np.bincount(found).tolist() == [60, 45, 30]
    shuffled = np.random.default_rng(1).permutation(len(points))
    np.testing.assert_array_equal(mean_shift(points[shuffled], 3.0), found[shuffled])


def test_one_wide_window_takes_all() -> None:
    points, _ = blobs((20, 20))
    assert mean_shift(points, 100.0).max() == 0
    assert len(mean_shift(np.zeros((0, 3)), 1.0)) == 0
    assert mean_shift(np.zeros((5, 3)), 1.0).tolist() == [0] * 5


def test_the_scale_follows_the_points() -> None:
    points, _ = blobs((50, 50))
    assert bandwidth(10.0 * points) == pytest.approx(10.0 * bandwidth(points))
    assert bandwidth(points, 0.1) < bandwidth(points, 0.9)
    assert bandwidth(points[:1]) == 0.0


def test_the_rand_index_is_one_for_the_same_and_about_zero_for_chance() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 4, 2000)
    assert rand_index(labels, 3 - labels) == 1.0
    assert abs(rand_index(labels, rng.integers(0, 4, 2000))) < 0.02


def test_defects_fall_into_their_kinds() -> None:
    table, names, _ = draw_defects(SEED, 20, snr=5.0)
    real = names != NOTHING
    table, names = table.take(real), names[real]
    ours = cluster_numbers(table, load_classes().numbers(table))
    published = cluster_published(table)
    assert rand_index(ours.labels, names) > 0.6
    assert rand_index(ours.labels, names) > rand_index(published.labels, names)
    assert ours.labels.shape == names.shape and ours.labels.max() + 1 == ours.count
    # Depressions and protrusions never share a cluster.
    for k in range(ours.count):
        assert len(set(table.depression[ours.labels == k])) == 1
    assert ours.pictures(table).shape == (ours.count, *table.patches.shape[1:])
    parts = picture_components(table, 6)
    assert parts.shape == (len(table), 12) and np.isfinite(parts).all()
    tree = dendrogram(parts)
    assert tree.shape == (len(table) - 1, 4)


def test_components_do_not_care_for_mirror_images() -> None:
    table, _, _ = draw_defects(SEED + 1, 3, snr=5.0)
    turned = type(table)(**{**vars(table), "patches": np.flip(table.patches, 3)})
    np.testing.assert_allclose(
        np.abs(picture_components(turned)), np.abs(picture_components(table)), atol=1e-6
    )
    net = load_classes()
    np.testing.assert_allclose(net.numbers(turned), net.numbers(table), atol=1e-4)


def test_bad_input_is_told() -> None:
    table, _, _ = draw_defects(SEED + 1, 1, snr=5.0)
    with pytest.raises(ValueError, match="finite"):
        mean_shift(np.array([[np.nan]]), 1.0)
    with pytest.raises(ValueError, match="width is 0"):
        mean_shift(np.zeros((3, 2)), 0.0)
    with pytest.raises(ValueError, match="a row for each"):
        cluster_numbers(table, np.zeros((1, 2)))
    with pytest.raises(ValueError, match="share"):
        bandwidth(np.zeros((3, 2)), 0.0)
    with pytest.raises(ValueError, match="two or more"):
        dendrogram(np.zeros((1, 2)))
