"""The networks, what they learn from, and how they are kept."""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from bluesky_gpsts.images import networks
from bluesky_gpsts.images.augment import augment
from bluesky_gpsts.images.drawn import DrawnImage
from bluesky_gpsts.images.edgelabels import canny, step_labels
from bluesky_gpsts.images.lessons import VERDICTS, batch, lesson
from bluesky_gpsts.images.paper import PaperAtoms, PaperDefects, PaperTerraces
from bluesky_gpsts.images.paper_training import atom_labels, fit_pixels
from bluesky_gpsts.images.prepare import CHANNELS, GRID, check_image, prepare
from bluesky_gpsts.images.registry import load_model, save_model
from bluesky_gpsts.images.rowlattice import ALONG
from bluesky_gpsts.images.simulate import draw_blunt, draw_image
from bluesky_gpsts.images.sitejudges import judge_sites
from bluesky_gpsts.images.surfacemodel import SurfaceModel
from bluesky_gpsts.images.training import fit_network
from bluesky_gpsts.models import Card, ModelError

GATE = {
    "mean": [0.0],
    "scale": [1.0],
    "weights": [0.0],
    "bias": 0.0,
    "threshold": 0.0,
}


@pytest.fixture(scope="module")
def drawn() -> DrawnImage:
    return draw_image(np.random.default_rng(7), pixels=128, snr=8.0, steps=0)


def parameters(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_sizes_of_the_networks() -> None:
    """NN-1 has the 594,033 numbers of the U-Net of that shape in AtomAI."""
    assert parameters(networks.build_atoms()) == parameters(networks.build_terraces()) == 594_033
    assert 100_000 < parameters(networks.build_defects()) < 200_000
    assert parameters(networks.build_surface()) < 200_000


def test_pyramids_have_the_rates_of_the_article() -> None:
    for build, count in (
        (networks.build_terraces, 1),
        (networks.build_atoms, 1),
        (networks.build_defects, 2),
    ):
        convolutions = [m for m in build().modules() if isinstance(m, torch.nn.Conv2d)]
        rates = [m.dilation[0] for m in convolutions if m.dilation[0] > 1]
        assert rates == [2, 4, 6] * count
        slopes = [m for m in build().modules() if isinstance(m, torch.nn.LeakyReLU)]
        assert slopes and all(m.negative_slope == 0.01 for m in slopes)


@pytest.mark.parametrize(
    ("build", "channels"),
    [
        (networks.build_terraces, 1),
        (networks.build_atoms, 1),
        (networks.build_defects, 1),
        (networks.build_surface, CHANNELS),
    ],
)
def test_folding_changes_nothing_but_the_number_of_steps(build, channels) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = build()
        for _ in range(3):
            net(torch.randn(2, channels, 32, 32))
        x = torch.randn(1, channels, 40, 24)
    folded = networks.fold(net)
    with torch.inference_mode():
        before, after = net.eval()(x), folded(x)
    if isinstance(before, torch.Tensor):
        before, after = (before,), (after,)
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())


@pytest.mark.parametrize("kind", [PaperTerraces, PaperAtoms, PaperDefects])
@pytest.mark.parametrize("shape", [(16, 16), (33, 50), (64, 17)])
def test_images_of_any_size_are_padded(kind, shape) -> None:
    probability = kind(kind.build()).probability(np.random.default_rng(0).random(shape))
    assert probability.shape == shape
    assert np.all((probability >= 0) & (probability <= 1))


def test_blobs_of_the_paper_networks_become_positions() -> None:
    """Two pixels of different weight: the centre of mass lies between them."""

    class Known(PaperAtoms):
        def probability(self, image):
            return np.asarray(image, np.float32)

    image = np.zeros((40, 40))
    image[10, 5], image[10, 6] = 0.9, 0.6
    image[30, 20] = 0.8
    image[20, 20] = 0.4
    found = Known(PaperAtoms.build()).find(image)
    np.testing.assert_allclose(found, [[5.4, 10.0], [20.0, 30.0]])


