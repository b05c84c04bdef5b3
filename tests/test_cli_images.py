"""The commands for images: a look at one, and training."""

import json

import numpy as np
import pytest

from bluesky_gpsts.benchmarks.images.cases import direction_rows, gate_rows
from bluesky_gpsts.cli import main
from bluesky_gpsts.images.registry import load_surface, models
from bluesky_gpsts.images.simulate import draw_image


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    drawn = draw_image(np.random.default_rng(41), pixels=160, pixel=0.09e-9, snr=8.0, steps=0)
    path = tmp_path_factory.mktemp("image") / "scan.npy"
    np.save(path, drawn.image)
    return path, drawn


def test_a_look_at_an_image(picture, tmp_path, capsys):
    path, drawn = picture
    out, figure = tmp_path / "read.json", tmp_path / "read.png"
    code = main(
        ["images", str(path), "--pixel", "0.09", "--json", str(out), "--figure", str(figure)]
    )
    text = capsys.readouterr().out
    assert code == 0 and "1 terraces" in text and "rows at" in text
    found = json.loads(out.read_text())
    assert found["readable"] and len(found["atoms_nm"]) == len(found["confidence"])
    assert abs(len(found["atoms_nm"]) - drawn.occupied.sum()) < 0.05 * drawn.occupied.sum()
    angle = np.radians(found["terraces"][0]["direction_deg"]) - drawn.rows[0]
    assert abs(np.sin(angle)) < 0.02
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_a_refused_image_ends_with_status_1(tmp_path, capsys):
    path = tmp_path / "noise.npy"
    np.save(path, np.random.default_rng(0).standard_normal((90, 90)))
    assert main(["images", str(path), "--pixel", "0.1"]) == 1
    assert "not worth reading: unresolved, tip or contamination" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["images", "missing.sxm"], "there is no file missing.sxm"),
        (["images", "{path}", "--pixel", "big"], "--pixel must be a number"),
        (["images", "{path}", "--pixel", "-1"], "one positive number"),
        (["images", "{path}", "--model", "gold"], "there is no model 'gold'"),
        (["images", "{path}", "--model", "paper-atoms"], "give one of the kind 'surface'"),
        (["train", "surface", "--epochs", "3"], "--epochs is for"),
        (["train", "atoms", "--members", "3"], "--members is for 'gpsts train surface'"),
        (["train", "spectra", "--steps", "3"], "--steps is for 'gpsts train surface'"),
        (["train", "surface", "--images", "0"], "give 1 or more"),
        (["train", "defects", "--images", "few"], "--images must be a whole number"),
    ],
)
def test_what_is_wrong_is_told(arguments, message, picture, capsys):
    assert main([a.format(path=picture[0]) for a in arguments]) == 1
    assert message in capsys.readouterr().err


def test_a_model_is_trained_by_one_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("bluesky_gpsts.cli_images._TESTS", 1)
    monkeypatch.setattr("bluesky_gpsts.images.paper_training._SIZE", 32)
    command = ["train", "terraces", "--images", "1", "--steps", "1", "--out", str(tmp_path)]
    assert main(command) == 0
    assert "my-terraces@" in capsys.readouterr().out
    assert [card.name for card in models(tmp_path)] == ["my-terraces"]


def test_the_models_of_images_are_shipped(capsys):
    assert {card.name for card in models()} >= {
        "surface",
        "paper-terraces",
        "paper-atoms",
        "paper-defects",
    }
    assert main(["models"]) == 0
    assert "paper-terraces@" in capsys.readouterr().out


def test_rows_of_the_benchmark():
    model = load_surface()
    rows = direction_rows(model, 2, 77)
    ours = [row for row in rows if row.goal is not None]
    assert len(rows) == 8 and all(row.value < 1.0 for row in ours)
    gate = {row.case: row for row in gate_rows(model, 3, 77)}
    assert gate["ruined images"].n == 3 and 0.0 <= gate["good images"].value <= 100.0
