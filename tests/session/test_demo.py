"""The main job, end to end, as ``make demo`` runs it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from demo_runs import run_demo

from bluesky_gpsts.catalog import find, open_catalog, spectra


def test_the_map_of_a_vacancy_resembles_the_truth(demo):
    assert demo.summary["spectra"] == 60
    assert len(demo.summary["correlations"]) == 60
    assert demo.summary["correlations"][-1] >= 0.95


def test_it_ends_with_what_a_user_needs(demo):
    assert demo.summary["uid"] in demo.printed
    assert demo.summary["catalog"] in demo.printed
    assert demo.summary["report"] in demo.printed
    assert f"{demo.summary['correlations'][-1]:.3f}" in demo.printed


def test_it_says_where_the_time_went(demo):
    seconds = demo.summary["seconds"]
    assert set(seconds) == {"instrument", "deciding", "writing", "rest"}
    assert all(value >= 0 for value in seconds.values())
    assert demo.summary["overhead"] > 0
    assert demo.summary["versions"]["bluesky-gpsts"]


def test_progress_is_shown(demo):
    assert "60/60" in demo.progress


def test_the_report_is_one_file_with_pictures(demo):
    report = Path(demo.summary["report"])
    text = report.read_text(encoding="utf-8")
    assert demo.summary["uid"] in text
    assert text.count("data:image/png;base64,") >= 5
    assert len(list(report.parent.glob("*.png"))) >= 5


def test_a_second_process_reads_all_spectra(demo):
    code = (
        "import sys\n"
        "from bluesky_gpsts.catalog import open_catalog, spectra\n"
        "with open_catalog(sys.argv[1]) as catalog:\n"
        "    data = spectra(catalog[sys.argv[2]])\n"
        "    print(data.didv.shape, data.didv.dtype, data.bias.shape, data.bias.attrs['units'])\n"
        "    print(float(data.bias[0]), float(data.bias[-1]), data.point.size)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, demo.summary["catalog"], demo.summary["uid"]],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "(60, 1200) float64 (1200,) V"
    np.testing.assert_allclose([float(v) for v in second.split()], [1.4, -1.8, 60], rtol=1e-6)


@pytest.mark.shared_data
def test_a_measured_grid_in_place_of_the_simulated_sample(shared_data, tmp_path):
    grid = shared_data / "grids" / "grid-20x20-kpfm.3ds"
    demo = run_demo(tmp_path / "demo", "--sample", str(grid))
    assert demo.summary["sample"] == grid.name
    assert demo.summary["correlations"][-1] >= 0.90


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal for a process group")
def test_ctrl_c_ends_in_order(tmp_path):
    """The terminal sends Ctrl-C to all processes of the demo at once."""
    demo = subprocess.Popen(
        [
            *(sys.executable, "-u", "-m", "bluesky_gpsts.cli", "demo"),
            *("--spectra", "2000", "--folder", str(tmp_path / "demo")),
        ],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    said = []
    for line in demo.stderr:
        said.append(line)
        if line.startswith("spectra 1/2000"):
            os.killpg(demo.pid, signal.SIGINT)
            break
    said += demo.stderr.readlines()
    assert demo.wait(timeout=200) == 130, "".join(said)
    assert said[-1] == "gpsts: stopped\n"
    # The simulator was there to the end: nothing was wrong with putting the settings back.
    assert not [line for line in said if "cannot be restored" in line or "refused" in line]
    with open_catalog(tmp_path / "demo" / "catalog") as catalog:
        run = find(catalog, plan_name="gp_sts")[-1]
        assert run.metadata["stop"]["exit_status"] == "abort"
        assert spectra(run).sizes["point"] >= 1
