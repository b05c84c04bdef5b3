"""The command as a user meets it: bad input ends in one sentence, and nothing is left behind."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bluesky_gpsts.cli import main


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run the command, which must fail, and return its one sentence."""
    assert main(arguments) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gpsts: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("seed", ["one", "1.5", "-1", ""])
def test_a_seed_that_is_no_whole_number(seed, capsys, tmp_path):
    text = complaint(capsys, "demo", "--seed=" + seed, "--folder", str(tmp_path / "demo"))
    assert "seed" in text and "whole number" in text
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("spectra", ["0", "-3", "many"])
def test_a_number_of_spectra_that_makes_no_map(spectra, capsys, tmp_path):
    text = complaint(capsys, "demo", "--spectra=" + spectra, "--folder", str(tmp_path / "demo"))
    assert "whole number" in text
    assert not (tmp_path / "demo").exists()


def test_an_unknown_sample(capsys, tmp_path):
    text = complaint(capsys, "demo", "--sample", "gold", "--folder", str(tmp_path / "demo"))
    assert "'gold'" in text and "au111" in text
    assert not (tmp_path / "demo").exists()


def test_a_sample_file_that_is_missing(capsys, tmp_path):
    missing = tmp_path / "missing.3ds"
    assert str(missing) in complaint(capsys, "demo", "--sample", str(missing))


def test_a_sample_file_that_is_no_grid(capsys, tmp_path):
    picture = tmp_path / "picture.3ds"
    picture.write_bytes(b"\x89PNG" + bytes(500))
    text = complaint(capsys, "demo", "--sample", str(picture))
    assert "is not a Nanonis .3ds grid" in text


def test_a_grid_that_was_aborted(capsys, tmp_path, shared_data):
    whole = (shared_data / "grids" / "grid-20x20-kpfm.3ds").read_bytes()
    aborted = tmp_path / "aborted.3ds"
    aborted.write_bytes(whole[: len(whole) // 2])
    text = complaint(capsys, "demo", "--sample", str(aborted))
    assert "of 400 pixels" in text and "aborted" in text


def test_a_grid_that_was_not_swept_in_bias(capsys, shared_data):
    grid = shared_data / "grids" / "grid-truncated.3ds"
    assert "'Z (m)'" in complaint(capsys, "demo", "--sample", str(grid))


def test_a_folder_that_cannot_be_written(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "demo"
    text = complaint(capsys, "demo", "--folder", str(folder))
    assert "cannot be written" in text


def test_a_summary_that_cannot_be_written_stops_before_the_work(capsys, tmp_path):
    text = complaint(capsys, "demo", "--json", str(tmp_path / "no" / "summary.json"))
    assert "summary.json" in text


def test_a_port_that_is_taken(capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        text = complaint(capsys, "sim", "--ports", f"{port},0,0,0")
    assert str(port) in text and "cannot listen" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ("--time-scale=-1",),
        ("--time-scale=fast",),
        ("--ports=1,2,x",),
        ("--ports=70000",),
        ("--seed=-1",),
    ],
)
def test_a_simulator_that_cannot_be_had(arguments, capsys):
    assert complaint(capsys, "sim", *arguments)


def test_the_help_is_quick_because_nothing_heavy_is_imported():
    heavy = "torch gpcam tiled bluesky ophyd scipy matplotlib xarray".split()
    code = (
        "import sys, bluesky_gpsts, bluesky_gpsts.cli;"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_benchmark_refuses_a_sample_it_has_no_use_for(capsys):
    assert "--sample" in complaint(capsys, "bench", "decode", "--sample", str(Path("x.3ds")))


def test_the_module_is_the_command():
    command = [sys.executable, "-m", "bluesky_gpsts", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("gpsts ")


def test_a_map_file_that_holds_no_map(capsys, tmp_path):
    empty, objects = tmp_path / "e.npy", tmp_path / "o.npy"
    empty.write_bytes(b"")
    np.save(objects, np.array([[1, None], [{}, "a"]], dtype=object))
    for path in (empty, objects):
        text = complaint(capsys, "bench", "acquisition", "--quick", "--map", str(path))
        assert f"{path} holds no array of numbers" in text and "numpy.save" in text


def test_a_report_on_no_results(capsys):
    text = complaint(capsys, "bench", "acquisition", "--quick", "--report-only")
    assert "--results FILE" in text and "None" not in text


def test_the_help_names_every_acquisition_function(capsys):
    from bluesky_gpsts.surrogate import ACQUISITIONS

    with pytest.raises(SystemExit):
        main(["demo", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    # The target probability needs a range, for which the demo has no option.
    assert all(name in text for name in ACQUISITIONS if name != "target probability")
    assert "module:function" in text


def test_a_module_in_the_current_folder_is_found(tmp_path):
    """By the installed command too, whose path begins with its own folder."""
    (tmp_path / "mine.py").write_text("rule = 3\n", encoding="utf-8")
    code = (
        "import sys; sys.path[0] = '/'; from bluesky_gpsts.cli import main;"
        "sys.exit(main(['demo', '--acquisition', 'mine:rule', '--folder', 'demo']))"
    )
    path = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 1
    assert "The acquisition function 'mine:rule' is 3; it must be a function." in done.stderr
