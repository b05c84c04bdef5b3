"""Defects and sites on a survey image over TCP: where they are, and the next ones to go to."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from bluesky import RunEngine

from bluesky_gpsts.callbacks import FindDefects
from bluesky_gpsts.images.sites import THREE_DIMERS, Pattern
from bluesky_gpsts.nanonis.files import Frame
from bluesky_gpsts.plans import NoTargets, find_targets, survey
from bluesky_gpsts.simulator import open_sample


@pytest.fixture
def hsi(make_bench: Any) -> Any:
    bench = make_bench(open_sample("hsi100", 1), drift=0.0)
    bench.stm.scan.set(Frame(0.0, 0.0, 22e-9, 22e-9, 20.0))
    return bench


@pytest.fixture
def finder(engine: RunEngine, documents: Any) -> Iterator[FindDefects]:
    finder = FindDefects(documents)
    engine.subscribe(finder)
    yield finder
    finder.close()


def test_defects_and_sites_are_where_the_surface_has_them(
    engine: RunEngine, documents: Any, hsi: Any, finder: FindDefects
) -> None:
    result = engine(find_targets(hsi.stm, finder, count=100, pixels=240, line_time=2.0))
    defects = result.plan_result
    surface = hsi.simulator.sample.junction.surface
    true = np.array([(d.x, d.y) for d in surface.defects])
    places = np.array([(t.x, t.y) for t in defects])
    apart = true[None] - places[:, None]
    nearest = np.hypot(*np.moveaxis(apart, -1, 0)).argmin(axis=1)
    offsets = apart[np.arange(len(places)), nearest]
    # The piezo creeps: all are off by the same way.
    creep = np.median(offsets, axis=0)
    assert np.hypot(*creep) < 1e-9
    near = np.hypot(*(offsets - creep).T) < 0.3e-9
    assert near.mean() > 0.7
    right = [t.label == surface.defects[k].kind for t, k in zip(defects, nearest, strict=True)]
    assert np.mean(np.array(right)[near]) > 0.8
    # Nearest to the tip first.
    tip = hsi.stm.tip.x.get(), hsi.stm.tip.y.get()
    ways = np.hypot(*(places - tip).T)
    assert np.all(np.diff(ways) >= 0)
    survey_uid = defects[0].survey
    assert [d["uid"] for d in documents.of("start") if d["plan_name"] == "survey"] == [survey_uid]
    assert finder.finish(60)
    (filed,) = [d for d in documents.of("start") if d["plan_name"] == "surface"]
    assert filed["survey"] == survey_uid

    bonds = engine(find_targets(hsi.stm, finder, "dangling_bond", count=2)).plan_result
    assert {t.label for t in bonds} == {"dangling_bond"} and 0 < len(bonds) <= 2
    seen = [(bonds[0].x, bonds[0].y)]
    others = engine(find_targets(hsi.stm, finder, ["dangling_bond"], visited=seen)).plan_result
    assert all(np.hypot(t.x - seen[0][0], t.y - seen[0][1]) > 1e-9 for t in others)

    sites = engine(find_targets(hsi.stm, finder, pattern=THREE_DIMERS, count=20)).plan_result
    assert len(sites) == 20
    x, y = (np.array([(t.x, t.y) for t in sites]) + creep).T
    forbidden = [
        k for k in surface.marked(x, y) if k >= 0 and surface.defects[k].kind != "dangling_bond"
    ]
    assert len(forbidden) <= 1
    levels = surface.terraces.level(x, y)
    for site, level in zip(sites, levels, strict=True):
        turn = site.direction - surface.terraces.row_direction(int(level))
        assert abs(np.sin(turn)) < np.sin(np.radians(2.0))

    # All that is left after those visited, however many there are.
    every = engine(find_targets(hsi.stm, finder, pattern=THREE_DIMERS, count=5000)).plan_result
    assert len(every) > 100
    seen = [(site.x, site.y) for site in every[:100]]
    left = engine(find_targets(hsi.stm, finder, pattern=THREE_DIMERS, visited=seen)).plan_result
    assert len(left) == 10
    some = engine(find_targets(hsi.stm, finder, least=0.0, count=1000)).plan_result
    assert not {target.label for target in some} & {"nothing", "unresolved"}

    # Another frame needs another survey.
    hsi.stm.scan.set(Frame(30e-9, 0.0, 22e-9, 22e-9, 20.0))
    there = engine(find_targets(hsi.stm, finder, pixels=240, line_time=2.0)).plan_result
    assert there[0].survey != survey_uid
    assert all(abs(target.x - 30e-9) < 16e-9 for target in there)


def test_an_image_that_cannot_be_read_gives_no_targets(
    engine: RunEngine, hsi: Any, finder: FindDefects
) -> None:
    hsi.stm.scan.set(Frame(0.0, 0.0, 2e-9, 2e-9, 0.0))
    with pytest.raises(NoTargets, match="too small"):
        engine(find_targets(hsi.stm, finder, pixels=32))


def test_bad_arguments_move_nothing(engine: RunEngine, hsi: Any, finder: FindDefects) -> None:
    hsi.server.commands.clear()
    for arguments, message in (
        ({"count": 0}, "count"),
        ({"classes": ["kink"]}, "the classes kink are unknown"),
        ({"classes": "kink"}, "the classes kink are unknown"),
        ({"classes": None}, "classes is None; give names"),
        ({"classes": [1]}, "give names"),
        ({"finder": None}, "finder is None.*surface=True"),
        ({"pattern": "three dimers"}, "give a Pattern"),
        ({"least": 2.0}, "probability"),
        ({"timeout": -1.0}, "timeout"),
        ({"survey_uid": "nowhere"}, "no image of the survey"),
    ):
        with pytest.raises((ValueError, LookupError), match=message):
            engine(find_targets(hsi.stm, **{"finder": finder, **arguments}))
    assert hsi.server.writes == []
    with pytest.raises(ValueError, match="1 or more"):
        Pattern("none", 3, 0)


def test_a_survey_alone_is_read_too(engine: RunEngine, hsi: Any, finder: FindDefects) -> None:
    uid = engine(survey(hsi.stm, pixels=240, lines=240, line_time=2.0)).plan_result
    assert finder.wait(uid, 60).problem == ""