def test_terraces_and_edges_are_cut_out() -> None:
    class Known(PaperTerraces):
        def probability(self, image):
            return (np.abs(np.arange(60) - 30)[None, :] < 3) * np.ones((40, 1), np.float32)

    image = np.random.default_rng(1).random((40, 60))
    pieces = Known(PaperTerraces.build()).pieces(image)
    assert [(p.step, p.row, p.column, p.image.shape) for p in pieces] == [
        (False, 0, 0, (40, 28)),
        (False, 0, 33, (40, 27)),
        (True, 0, 28, (40, 5)),
    ]
    np.testing.assert_array_equal(pieces[1].image, image[:, 33:])


@pytest.mark.parametrize("kind", [PaperTerraces, PaperAtoms, PaperDefects])
def test_paper_models_come_back_from_disk(kind, tmp_path) -> None:
    model = kind(kind.build())
    card = Card.of(model, name="mine", data="nothing", seed=0, metrics={})
    save_model(model, card, tmp_path)
    again, read = load_model(tmp_path)
    assert isinstance(again, kind) and read.sha256 and read.kind == model.name
    image = np.random.default_rng(2).random((32, 32))
    np.testing.assert_allclose(again.probability(image), model.probability(image), atol=5e-3)


def test_the_default_model_comes_back_from_disk(tmp_path) -> None:
    model = SurfaceModel(networks.build_surface(), networks.build_judges(3), GATE)
    save_model(model, Card.of(model, name="mine", data="x", seed=0, metrics={}), tmp_path)
    again, _ = load_model(tmp_path)
    assert again.gate == GATE
    prepared = prepare(check_image(np.random.default_rng(3).random((64, 64))), 1e-10)
    np.testing.assert_allclose(again.maps(prepared).atom, model.maps(prepared).atom, atol=5e-3)
    sites = np.random.default_rng(4).normal(size=(7, networks.SITE_FEATURES)).astype(np.float32)
    said, doubt = judge_sites(model.judges, sites)
    np.testing.assert_array_equal(judge_sites(again.judges, sites), (said, doubt))
    assert doubt.min() > 0.0


def test_a_model_that_is_not_taught_yet_judges_nothing() -> None:
    model = SurfaceModel(networks.build_surface(), gate=GATE)
    for use in (lambda: model.judges, model.to_arrays):
        with pytest.raises(RuntimeError, match="finish the training"):
            use()


@pytest.mark.parametrize(
    "change", [{"members": 4}, {"members": 17}, {"members": True}, {"gate": None}]
)
def test_settings_that_do_not_fit_are_refused(change) -> None:
    arrays, settings = SurfaceModel(
        networks.build_surface(), networks.build_judges(3), GATE
    ).to_arrays()
    with pytest.raises(ValueError, match="train"):
        SurfaceModel.from_arrays(arrays, settings | change)
    with pytest.raises(ValueError, match="none of these networks"):
        SurfaceModel.from_arrays(arrays | {"0.stem": np.zeros(1)}, settings)


def test_weights_of_another_network_are_refused(tmp_path) -> None:
    class Wrong(PaperAtoms):
        def to_arrays(self):
            return PaperDefects(PaperDefects.build()).to_arrays()

    model = Wrong(PaperAtoms.build())
    save_model(model, Card.of(model, name="mine", data="x", seed=0, metrics={}), tmp_path)
    with pytest.raises(ModelError, match="missing, too many or of another shape"):
        load_model(tmp_path)


def test_tiles_give_what_the_whole_image_does(monkeypatch) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = SurfaceModel(networks.build_surface())
    image = np.random.default_rng(4).random((300, 340))
    prepared = prepare(check_image(image), GRID)
    whole = model.maps(prepared)
    monkeypatch.setattr("bluesky_gpsts.images.surfacemodel._TILE", 208)
    monkeypatch.setattr("bluesky_gpsts.images.surfacemodel._OVERLAP", 160)
    tiled = model.maps(prepared)
    np.testing.assert_allclose(tiled.atom, whole.atom, atol=2e-3)
    np.testing.assert_allclose(tiled.step, whole.step, atol=2e-3)
    assert abs(len(tiled.peaks) - len(whole.peaks)) <= 0.01 * len(whole.peaks) + 2


