"""Reports, written from a real catalog."""

import base64
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from analysis_runs import Documents, Experiment, Keep, gp_sts_run, survey_run, truth_run

from bluesky_gpsts.analysis import AnalysisError, read_record, write_report
from bluesky_gpsts.analysis.figures import survey_figure, truth_figure
from bluesky_gpsts.analysis.report import _write_all
from bluesky_gpsts.catalog import Catalog

PNG = b"\x89PNG\r\n\x1a\n"
ALL = ["survey", "map", "truth", "progress", "spectra", "hyperparameters", "time"]


class Page(HTMLParser):
    """Collects what a page holds, and checks that its elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.images: list[tuple[str, bytes]] = []
        self.figures: list[str] = []
        self.text = ""
        self.links: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        if tag not in ("meta", "img", "link", "br"):
            self.open.append(tag)
        if tag == "figure":
            self.figures.append(values["id"] or "")
        self.links += [v for k, v in attrs if k in ("src", "href") and v is not None]
        if tag == "img":
            kind, data = (values["src"] or "").split(",", 1)
            assert kind == "data:image/png;base64" and values["alt"]
            self.images.append((values["alt"] or "", base64.b64decode(data, validate=True)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


def report(
    catalog: Catalog, uid: str, folder: Path, progress: Callable[[int, int], None] | None = None
) -> Page:
    path = write_report(catalog, uid, folder, progress)
    assert path == folder / "report.html"
    page = Page(path.read_text(encoding="utf-8"))
    files = {f"{name}.png" for name in page.figures} | {"report.html"}
    assert {file.name for file in folder.iterdir()} == files
    for name, (_, content) in zip(page.figures, page.images, strict=True):
        assert content == (folder / f"{name}.png").read_bytes()
        assert content.startswith(PNG) and len(content) > 5000
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert all(link.startswith("data:") for link in page.links)
    return page


def test_a_whole_run(catalog: Catalog, whole: str, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    folder = tmp_path / "new" / "folder"
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("of an earlier report")
    page = report(catalog, whole, folder, lambda done, total: seen.append((done, total)))
    assert seen == [(done, 8) for done in range(1, 9)]
    assert page.figures == ALL
    assert "Tunnelling spectroscopy of WS2 <b>monolayer</b> & defects" in page.text
    record = read_record(catalog, whole)
    for words in (
        whole,
        "completed",
        f"{record.correlations[-1]:.3f}",
        "correlation with the truth",
        "log <current>",
        "stm_z_controller_setpoint",
        "30 pA",
        "matern-5/2",
        "bluesky-gpsts",
        "0 V to 0.7 V",
    ):
        assert words in page.text, words


def test_an_aborted_run_without_survey_and_truth(
    catalog: Catalog, keep: Keep, tmp_path: Path
) -> None:
    uid = keep(gp_sts_run(Experiment(n_spectra=2), exit_status="abort")[0])
    page = report(catalog, uid, tmp_path)
    assert page.figures == ["survey", "map", "progress", "spectra", "hyperparameters", "time"]
    assert "aborted" in page.text and "stopped by <hand>" in page.text
    assert "none: the truth is not known" in page.text


def test_one_spectrum_with_truth(catalog: Catalog, keep: Keep, tmp_path: Path) -> None:
    experiment = Experiment(n_spectra=1)
    uid = keep(gp_sts_run(experiment)[0])
    keep(truth_run(experiment, uid))
    page = report(catalog, uid, tmp_path)
    assert page.figures == ALL and "none: the map has no contrast" in page.text


def before_the_first_spectrum(documents: Documents) -> Documents:
    kept = []
    for name, doc in documents:
        if name == "event" and "stm_x" in doc["data"]:
            break
        kept.append((name, doc))
    return kept


def test_no_spectrum_at_all(catalog: Catalog, keep: Keep, tmp_path: Path) -> None:
    documents = gp_sts_run(Experiment(n_spectra=1))[0]
    stop = {**documents[-1][1], "exit_status": "abort", "num_events": {}}
    uid = keep([*before_the_first_spectrum(documents), ("stop", stop)])
    page = report(catalog, uid, tmp_path)
    assert page.figures == [] and "ended before its first spectrum" in page.text


def test_a_run_without_end(catalog: Catalog, keep: Keep, tmp_path: Path) -> None:
    documents = gp_sts_run(Experiment(n_spectra=4), survey="gone-gone", exit_status="")[0]
    uid = keep(documents)
    wait_until_readable(catalog, uid, 4)
    page = report(catalog, uid, tmp_path)
    assert "unfinished" in page.text and "no stop document" in page.text
    assert "The survey image gone-gone cannot be shown. It is not in the catalog." in page.text
    assert "not recorded" in page.text
    stop = {"uid": "end", "run_start": uid, "time": 1.8e9, "exit_status": "fail"}
    catalog.journal("stop", {**stop, "num_events": {}})


def wait_until_readable(catalog: Catalog, uid: str, count: int) -> None:
    import time

    from bluesky_gpsts.catalog import CatalogError, decisions

    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if decisions(catalog[uid]).sizes.get("decision") == count:
                return
        except (KeyError, CatalogError):
            pass
        time.sleep(0.1)
    pytest.fail(f"run {uid} is not readable after 120 s")


def test_a_turned_frame_in_a_larger_survey(catalog: Catalog, keep: Keep, tmp_path: Path) -> None:
    experiment = Experiment(n_spectra=8, angle=30.0, frame_scale=1.6)
    survey = keep(survey_run(experiment))
    uid = keep(gp_sts_run(experiment, survey)[0])
    page = report(catalog, uid, tmp_path)
    assert "turned by 30°" in page.text


def test_other_wishes_are_refused_in_one_sentence(
    catalog: Catalog, keep: Keep, whole: str, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    for folder in (file, file / "below"):
        with pytest.raises(AnalysisError, match="cannot be written to .*; name a folder"):
            write_report(catalog, whole, folder)
    with pytest.raises(AnalysisError, match="No run has a uid that begins"):
        write_report(catalog, "123456", tmp_path / "none")
    assert list(tmp_path.iterdir()) == [file]
    record = replace(read_record(catalog, whole), truth=None)
    with pytest.raises(AnalysisError, match="The truth of run .* is not in the catalog"):
        truth_figure(record)


def test_nothing_is_left_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if "hyperparameters" in path.name:
            raise OSError(28, "No space left on device")
        return original(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    files = {"map.png": b"1", "hyperparameters.png": b"2", "report.html": b"3"}
    with pytest.raises(AnalysisError, match="No space left on device"):
        _write_all(tmp_path, files)
    assert list(tmp_path.iterdir()) == []


def test_importing_the_analysis_and_the_callbacks_is_light() -> None:
    code = (
        "import sys, bluesky_gpsts.analysis, bluesky_gpsts.callbacks;"
        "print([m for m in ('matplotlib', 'tiled', 'gpcam', 'torch', 'xarray', 'scipy')"
        " if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_a_survey_that_was_stopped_is_said_to_be_so(catalog: Catalog, whole: str) -> None:
    record = read_record(catalog, whole)
    assert record.survey is not None
    survey = record.survey.copy(deep=True)
    lines = survey["topography"].shape[0]
    survey["topography"].values[: lines // 2] = np.nan
    figure = survey_figure(replace(record, survey=survey))
    assert f"({lines - lines // 2} of {lines} lines)" in figure.axes[0].get_title(loc="left")
    assert "lines" not in survey_figure(record).axes[0].get_title(loc="left")
