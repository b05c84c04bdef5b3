"""The commands models, train and classify as a user meets them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bluesky_gpsts.cli import main
from bluesky_gpsts.nanonis.files import Frame, Grid, Spectrum, write_3ds, write_dat
from bluesky_gpsts.spectra import registry

BIAS = np.linspace(-1.0, 1.0, 120)


def conductance(kind: str, seed: int) -> np.ndarray:
    noise = 0.02 * np.random.default_rng([seed, len(kind)]).normal(size=len(BIAS))
    centre = -0.4 if kind == "left" else 0.4
    return 1e-10 * (1.0 + np.exp(-(((BIAS - centre) / 0.2) ** 2)) + noise)


def current(didv: np.ndarray) -> np.ndarray:
    return np.asarray(np.cumsum(didv, axis=-1) * (BIAS[1] - BIAS[0]))


def write(path: Path, didv: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"Bias calc (V)": BIAS, "Current (A)": current(didv), "LI Demod 1 X (A)": didv}
    write_dat(path, Spectrum({"Experiment": "bias spectroscopy"}, columns))
    return path


def complaint(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run the command, which must fail, and return its one sentence."""
    assert main([str(argument) for argument in arguments]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gpsts: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("labelled")
    for kind in ("left", "right"):
        for seed in range(20):
            write(root / kind / f"{seed}.dat", conductance(kind, seed))
    return root


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that ``gpsts train paper`` leaves behind."""
    out = tmp_path_factory.mktemp("trained")
    arguments = ["train", "paper", "--folder", str(folder), "--epochs", "4", "--seed", "1"]
    arguments += ["--out", str(out / "models"), "--figures", str(out / "figures")]
    assert main([*arguments, "--json", str(out / "result.json")]) == 0
    return out


def test_the_articles_table_and_figures_are_made_by_one_command(trained):
    result = json.loads((trained / "result.json").read_text())
    assert [epoch["number"] for epoch in result["epochs"]] == [1, 2, 3, 4]
    assert result["chosen"] == 4 and result["test"][-1]["accuracy"] == 1.0
    assert result["parts"] == {"train": 32, "validation": 5, "test": 3}
    lines = (trained / "figures" / "table-1.csv").read_text().splitlines()
    assert lines[0] == "part,epoch,left,right" and len(lines) == 9
    for name in ("accuracy-loss", "confusion", "precision-recall-roc"):
        data = (trained / "figures" / f"{name}.png").read_bytes()
        assert data.startswith(b"\x89PNG") and len(data) < 300_000
    card = registry.card(trained / "models")
    assert card.name == "paper" and card.classes == ("left", "right") and card.seed == 1
    assert result["model"]["sha256"] == card.sha256


def test_models_are_listed(trained, capsys, tmp_path):
    out = tmp_path / "cards.json"
    assert main(["models", str(trained / "models"), "--json", str(out)]) == 0
    text = capsys.readouterr().out
    assert "paper@" in text and "left, right" in text and "random split: test accuracy" in text
    assert "licence not stated (yours to choose)" in text
    (card,) = json.loads(out.read_text())
    assert card["name"] == "paper" and card["licence"] == "not stated (yours to choose)"
    assert main(["models"]) == 0
    assert "licence BSD-3-Clause" in capsys.readouterr().out
    assert "no folder" in complaint(capsys, "models", tmp_path / "missing")


@pytest.mark.parametrize("kind", ["left", "right"])
def test_a_file_is_classified(kind, trained, capsys, tmp_path):
    path = write(tmp_path / "new.dat", conductance(kind, 99))
    out, figure = tmp_path / "classes.json", tmp_path / "classes.png"
    arguments = ["classify", str(path), "--model", str(trained / "models")]
    assert main([*arguments, "--json", str(out), "--figure", str(figure)]) == 0
    text = capsys.readouterr().out
    assert f"1 spectra by paper@{registry.card(trained / 'models').sha256[:12]}: {kind} 1" in text
    (row,) = json.loads(out.read_text())["spectra"]
    assert row["class"] == kind and row["probabilities"][kind] > 0.5 and row["problem"] == ""
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_a_grid_is_classified_pixel_by_pixel(trained, capsys, tmp_path):
    kinds = ["left"] * 30 + ["right"] * 20
    didv = np.stack([conductance(kind, 50 + k) for k, kind in enumerate(kinds)]).reshape(5, 10, -1)
    parameters = {"Sweep Start": np.full((5, 10), -1.0), "Sweep End": np.full((5, 10), 1.0)}
    channels = {"Current (A)": current(didv), "LI Demod 1 X (A)": didv}
    for recorded in (50, 12):
        grid = Grid({}, Frame(0, 0, 2e-9, 1e-9), "Bias (V)", BIAS, parameters, channels, recorded)
        path = tmp_path / "grid.3ds"
        write_3ds(path, grid)
        out, figure = tmp_path / "classes.json", tmp_path / "classes.png"
        arguments = ["classify", str(path), "--model", str(trained / "models")]
        assert main([*arguments, "--json", str(out), "--figure", str(figure)]) == 0
        rows = json.loads(out.read_text())["spectra"]
        assert [row["class"] for row in rows] == kinds[:recorded]
        assert [row["number"] for row in rows] == list(range(recorded))
        assert figure.read_bytes().startswith(b"\x89PNG")
        assert ("... and 10 more" in capsys.readouterr().out) == (recorded == 50)


def test_bad_spectra_of_a_file_are_not_named(trained, capsys, tmp_path):
    flat = write(tmp_path / "flat.dat", np.zeros(120))
    assert main(["classify", str(flat), "--model", str(trained / "models")]) == 0
    assert "not judged       constant at" in capsys.readouterr().out


def test_files_that_cannot_be_classified(trained, capsys, tmp_path):
    model = trained / "models"
    (tmp_path / "picture.sxm").write_bytes(b"\x89PNG")
    picture = complaint(capsys, "classify", tmp_path / "picture.sxm", "--model", model)
    assert "give a Nanonis .dat or .3ds file" in picture
    (tmp_path / "cut.dat").write_bytes(b"Experiment\tx")
    assert "cut.dat" in complaint(capsys, "classify", tmp_path / "cut.dat", "--model", model)
    assert "missing.dat" in complaint(capsys, "classify", tmp_path / "missing.dat")


def test_models_that_cannot_be_used(trained, folder, capsys, tmp_path):
    path = folder / "left" / "0.dat"
    assert "no model 'gold'" in complaint(capsys, "classify", path, "--model", "gold")
    copied = Path(shutil.copytree(trained / "models", tmp_path / "models"))
    weights = copied / "paper.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    text = complaint(capsys, "classify", path, "--model", copied)
    assert "does not match its weights" in text and "cut off" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("spectra", "--figures", "f"), "--figures is for 'gpsts train paper'"),
        (("paper", "--sessions", "30"), "--sessions is for 'gpsts train spectra'"),
        (("spectra", "--sessions", "3"), "--sessions must be a whole number of 12 or above"),
        (("linear", "--sessions", "3"), "--sessions must be a whole number of 12 or above"),
        (("linear", "--epochs", "3"), "--epochs is for 'gpsts train paper'"),
        (("paper", "--epochs", "0"), "--epochs must be a whole number of 1 or above, not 0"),
        (("paper", "--epochs", "many"), "--epochs must be a whole number"),
        (("paper", "--seed", "x"), "--seed must be a whole number"),
        (("paper", "--seed=-1"), "--seed must be a whole number of 0 or above"),
        (("paper", "--folder", "missing"), "missing is no folder"),
        (("paper", "--folder", "a", "--labels", "b"), "give one of them"),
        (("paper", "--name", "a/b"), "cannot be named 'a/b'"),
        (("paper", "--figures", __file__ + "/figures"), "is no folder that can be written"),
        (("spectra", "--json", "no/such/folder.json"), "cannot write"),
    ],
)
def test_training_that_cannot_begin(arguments, message, folder, capsys, tmp_path):
    extra = () if "--folder" in arguments or arguments[0] != "paper" else ("--folder", folder)
    out = tmp_path / "models"
    assert message in complaint(capsys, "train", *arguments, *extra, "--out", out)
    assert not out.exists()


def test_a_class_of_one_file_and_a_copy_are_refused(folder, capsys, tmp_path):
    copied = Path(shutil.copytree(folder, tmp_path / "copied"))
    shutil.copy(copied / "left" / "3.dat", copied / "right" / "again.dat")
    text = complaint(capsys, "train", "paper", "--folder", copied, "--out", tmp_path / "models")
    assert "more than once" in text and "again.dat" in text
    write(copied / "lonely" / "1.dat", conductance("left", 77))
    text = complaint(capsys, "train", "paper", "--folder", copied, "--out", tmp_path / "models")
    assert "class 'lonely' has only" in text


def test_the_default_kind_is_trained_on_labelled_files(folder, capsys, tmp_path):
    root = tmp_path / "labelled"
    for kind in ("left", "right"):
        for seed in range(20):
            session = f"tip {seed % 4}"
            shutil.copytree(
                folder / kind, root / kind / session, ignore=_only(seed), dirs_exist_ok=True
            )
    out = tmp_path / "models"
    arguments = ["train", "spectra", "--folder", str(root), "--epochs", "2", "--out", str(out)]
    assert main([*arguments, "--json", str(tmp_path / "result.json")]) == 0
    text = capsys.readouterr().out
    assert "sessions held out: balanced accuracy 1," in text
    card = registry.card(out / "my-spectra.json")
    assert card.kind == "default" and card.classes == ("left", "right")
    assert card.metrics["sessions held out"]["spectra"] == 10.0
    assert card.licence.startswith("not stated")
    assert json.loads((tmp_path / "result.json").read_text())["model"]["sha256"] == card.sha256
    path = write(tmp_path / "new.dat", conductance("right", 99))
    assert main(["classify", str(path), "--model", str(out)]) == 0
    assert "right 1" in capsys.readouterr().out


@pytest.mark.parametrize(("kind", "fewest", "count"), [("linear", 3, 3), ("spectra", 2, 2)])
def test_too_few_spectra_beside_those_of_the_test(kind, fewest, count, folder, capsys, tmp_path):
    root = tmp_path / "labelled"
    for name in ("left", "right"):
        (root / name).mkdir(parents=True)
        for seed in range(count if name == "right" else 6):
            shutil.copy(folder / name / f"{seed}.dat", root / name)
    text = complaint(capsys, "train", kind, "--folder", root, "--out", tmp_path / "models")
    assert f"class 'right' has {count - 1} spectra left to train on after a quarter" in text
    assert f"'gpsts train {kind}' needs {fewest}; give at least {fewest + 1} files" in text
    assert not (tmp_path / "models").exists()


def _only(seed: int):
    """Leave out all files but that of one seed."""
    return lambda _, names: [name for name in names if name != f"{seed}.dat"]


def test_the_default_kind_is_trained_on_simulated_sessions(capsys, tmp_path):
    arguments = ["train", "spectra", "--sessions", "12", "--epochs", "1", "--name", "small"]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    card = registry.card(tmp_path)
    assert card.name == "small" and card.classes == ("Au fcc", "Au hcp", "V_S", "WS2")
    assert len(card.metrics) == 3 and all(
        found["spectra"] == 600 for found in card.metrics.values()
    )
    assert "new simulated sessions, difficulty 1.5: balanced accuracy" in capsys.readouterr().out


def test_the_linear_kind_is_trained_on_simulated_sessions(capsys, tmp_path):
    assert main(["train", "linear", "--sessions", "12", "--out", str(tmp_path)]) == 0
    card = registry.card(tmp_path)
    assert (card.name, card.kind, card.licence) == ("my-linear", "linear", "BSD-3-Clause")
    assert card.metrics["new simulated sessions, difficulty 0.3"]["balanced accuracy"] > 0.9
    assert main(["models", str(tmp_path)]) == 0
    assert "my-linear@" in capsys.readouterr().out


def test_a_folder_is_classified_file_by_file(folder, trained, tmp_path, capsys):
    copy = tmp_path / "night"
    shutil.copytree(folder / "left", copy)
    (copy / "damaged.dat").write_bytes(b"Experiment\tx\t\r\n")
    out = tmp_path / "found.json"
    model = str(next((trained / "models").glob("*.json")))
    assert main(["classify", str(copy), "--model", model, "--json", str(out)]) == 1
    shown = capsys.readouterr().out
    assert "not read: damaged.dat is not a Nanonis .dat spectrum" in shown
    header, first = shown.splitlines()[:2]
    assert header.split() == ["file", "class", "probability", "novelty"]
    assert first.startswith("0.dat ") and header.index("class") == first.index("left")
    assert len(first) == len(header) and 0.0 <= float(first.split()[-1]) <= 1.0
    files = json.loads(out.read_text())["files"]
    assert len(files) == 21 and sum("problem" in one for one in files) == 1
    named = [one["spectra"][0]["class"] for one in files if "spectra" in one]
    assert named.count("left") >= 19
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "there is no .dat or .3ds file in" in complaint(capsys, "classify", empty)


@pytest.mark.parametrize(
    "arguments",
    [
        ("report",),
        ("classify", "deadbeef", "--model", "linear"),
        ("classify", "all", "--model", "linear"),
        ("library", "show"),
        ("library", "grow"),
        ("train", "linear", "--labels", "labels.csv"),
        ("catalog", "list"),
        ("catalog", "profile"),
        ("catalog", "sync"),
    ],
)
def test_a_mistyped_catalog_is_told_and_not_made(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.csv").write_text("uid,seq_num,class\nabc,1,WS2\n")
    before = sorted(tmp_path.rglob("*"))
    option = () if arguments[0] == "catalog" else ("--catalog",)
    for place in ("mistyped", "."):
        text = complaint(capsys, *arguments, *option, place)
        assert f"There is no catalog in {tmp_path / place}; give the directory of one" in text
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("what", ["monday/", "picture.tiff", r"data\monday", ""])
def test_a_missing_file_is_not_looked_for_in_the_catalog(what, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("BLUESKY_GPSTS_CATALOG", str(tmp_path / "none"))
    text = complaint(capsys, "classify", what, "--model", "linear")
    assert f"there is no file or folder {what!r}; give a .dat or .3ds file" in text


def test_output_that_nobody_reads_on_ends_quietly() -> None:
    line = [sys.executable, "-m", "bluesky_gpsts.cli", "models"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
