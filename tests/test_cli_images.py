"""The commands for images: a look at one, and training."""

import json

import numpy as np
import pytest

from bluesky_gpsts.analysis.surface_figure import surface_figure
from bluesky_gpsts.benchmarks.images.cases import direction_rows, gate_rows
from bluesky_gpsts.cli import main
from bluesky_gpsts.images import read_surface
from bluesky_gpsts.images.registry import load_surface, models
from bluesky_gpsts.images.simulate import draw_image
from bluesky_gpsts.images.training import train_surface
from bluesky_gpsts.nanonis.files import Frame, Image, write_sxm


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
    told = capsys.readouterr().out
    assert "not worth reading: unresolved, tip or contamination" in told
    assert "images of another surface than H-Si(100) are read with --lattice any" in told


def test_the_figure_names_the_classes_and_shows_its_scale(picture):
    _, drawn = picture
    image = drawn.image.copy()
    image[130:] = np.nan
    reading = read_surface(image, drawn.pixel)
    first, second = (defect.number for defect in reading.defects[:2])
    figure = surface_figure(image, reading, classes={first: "water", second: "my own"})
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["water", "my own"]
    colours = [line.get_color() for line in legend.get_lines()]
    drawn_in = {tuple(part.get_edgecolor()[0][:3]) for part in figure.axes[1].collections}
    from matplotlib.colors import to_rgb

    assert len(set(colours)) == 2 and {to_rgb(colour) for colour in colours} <= drawn_in
    # The lower left corner was not scanned: what is white there can be seen all the same.
    assert not surface_figure(image, reading).legends
    canvas = figure.canvas
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[:, :, :3].astype(int)
    (left, bottom), (right, top) = figure.axes[0].get_window_extent().get_points().astype(int)
    corner = pixels[::-1][bottom + 3 : bottom + 40, left + 3 : left + (right - left) // 2]
    assert corner.min() < 60


@pytest.fixture(scope="module")
def square(tmp_path_factory):
    """An image of a square lattice of 0.806 nm, 12.8 x 12.8 nm, with a hole."""
    y, x = np.mgrid[:128, :128] * 0.1e-9
    along, across = 8e9 * x + 1e9 * y, 8e9 * y - 1e9 * x
    image = 1e-11 * (np.cos(2 * np.pi * along / 6.5) + np.cos(2 * np.pi * across / 6.5))
    image -= 8e-11 * np.exp(-((x - 6e-9) ** 2 + (y - 4e-9) ** 2) / (2 * (0.25e-9) ** 2))
    image += 1e-12 * np.random.default_rng(3).standard_normal(image.shape)
    folder = tmp_path_factory.mktemp("square")
    np.save(folder / "square.npy", image)
    frame = Frame(0.0, 0.0, 12.8e-9, 12.8e-9)
    write_sxm(folder / "square.sxm", Image({}, frame, {"Z": {"forward": image}}, {"Z": "m"}))
    return folder


@pytest.mark.parametrize("given", [["square.npy", "--pixel", "0.1"], ["square.sxm"]])
def test_any_lattice_is_told_in_nanometres(given, square, tmp_path, capsys):
    out = tmp_path / "read.json"
    command = ["images", str(square / given[0]), *given[1:], "--lattice", "any"]
    assert main([*command, "--json", str(out)]) == 0
    assert "square lattice, 0.806 x 0.806 nm (8.06 x 8.06 pixels); " in capsys.readouterr().out
    found = json.loads(out.read_text())
    assert np.hypot(*np.array(found["vectors_nm"]).T) == pytest.approx(0.806, rel=0.01)
    assert np.allclose(found["atoms_nm"], 0.1 * np.array(found["atoms_px"]), atol=1e-3)
    (hole,) = (defect for defect in found["defects"] if defect["deviation"] < 0.0)
    assert (hole["x_nm"], hole["y_nm"]) == pytest.approx((6.0, 4.0), abs=0.1)
    assert hole["area_nm2"] == pytest.approx(0.01 * hole["area_px"])


def test_any_lattice_without_a_pixel_size_is_told_in_pixels(square, tmp_path, capsys):
    out = tmp_path / "read.json"
    command = ["images", str(square / "square.npy"), "--lattice", "any", "--json", str(out)]
    assert main(command) == 0
    assert "square lattice, 8.06 x 8.06 pixels; " in capsys.readouterr().out
    assert json.loads(out.read_text())["pixel_nm"] is None


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.ones((40, 40)), "the image is constant; take it again, or give another image"),
        (np.random.default_rng(6).normal(size=(100, 140)), "has no lattice; scan fewer"),
    ],
)
def test_what_has_no_lattice_is_told(image, message, tmp_path, capsys):
    np.save(tmp_path / "image.npy", image)
    assert main(["images", str(tmp_path / "image.npy"), "--lattice", "any"]) == 1
    assert message in capsys.readouterr().out