def test_images_are_brought_to_one_pixel_size() -> None:
    x = np.arange(200) * 0.07e-9
    wave = np.sin(2 * np.pi * x / 0.768e-9)[None, :] * np.ones((120, 1)) * 2e-11
    tilted = wave + 3e-2 * x[None, :] - 1e-2 * 0.07e-9 * np.arange(120)[:, None] + 5e-9
    prepared = prepare(check_image(tilted), 0.07e-9)
    assert prepared.shape == (88, 146) and prepared.channels.shape == (CHANNELS, 88, 152)
    relief = prepared.channels[0, 10:78, 10:136]
    period = np.abs(np.fft.rfft(relief.mean(axis=0), 4096))[50:].argmax() + 50
    assert 4096 / period == pytest.approx(8.0, rel=0.03)
    assert np.abs(prepared.channels[0, 10:78, 10:136]).max() < 3.0
    points = np.array([[0.0, 0.0], [99.5, 59.5]])
    back = prepared.to_image((points + 0.5) / prepared.scale - 0.5)
    np.testing.assert_allclose(back, points)


def test_unknown_lines_are_nothing() -> None:
    image = np.random.default_rng(5).random((64, 64))
    image[40:] = np.nan
    prepared = prepare(check_image(image), GRID)
    assert np.isfinite(prepared.channels).all()
    assert not prepared.known[40:].any() and prepared.known[:40].all()
    assert not prepared.channels[:, 41:].any()


@pytest.mark.parametrize("step", [2, 3, 4])
def test_images_with_lines_missing_are_levelled(step: int) -> None:
    y, x = np.mgrid[:256, :256]
    tilted = 3e-3 * y + 1e-3 * x + 0.01 * np.random.default_rng(1).random((256, 256))
    tilted[step - 1 :: step] = np.nan
    prepared = prepare(check_image(tilted), GRID)
    means = [prepared.channels[2, rows].mean() for rows in (slice(20, 40), slice(216, 236))]
    assert abs(means[1] - means[0]) < 0.2


def test_answers_lie_where_the_atoms_are(drawn) -> None:
    one = lesson(drawn)
    scale = drawn.image.shape[1] / one.shape[1]
    atoms = (drawn.sites[drawn.occupied] + 0.5) / scale - 0.5
    inner = atoms[np.all((atoms > 2) & (atoms < one.shape[1] - 3), axis=1)]
    x, y = np.round(inner).astype(int).T
    assert one.atom[y, x].min() > 180
    dx, dy = one.offset[0, y, x] / 40, one.offset[1, y, x] / 40
    np.testing.assert_allclose(np.column_stack([x + dx, y + dy]), inner, atol=0.03)
    angle = 0.5 * np.arctan2(*(one.direction[::-1].astype(float)))
    assert np.allclose(np.cos(2 * (angle - drawn.rows[0])), 1.0, atol=1e-2)
    assert one.verdict == 0


def test_where_dimers_are_not_resolved_the_rows_are_lines() -> None:
    drawn = draw_blunt(np.random.default_rng(3), 96)
    one = lesson(drawn)
    assert VERDICTS[one.verdict] == "rows"
    assert batch([one], np.random.default_rng(0), 64, 2)["taught"].all()
    # Two neighbours in a row, and all that lies between them.
    angle = drawn.rows[drawn.site_terrace - 1]
    row = np.stack([np.cos(angle), np.sin(angle)], axis=1) * ALONG / drawn.pixel
    scale = drawn.image.shape[1] / one.shape[1]
    seen = drawn.occupied & (cKDTree(drawn.sites[drawn.occupied]).query(drawn.sites + row)[0] < 0.2)
    assert seen.sum() > 100
    for share in (0.0, 0.3, 0.5, 0.8):
        places = (drawn.sites[seen] + share * row[seen] + 0.5) / scale - 0.5
        inner = np.all((places > 2) & (places < one.shape[1] - 3), axis=1)
        x, y = np.round(places[inner]).astype(int).T
        assert np.median(one.atom[y, x]) > 200
    ruined = draw_image(np.random.default_rng(3), pixels=96, ruined="noise")
    assert not batch([lesson(ruined)], np.random.default_rng(0), 64, 2)["taught"].any()


def test_a_scanner_whose_axes_differ_turns_the_rows(drawn) -> None:
    one, other = lesson(drawn), lesson(drawn, (1.1, 1.0))
    assert other.shape[1] == pytest.approx(1.1 * one.shape[1], abs=1)
    assert other.shape[0] == one.shape[0]
    angle = np.arctan2(np.sin(drawn.rows[0]), 1.1 * np.cos(drawn.rows[0]))
    turned = 0.5 * np.arctan2(*(other.direction[::-1].astype(float)))
    assert np.allclose(np.cos(2 * (turned - angle)), 1.0, atol=1e-3)


