"""A real IPython with the profile."""

import os
import re
import subprocess
import sys
from pathlib import Path

PROFILE = Path(__file__).resolve().parents[2] / "profile_collection"

SESSION = """
RE(survey(stm, pixels=16, lines=16))
result = RE(gp_sts(stm, n_spectra=4, n_initial=3, n_points=64))
uid = RE.md['scan_id'], catalog.journal.seconds > 0
before = stm.bias.get(), stm.z_controller.feedback.get()
catalog.wait_delivered(_seen[-1])
assert surface is session.surface is not None
print('LENGTH', len(catalog[_seen[-1]].primary.read()['figure_of_merit']), before)
"""


def test_a_session_maps_the_simulator(tmp_path):
    profile = tmp_path / "profile"
    (profile / "startup").mkdir(parents=True)
    for file in (PROFILE / "startup").glob("*.py"):
        (profile / "startup" / file.name).write_text(file.read_text())
    code = "_seen = []; RE.subscribe(lambda n, d: _seen.append(d['uid']), 'start')\n" + SESSION
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--profile-dir", str(profile), "-c", code],
        capture_output=True,
        text=True,
        timeout=280,
        env={
            **os.environ,
            "MPLBACKEND": "Agg",
            "GPSTS_TIME_SCALE": "0",
            "GPSTS_SURFACE": "1",
            "BLUESKY_GPSTS_CATALOG": str(tmp_path / "catalog"),
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # Lines say what is there.
    for name in ("stm ", "catalog ", "RE ", "surface "):
        assert re.search(rf"^{name}", done.stdout, re.MULTILINE), done.stdout
    # The table shows the figure of merit of each spectrum.
    assert "figure_of_merit" in done.stdout
    assert re.search(r"LENGTH 4 \(1\.2\d*, 1(\.0)?\)", done.stdout), done.stdout