@pytest.fixture(scope="module")
def channels(square, tmp_path_factory):
    """A scan whose channel Z is constant, and one that has no other."""
    folder, image = tmp_path_factory.mktemp("channels"), np.load(square / "square.npy")
    frame, flat = Frame(0.0, 0.0, 12.8e-9, 12.8e-9), {"forward": np.ones((128, 128))}
    planes, units = {"Z": flat, "Current": {"forward": image}}, {"Z": "m", "Current": "A"}
    write_sxm(folder / "two.sxm", Image({}, frame, planes, units))
    write_sxm(folder / "one.sxm", Image({}, frame, {"Z": flat}, {"Z": "m"}))
    write_sxm(folder / "no.sxm", Image({}, frame, {"Current": flat}, {"Current": "A"}))
    return folder


@pytest.mark.parametrize("lattice", ["any", "h-si100"])
@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("two.sxm", "give another channel than 'Z' with --channel: Current"),
        ("one.sxm", "give another file, for 'Z' is the only channel of this one"),
    ],
)
def test_another_channel_is_advised(lattice, name, advice, channels, tmp_path, capsys):
    out = tmp_path / "read.json"
    command = ["images", str(channels / name), "--lattice", lattice, "--json", str(out)]
    assert main(command) == 1
    assert f"the image is constant; take it again, or {advice}" in capsys.readouterr().out
    if lattice == "h-si100":
        assert json.loads(out.read_text())["reason"].endswith(advice)


@pytest.mark.parametrize("channel", ["Current", "current"])
def test_a_channel_is_read_by_its_name(channel, channels, capsys):
    command = ["images", str(channels / "two.sxm"), "--lattice", "any", "--channel", channel]
    assert main(command) == 0
    assert "square lattice, 0.806 x 0.806 nm" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["two.sxm", "--channel", "Phase"], "has no channel 'Phase'; it has Z, Current; give one"),
        (["no.sxm"], "has no channel Z; it has Current; give one of them with --channel"),
    ],
)
def test_a_channel_that_is_not_there_is_told(arguments, message, channels, capsys):
    assert main(["images", str(channels / arguments[0]), *arguments[1:]]) == 1
    assert message in capsys.readouterr().err


def test_a_wrong_pixel_size_is_told_in_words_of_the_command_line(picture, tmp_path, capsys):
    path, drawn = picture
    frame = Frame(0.0, 0.0, 160 * 0.12e-9, 160 * 0.12e-9)
    scan = tmp_path / "scan.sxm"
    write_sxm(scan, Image({}, frame, {"Z": {"forward": drawn.image}}, {"Z": "m"}))
    for arguments, advice in (
        ([str(path), "--pixel", "0.12"], "give that, or leave --pixel out to have it found"),
        ([str(scan)], "give that with --pixel, for the file says otherwise"),
        (
            [str(scan), "--pixel", "0.13"],
            "give that, or leave --pixel out for the size in the file",
        ),
    ):
        assert main(["images", *arguments]) == 1
        text = capsys.readouterr().out
        assert advice in text and "None" not in text


@pytest.mark.parametrize(
    "command", [["images", "{path}"], ["library", "show"], ["classify", "all"]]
)
def test_two_outputs_in_one_file_are_refused(command, picture, tmp_path, capsys):
    out = tmp_path / "both.png"
    given = [part.format(path=picture[0]) for part in command]
    again = tmp_path / "." / "other" / ".." / "both.png"
    assert main([*given, "--json", str(out), "--figure", str(again)]) == 1
    assert "--json and --figure would both be written to" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    "name", ["a.dat", "a.txt", "a.npz", "a.npy", "a.png", "a.jpg", "empty.npy"]
)
def test_what_is_no_image_is_told_with_the_kinds_that_are_read(name, tmp_path, capsys):
    path = tmp_path / name
    path.write_bytes(b"" if name.startswith("empty") else b"[DATA]\n1 2 3\n" * 9)
    assert main(["images", str(path)]) == 1
    error = capsys.readouterr().err
    assert "holds no image that can be read; give a .sxm, .npy, .png or .jpg file" in error
    assert "pickle" not in error


def test_a_training_that_is_too_short_is_told():
    with pytest.raises(ValueError, match="0 steps.*give 1 or more"):
        train_surface(images=1, steps=0)
    with pytest.raises(ValueError, match="on 20 drawn images; train it with more steps"):
        train_surface(images=1, steps=1, progress=False)


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
        (["images", "{path}", "--lattice", "any", "--anyway"], "there is no quality gate"),
        (["images", "{path}", "--lattice", "any", "--model", "surface"], "--model is for H-Si"),
        (["images", "{path}", "--lattice", "any", "--pixel", "0"], "one positive number"),
        (["images", "{path}", "--channel", "Z"], "scan.npy has no channels; leave it out"),
        (["images", "{path}", "--figure", "read.pdf"], "a name in .png"),
        (["library", "show", "--figure", "classes"], "a name in .png"),
        (["classify", "all", "--figure", "map.svg"], "a name in .png"),
        (["images", "."], ". is a folder; give one of the files in it, a .sxm, .npy"),
        (["train", "surface", "--images", "0"], "whole number of 1 or above, not 0"),
        (["train", "surface", "--steps", "-1"], "whole number of 1 or above, not -1"),
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
