"""Survey images are read beside the run, and what was found is filed as a run of its own."""

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from event_model import DocumentNames, compose_run, schema_validators

from bluesky_gpsts.callbacks import FindDefects
from bluesky_gpsts.callbacks.surfacerun import sample_vectors, to_sample
from bluesky_gpsts.images.simulate import draw_blunt, draw_image
from bluesky_gpsts.images.sites import THREE_DIMERS
from bluesky_gpsts.plans.targets import site_targets

FRAME = {"center_x": 5e-9, "center_y": -3e-9, "width": 0.0, "height": 0.0, "angle": 30.0}


class Filed:
    """Documents that were filed."""

    def __init__(self) -> None:
        self.all: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, name: str, document: Any) -> None:
        schema_validators[DocumentNames[name]].validate(plain(document))
        self.all.append((name, document))

    def start(self) -> dict[str, Any]:
        return next(d for name, d in self.all if name == "start")

    def rows(self, stream: str) -> list[dict[str, Any]]:
        uids = {d["uid"] for name, d in self.all if name == "descriptor" and d["name"] == stream}
        return [d["data"] for name, d in self.all if name == "event" and d["descriptor"] in uids]


def plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    return value


def show(callback: FindDefects, image: np.ndarray, frame: dict[str, float], role: str) -> str:
    """Let a survey with this image pass by; return its uid."""
    bundle = compose_run(metadata={"plan_name": "survey", "frame": frame, "columns": {role: "z"}})
    key = {"source": "z", "dtype": "array", "shape": list(image.shape)}
    stream = bundle.compose_descriptor(name="survey", data_keys={"z": key})
    callback("start", bundle.start_doc)
    callback("descriptor", stream.descriptor_doc)
    callback("event", stream.compose_event(data={"z": image}, timestamps={"z": 0.0}))
    callback("stop", bundle.compose_stop())
    return str(bundle.start_doc["uid"])


@pytest.fixture
def filed() -> Filed:
    return Filed()


@pytest.fixture
def finder(filed: Filed) -> Iterator[FindDefects]:
    finder = FindDefects(filed)
    yield finder
    finder.close()


@pytest.fixture(scope="module")
def drawn():
    return draw_image(np.random.default_rng([930, 1]), snr=6.0, steps=1)


def frame_for(drawn: Any) -> dict[str, float]:
    ny, nx = drawn.image.shape
    return {**FRAME, "width": nx * drawn.pixel, "height": ny * drawn.pixel}


@pytest.mark.parametrize("role", ["forward", "topography"])
def test_what_is_found_is_filed_with_positions_in_the_sample_frame(
    finder: FindDefects, filed: Filed, drawn: Any, role: str
) -> None:
    frame = frame_for(drawn)
    uid = show(finder, drawn.image, frame, role)
    found = finder.wait(uid, 60)
    assert found.problem == "" and finder.latest == uid
    assert found.run == filed.start()["uid"]
    assert filed.start()["survey"] == uid and filed.start()["plan_name"] == "surface"
    rows = filed.rows("defects")
    assert len(rows) == len(found.table) > 10
    # Each true defect, brought to the sample frame, has one that was found on it.
    true = to_sample([(d.x, d.y) for d in drawn.defects], drawn.image.shape, frame)
    there = np.array([(row["x"], row["y"]) for row in rows])
    apart = np.hypot(*np.moveaxis(there[:, None] - true[None], -1, 0))
    near = apart.min(axis=1) < 0.3e-9
    assert near.mean() > 0.7
    names = [drawn.defects[k].kind for k in apart.argmin(axis=1)]
    right = [
        row["label"] == name
        for row, name, is_near in zip(rows, names, near, strict=True)
        if is_near
    ]
    assert np.mean(right) > 0.8
    assert all(0.0 <= row["probability"] <= 1.0 for row in rows)
    (atoms,) = filed.rows("atoms")
    assert atoms["occupied"].sum() > 500 and len(atoms["x"]) == len(atoms["confidence"])
    terraces = filed.rows("terraces")
    assert len(terraces) == len(found.reading.terrace_list)
    assert filed.rows("reading")[0]["readable"] == filed.rows("reading")[0]["resolved"] == 1.0
    assert filed.all[-1][0] == "stop"