def test_flipped_squares_stay_true(drawn) -> None:
    """Offsets and directions are mirrored with the image: they still point at the atoms."""
    taught = batch([lesson(drawn)], np.random.default_rng(0), 64, 24)
    for atom, offset in zip(taught["atom"][:, 0], taught["offset"], strict=True):
        y, x = np.nonzero(atom > 0.85)
        inner = (x > 3) & (x < 60) & (y > 3) & (y < 60)
        # From an atom's neighbour the offset leads back to it.
        for step_x, step_y in ((1, 0), (0, 1)):
            back = offset[:, y[inner] + step_y, x[inner] + step_x]
            here = offset[:, y[inner], x[inner]]
            expected = here - np.array([[step_x], [step_y]])
            assert np.mean(np.abs(back - expected).max(axis=0) < 0.06) > 0.9
    assert len({tuple(np.round(d[:, 5, 5], 1)) for d in taught["direction"]}) == 2


def test_training_is_repeatable_and_learns(drawn) -> None:
    from bluesky_gpsts.images.training import surface_loss

    lessons = [lesson(drawn)]
    state = np.random.get_state()[1].copy()
    one, two = (fit_network(lessons, 3, 4, progress=False) for _ in range(2))
    for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    taught = batch(lessons, np.random.default_rng(1), 64, 8)
    untaught = networks.build_surface().train()
    learned = fit_network(lessons, 3, 30, progress=False).train()
    with torch.no_grad():
        losses = [
            sum(float(v) for v in surface_loss(net, taught).values()) for net in (learned, untaught)
        ]
    assert losses[0] < 0.8 * losses[1]
    with pytest.raises(ValueError, match="0 lessons"):
        fit_network([], 0, 5, progress=False)


def test_pixel_networks_learn(drawn, monkeypatch) -> None:
    from bluesky_gpsts.images.paper import inputs

    pairs = [(inputs(drawn.image), atom_labels(drawn))]
    monkeypatch.setattr("bluesky_gpsts.images.paper_training._SIZE", 64)
    net = fit_pixels(networks.build_atoms, pairs, 0, 40, False, False, "NN-1")
    probability = PaperAtoms(net).probability(drawn.image)
    labels = atom_labels(drawn)
    assert probability[labels].mean() > probability[~labels].mean() + 0.1


def test_augmented_labels_follow_the_image() -> None:
    rng = np.random.default_rng(0)
    labels = np.zeros((90, 120), bool)
    labels[20:40, 30:90] = True
    image = np.where(labels, 2.0, -2.0).astype(np.float32)
    for _ in range(20):
        part, answer = augment(image, labels, 64, rng)
        assert part.shape == answer.shape == (64, 64)
        assert np.mean((part > 0) == (answer > 0.5)) > 0.93


def test_canny_finds_a_step_and_nothing_on_a_plain() -> None:
    rng = np.random.default_rng(1)
    image = np.where(np.arange(80) < 33, 0.0, 1.0)[None, :] + 0.05 * rng.standard_normal((60, 80))
    edges = canny(image, 2.0, 0.05, 0.12)
    rows, columns = np.nonzero(edges)
    assert len(np.unique(rows)) >= 58 and np.all(np.abs(columns - 32.5) < 2.0)
    assert not canny(0.05 * rng.standard_normal((60, 80)), 2.0, 0.05, 0.12).any()
    with pytest.raises(ValueError, match="give 0 < low <= high"):
        canny(image, 2.0, 0.2, 0.1)


def test_step_edges_are_labelled_without_the_truth() -> None:
    rng = np.random.default_rng(11)
    overlaps, false = [], []
    for _ in range(4):
        drawn = draw_image(rng, snr=8.0, steps=1)
        found = step_labels(drawn.image, drawn.pixel)
        overlaps.append(np.sum(found & drawn.steps) / np.sum(found | drawn.steps))
        flat = draw_image(rng, snr=8.0, steps=0)
        false.append(step_labels(flat.image, flat.pixel).mean())
    assert np.median(overlaps) > 0.5 and np.median(false) < 0.02
