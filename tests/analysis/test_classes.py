"""Classes of a run: at its points, pixel by pixel, over a catalog, and as figures."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from analysis_runs import COLUMNS, Experiment, gp_sts_run

from bluesky_gpsts.analysis import AnalysisError, read_record
from bluesky_gpsts.analysis.class_figures import (
    class_colours,
    class_spectra_figure,
    contents,
    grid_figure,
    segmentation_figure,
)
from bluesky_gpsts.analysis.classes import (
    PointClasses,
    class_spectra,
    classify_catalog,
    classify_cube,
    classify_map,
    classify_points,
    classify_run,
    interpolate,
    unmeasured,
)
from bluesky_gpsts.analysis.history import build_history
from bluesky_gpsts.analysis.style import png
from bluesky_gpsts.cli import main
from bluesky_gpsts.spectra import NONE, Classes, registry
from bluesky_gpsts.spectra.paper import PaperCNN, build_network


class InGap:
    """Names spectra by how much of their dI/dV lies in the gap; more than all is none of these."""

    name = "in gap"
    classes = ("WS2", "V_S")
    window, level = (0.0, 0.7), 0.03

    def share(self, bias, didv):
        inside = (bias >= self.window[0]) & (bias <= self.window[1])
        return didv[:, inside].mean(axis=1) / np.abs(didv).max(axis=1)

    def classify(self, bias, didv):
        bad = ~np.isfinite(didv).all(axis=1)
        share = self.share(bias, np.where(bad[:, None], 1.0, didv))
        vacancy = np.where(bad, 0.5, 1.0 / (1.0 + np.exp((self.level - share) / 0.01)))
        novelty = np.where(bad | (share > 1.0), 1.0, 0.1)
        problems = tuple("not finite" if b else "" for b in bad)
        return Classes(self.classes, np.column_stack([1 - vacancy, vacancy]), novelty, problems)


@pytest.fixture(scope="module")
def record(catalog, whole):
    return read_record(catalog, whole)


def test_every_spectrum_of_a_run_has_its_class_and_place(catalog, whole, record):
    points = classify_run(catalog[whole], InGap())
    assert points.uid == whole and list(points.seq_nums) == list(range(1, 15))
    np.testing.assert_array_equal(points.x, record.history.x)
    expected = InGap().share(points.bias, points.didv) > InGap.level
    assert 0 < expected.sum() < 14
    np.testing.assert_array_equal(points.found.labels == "V_S", expected)
    counts = {"WS2": 14 - expected.sum(), "V_S": expected.sum(), NONE: 0, "": 0}
    assert points.counts == counts
    again = classify_points(record, InGap())
    np.testing.assert_array_equal(again.found.probabilities, points.found.probabilities)


def test_a_cube_is_named_pixel_by_pixel(record):
    cube = interpolate(record)
    grid = record.history.grid
    bias = record.spectra["bias"].values
    assert cube.shape == (grid.ny, grid.nx, len(bias))
    steps = []
    pixels = classify_cube(bias, cube, InGap(), lambda done, total: steps.append((done, total)))
    assert steps == [(480, 480)]
    flat = InGap().classify(bias, cube.reshape(-1, len(bias)))
    np.testing.assert_array_equal(pixels.probabilities.reshape(-1, 2), flat.probabilities)
    np.testing.assert_allclose(pixels.confidence.ravel(), flat.confidence)
    # The vacancy is where the figure of merit, the sum of dI/dV in the gap, is high.
    mean, _ = record.final_maps
    here = mean.reshape(grid.ny, grid.nx)
    assert 0 < pixels.shares["V_S"] < 0.6
    assert here[pixels.index == 1].mean() > 2 * here[pixels.index == 0].mean()
    assert sum(pixels.shares.values()) == pytest.approx(1.0)


def test_a_pixel_far_from_all_spectra_is_as_uncertain_as_a_place_not_known(record):
    # Only spectra on the left are kept: nothing is known on the right.
    history = record.history
    some = np.flatnonzero(history.x < np.quantile(history.x, 0.5))
    kept = record.spectra.isel(point=some)
    decisions = record.decisions.isel(decision=some)
    part = replace(record, spectra=kept, history=build_history(record.start, kept, decisions))
    points = classify_points(part, InGap())
    share = unmeasured(part)
    assert share.shape == (20, 24) and 0.0 <= share.min() and share.max() <= 1.0
    row, column = np.unravel_index(share.argmax(), share.shape)
    assert column > 12 and share[row, column] > 2.0 * share.min()
    pixels = classify_map(part, points, InGap())
    bare = classify_cube(points.bias, interpolate(part), InGap())
    expected = points.found.probabilities.mean(axis=0)
    np.testing.assert_allclose(
        pixels.probabilities,
        (1 - share[..., None]) * bare.probabilities + share[..., None] * expected,
    )
    assert pixels.confidence[row, column] < bare.confidence[row, column]


def test_the_cube_of_other_pixels_is_the_same_map(record):
    cube = interpolate(record)
    grid = record.history.grid
    finer = interpolate(record, replace(grid, nx=3 * grid.nx, ny=3 * grid.ny))
    assert finer.shape[:2] == (60, 72)
    np.testing.assert_allclose(finer[1::3, 1::3], cube, rtol=1e-6, atol=1e-6 * np.abs(cube).max())


def test_pixels_of_none_and_pixels_that_are_bad():
    bias = np.linspace(-1.8, 1.4, 50)
    cube = np.broadcast_to(1e-10 * (1.0 + np.abs(bias)), (2, 3, 50)).copy()
    cube[0, 1, 5] = np.nan
    cube[1, 2] = np.where((bias >= 0) & (bias <= 0.7), 1.0, 1.0 / (1 + 1e-9))
    cube[1, 2, np.argmax(np.abs(bias))] = -0.5

    class Level(InGap):
        def share(self, bias, didv):
            return super().share(bias, didv) + np.where(didv.min(axis=1) < 0, 1.0, 0.0)

    pixels = classify_cube(bias, cube, Level())
    assert pixels.index[1, 2] == 2 and pixels.index[0, 1] == -1
    assert math.isnan(pixels.confidence[0, 1]) and pixels.confidence[1, 2] == 1.0
    assert pixels.shares == {
        "WS2": 0.0,
        "V_S": pytest.approx(4 / 6),
        NONE: pytest.approx(1 / 6),
        "": pytest.approx(1 / 6),
    }
    for shape in [(2, 50), (2, 3, 49), (0, 3, 50)]:
        with pytest.raises(ValueError, match="the cube has shape"):
            classify_cube(bias, np.zeros(shape), Level())


def test_the_mean_spectrum_of_each_class(record):
    points = classify_points(record, InGap())
    spectra = class_spectra(points)
    assert [spectrum.name for spectrum in spectra] == ["WS2", "V_S"]
    for spectrum in spectra:
        rows = points.didv[points.found.labels == spectrum.name]
        assert spectrum.count == len(rows)
        np.testing.assert_allclose(spectrum.mean, rows.mean(axis=0))
        np.testing.assert_allclose(spectrum.std, rows.std(axis=0))


def test_all_runs_of_a_catalog_are_named_and_a_bad_one_is_told(catalog, keep):
    documents, _ = gp_sts_run(Experiment(n_spectra=2, n_points=20, pixels=(4, 4), sample="short"))
    short = keep(documents)
    without, _ = gp_sts_run(Experiment(n_spectra=2, n_points=20, pixels=(4, 4), sample="short"))
    columns = {role: key for role, key in COLUMNS.items() if role != "didv"}
    without[0][1]["columns"] = columns
    keep(without)
    steps = []
    progress = lambda done, total: steps.append((done, total))  # noqa: E731
    found = list(classify_catalog(catalog, InGap(), progress, sample="short"))
    assert steps == [(1, 2), (2, 2)]
    (good,) = [one for one in found if isinstance(one, PointClasses)]
    (bad,) = [one for one in found if isinstance(one, AnalysisError)]
    assert good.uid == short and sum(good.counts.values()) == 2
    assert "has no dI/dV" in str(bad)


def test_a_run_without_spectra_has_no_classes(record):
    nothing = record.spectra.isel(point=slice(0, 0))
    history = build_history(record.start, nothing, record.decisions)
    empty = replace(record, spectra=nothing, history=history)
    points = classify_points(empty, InGap())
    assert len(points.found) == 0 and class_spectra(points) == []
    assert contents(empty, InGap(), "m@1") == []
    with pytest.raises(AnalysisError, match="has no map with dI/dV"):
        interpolate(empty)
    assert png(class_spectra_figure(points)).startswith(b"\x89PNG")


def test_the_section_of_a_report(record):
    parts = contents(record, InGap(), "linear@123")
    assert [name for name, *_ in parts] == ["classes", "class-spectra"]
    _, title, caption, draw = parts[0]
    assert title and "Model: linear@123." in caption and "WS2 " in caption
    figure = draw(record)
    survey, image, certainty = figure.axes
    assert [a.get_title(loc="left") for a in (survey, image, certainty)] == [
        "Spectra",
        "Pixel by pixel",
        "Probability of the class",
    ]
    marked = sum(len(c.get_offsets()) for c in survey.collections)
    assert marked == 14 and len(survey.images) == 1
    assert len(png(figure)) < 300_000
    _, _, _, draw = parts[1]
    panels = draw(record).axes
    assert len(panels) == 2 and panels[0].get_title(loc="left").startswith("WS2: ")


def test_colours_of_pixels_are_those_of_their_classes_paled_by_doubt(record):
    from matplotlib.colors import to_rgb

    bias = record.spectra["bias"].values
    pixels = classify_cube(bias, interpolate(record), InGap())
    figure = segmentation_figure(record, classify_points(record, InGap()), pixels)
    image = np.asarray(figure.axes[1].images[0].get_array())
    sure = np.unravel_index(np.nanargmax(pixels.confidence), pixels.index.shape)
    unsure = np.unravel_index(np.nanargmin(pixels.confidence), pixels.index.shape)
    colour = np.array(to_rgb(class_colours(pixels.classes)[pixels.classes[pixels.index[sure]]]))
    strength = 0.25 + 0.75 * (pixels.confidence[sure] - 0.5) / 0.5
    np.testing.assert_allclose(image[sure], 1 - strength * (1 - colour), atol=1e-6)
    assert image[unsure].min() > image[sure].min() + 0.1


def test_a_measured_grid_is_drawn_by_its_pixels(record):
    pixels = classify_cube(record.spectra["bias"].values, interpolate(record), InGap())
    figure = grid_figure(pixels)
    assert figure.axes[0].get_xlabel() == "Column"
    placed = grid_figure(pixels, record.history.grid, "grid.3ds")
    assert placed.axes[0].get_title(loc="left") == "grid.3ds"
    assert placed.axes[0].get_xlabel() == "x (nm)"


def test_eight_classes_have_eight_colours():
    colours = class_colours(tuple("abcdefgh"))
    assert len(set(colours.values())) == 9 and NONE in colours


def test_runs_are_classified_by_the_command(catalog, whole, tmp_path, capsys):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        classifier = PaperCNN(build_network(2), ("WS2", "V_S"))
    card = registry.Card.of(classifier, name="random", data="nothing", seed=0, metrics={})
    card = registry.save(classifier, card, tmp_path)
    model = ["--model", str(tmp_path / "random.json"), "--catalog", str(catalog.path)]
    out, figure = tmp_path / "classes.out", tmp_path / "classes.png"
    arguments = ["classify", whole[:8], *model, "--json", str(out), "--figure", str(figure)]
    assert main(arguments) == 0
    result = json.loads(out.read_text())
    points = classify_run(catalog[whole], classifier)
    assert result["uid"] == whole and result["model"] == card.id
    assert [row["class"] for row in result["spectra"]] == list(points.found.labels)
    assert [row["number"] for row in result["spectra"]] == list(range(1, 15))
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert main(["classify", "all", *model, "--json", str(out)]) == 0
    listed = {run.get("uid"): run.get("counts") for run in json.loads(out.read_text())["runs"]}
    assert sum(listed[whole].values()) == 14
    assert whole in capsys.readouterr().out
    assert main(["classify", "no-such-run", *model]) == 1
    told = capsys.readouterr().err
    assert "'no-such-run'" in told and str(catalog.path) in told
    assert main(["classify", "0" * 36, *model]) == 1
    assert f"No run has the uid '{'0' * 36}' in the catalog {catalog.path}" in (
        capsys.readouterr().err
    )
    assert main(["classify", "all", *model, "--figure", str(figure)]) == 1
    assert "--figure draws one file or run" in capsys.readouterr().err