def test_rows_without_dimers_are_filed_without_atoms(finder: FindDefects, filed: Filed) -> None:
    drawn = draw_blunt(np.random.default_rng([930, 5]), 192, snr=5.0)
    found = finder.wait(show(finder, drawn.image, frame_for(drawn), "forward"), 60)
    assert found.problem == "" and len(found.places) > 5
    (row,) = filed.rows("reading")
    assert row["readable"] == 1.0 and row["resolved"] == 0.0
    assert row["remark"].startswith("the rows are resolved, the dimers in them are not")
    (atoms,) = filed.rows("atoms")
    assert all(len(values) == 0 for values in atoms.values())
    assert len(filed.rows("defects")) == len(found.places)
    with pytest.raises(ValueError, match="where a pattern fits is not known"):
        site_targets(found, THREE_DIMERS)


def test_directions_are_turned_with_the_frame() -> None:
    """A frame turned clockwise turns what is in it clockwise; lines of an image go down."""
    frame = {**FRAME, "width": 10e-9, "height": 10e-9}
    (along,) = sample_vectors([(1.0, 0.0)], frame)
    np.testing.assert_allclose(along, [np.cos(np.pi / 6), -np.sin(np.pi / 6)], atol=1e-12)
    (down,) = sample_vectors([(0.0, 1.0)], frame)
    np.testing.assert_allclose(down, [-np.sin(np.pi / 6), -np.cos(np.pi / 6)], atol=1e-12)
    corners = to_sample([(-0.5, -0.5), (99.5, -0.5), (49.5, 49.5)], (100, 100), frame)
    np.testing.assert_allclose(corners[1] - corners[0], 10e-9 * along, atol=1e-20)
    np.testing.assert_allclose(corners[2], [5e-9, -3e-9], atol=1e-20)


def test_an_image_that_cannot_be_read_is_filed_with_the_reason(
    finder: FindDefects, filed: Filed
) -> None:
    ruined = draw_image(np.random.default_rng([930, 2]), ruined="noise", pixels=128)
    found = finder.wait(show(finder, ruined.image, frame_for(ruined), "forward"), 60)
    assert found.table is None and found.problem == found.reading.verdict.reason != ""
    (row,) = filed.rows("reading")
    assert row["readable"] == row["resolved"] == 0.0 and row["problem"] == found.problem
    assert filed.rows("defects") == [] and len(found.places) == 0


def test_an_image_without_a_pixel_is_a_problem_and_no_crash(finder: FindDefects, drawn) -> None:
    nothing = np.full((64, 64), np.nan)
    frame = {**FRAME, "width": 6e-9, "height": 6e-9}
    found = finder.wait(show(finder, nothing, frame, "forward"), 60)
    assert "nothing of the image is known" in found.problem
    # And it goes on.
    again = finder.wait(show(finder, drawn.image, frame_for(drawn), "forward"), 60)
    assert again.problem == ""


def test_the_run_is_not_held_up_and_a_full_queue_is_told(filed: Filed, drawn: Any) -> None:
    gate, busy = threading.Event(), threading.Event()

    class Slow:
        classes = ("thing",)

        def name_defects(self, table: Any) -> Any:
            busy.set()
            gate.wait(60)
            return np.array(["thing"] * len(table)), np.ones(len(table))

    finder = FindDefects(filed, namer=Slow(), waiting=1)
    try:
        frame = frame_for(drawn)
        uids = [show(finder, drawn.image, frame, "forward")]
        # The worker has the first image, and the second waits: there is no room for more.
        assert busy.wait(60)
        uids += [show(finder, drawn.image, frame, "forward") for _ in range(3)]
        assert not finder.finish(0.0)
        gate.set()
        assert finder.finish(60)
        last = finder.wait(uids[-1], 1)
        assert "images wait to be read" in last.problem
    finally:
        gate.set()
        finder.close()
    late = show(finder, drawn.image, frame, "forward")
    assert "closed" in finder.wait(late, 1).problem


def test_what_cannot_be_filed_is_told(drawn: Any) -> None:
    def broken(name: str, document: Any) -> None:
        raise OSError("no space left")

    finder = FindDefects(broken)
    try:
        found = finder.wait(show(finder, drawn.image, frame_for(drawn), "forward"), 60)
        assert "no space left" in found.problem and found.run == "" and len(found.table)
    finally:
        finder.close()


def test_runs_that_are_no_surveys_are_left_alone(finder: FindDefects, filed: Filed) -> None:
    bundle = compose_run(metadata={"plan_name": "gp_sts", "columns": {"bias": "v"}})
    finder("start", bundle.start_doc)
    finder("stop", bundle.compose_stop())
    assert finder.latest == "" and filed.all == []
    with pytest.raises(LookupError, match="take the survey"):
        finder.wait("", 1)
    with pytest.raises(ValueError, match="1 or more"):
        FindDefects(filed, waiting=0)
