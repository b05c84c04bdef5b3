"""The library of defects: kept, edited, grown, and what it trains."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_gpsts.images.features import DefectTable
from bluesky_gpsts.images.librarian import LibraryClassifier, cluster_names
from bluesky_gpsts.images.library import Library, LibraryError
from bluesky_gpsts.images.patchtraining import NOTHING, draw_defects

SEED = 940


@pytest.fixture(scope="module")
def found() -> tuple[DefectTable, np.ndarray]:
    table, names, _ = draw_defects(SEED, 16, snr=5.0)
    real = names != NOTHING
    return table.take(real), names[real]


@pytest.fixture(scope="module")
def others() -> tuple[DefectTable, np.ndarray]:
    table, names, _ = draw_defects(SEED + 1, 10, snr=5.0)
    real = names != NOTHING
    return table.take(real), names[real]


@pytest.fixture(scope="module")
def library(found) -> Library:
    table, names = found
    return Library.empty().add(table, names.tolist(), ["a"] * len(names))


def test_the_library_trains_the_classifier(library: Library, others) -> None:
    table, names = others
    named, sure = library.classifier().name_defects(table)
    assert np.mean(named == names) > 0.85
    assert np.all((sure > 0.0) & (sure <= 1.0))
    assert sure[named == names].mean() > sure[named != names].mean()


def test_a_class_is_learned_from_few_examples(found, others) -> None:
    """Everything of all classes but one, and three of that one."""
    table, names = found
    few = np.flatnonzero(names == "dangling_bond")[:3]
    kept = np.sort(np.concatenate([np.flatnonzero(names != "dangling_bond"), few]))
    part = Library.empty().add(table.take(kept), names[kept].tolist(), ["a"] * len(kept))
    other, true = others
    named, _ = part.classifier().name_defects(other)
    bond = true == "dangling_bond"
    assert np.mean(named[bond] == "dangling_bond") > 0.7
    assert np.mean(named[~bond] == true[~bond]) > 0.8


def test_a_class_that_the_library_does_not_have_is_unknown(found, others) -> None:
    table, names = found
    other, true = others
    for name, least in (("dihydride", 0.8), ("bare_dimer", 0.6), ("missing_dimer", 0.6)):
        kept = names != name
        part = Library.empty().add(table.take(kept), names[kept].tolist(), ["a"] * int(kept.sum()))
        unknown = part.classifier().name_defects(other)[0] == LibraryClassifier.UNKNOWN
        assert np.mean(unknown[true == name]) > least, name
        assert np.mean(unknown[true != name]) < 0.05, name


def test_a_class_of_one_example_does_not_speak_for_another(
    library: Library, others, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Far from the class that is nearest is unknown, though near enough to one hardly known."""
    table, _ = others
    one = replace(
        library.classifier(),
        names=("known", "seen once"),
        lever=np.array([1.0, 0.7]),
        reach=9.5,
    )
    apart = np.array([[10.0, 13.0], [9.0, 13.0], [14.0, 13.0]])
    monkeypatch.setattr(LibraryClassifier, "_distances", lambda self, table: apart)
    named, _ = one.name_defects(table.take([0, 1, 2]))
    assert named.tolist() == ["unknown", "known", "seen once"]


def test_what_is_unlike_everything_is_unknown(library: Library) -> None:
    odd = library.table.take([0, 1, 2])
    pictures = np.zeros_like(odd.patches)
    pictures[:, 0, ::2, ::3] = 25.0
    odd = DefectTable(**{**vars(odd), "patches": pictures, "height": np.full(3, -40.0)})
    named, sure = library.classifier().name_defects(odd)
    assert set(named) == {LibraryClassifier.UNKNOWN} and np.all(sure == 1.0)
    none = library.classifier().name_defects(odd.take(np.zeros(0, int)))
    assert len(none[0]) == len(none[1]) == 0


def test_written_and_read_it_is_the_same(library: Library, tmp_path: Path, others) -> None:
    first = library.write(tmp_path / "one")
    again = Library.read(tmp_path / "one")
    assert again.counts == library.counts and again.sources == library.sources
    np.testing.assert_allclose(again.table.patches, library.table.patches, rtol=1e-3, atol=1e-2)
    assert again.write(tmp_path / "two") == first
    assert list(library.classifier().name_defects(others[0])[0]) == list(
        again.classifier().name_defects(others[0])[0]
    )


def test_an_expert_renames_merges_splits_and_drops(library: Library) -> None:
    count = library.counts
    renamed = library.rename("water", "H2O")
    assert renamed.counts["H2O"] == count["water"] and "water" not in renamed.names
    merged = library.merge(["missing_dimer", "missing_cluster"], "vacancy")
    assert merged.counts["vacancy"] == count["missing_dimer"] + count["missing_cluster"]
    assert len(merged) == len(library)
    halves = merged.split("vacancy", 2)
    parts = halves.counts["vacancy 1"], halves.counts["vacancy 2"]
    assert sum(parts) == merged.counts["vacancy"] and parts[0] >= parts[1] > 0
    # The parts are about what had been merged.
    sizes = [np.median(halves.of(f"vacancy {k}").area) for k in (1, 2)]
    assert max(sizes) > 1.7 * min(sizes)
    dropped = library.drop("water")
    assert len(dropped) == len(library) - count["water"] and "water" not in dropped.names
    assert library.picture("water").shape == library.table.patches.shape[1:]


def test_names_changed_by_hand_count(library: Library, tmp_path: Path) -> None:
    library.write(tmp_path)
    file = tmp_path / "library.json"
    content = json.loads(file.read_text())
    content["examples"][0]["class"] = "by hand"
    content["classes"][0]["note"] = "seen often"
    file.write_text(json.dumps(content))
    changed = Library.read(tmp_path)
    assert changed.counts["by hand"] == 1
    assert changed.notes == {library.names[0]: "seen often"}


def test_it_grows_by_what_is_new(library: Library, others) -> None:
    table, _ = others
    grown = library.grow(table, ["b"] * len(table))
    assert len(grown) == len(library) + len(table)
    assert grown.grow(table, ["b"] * len(table)) is grown
    fresh = Library.empty().grow(table, ["b"] * len(table))
    assert all(name.startswith("cluster ") for name in fresh.names) and len(fresh.names) > 3


def test_a_new_cluster_gets_the_name_that_two_thirds_were_filed_with(others) -> None:
    table, names = others
    fresh = Library.empty().grow(table, ["b"] * len(table), filed=names.tolist())
    assert "dangling_bond" in fresh.names and len(set(fresh.names)) == len(fresh.names)
    for name in fresh.names:
        if not name.startswith("cluster "):
            members = np.flatnonzero(fresh.labels == fresh.names.index(name))
            assert np.mean(names[members] == name) >= 2 / 3
    known = Library.empty().add(table.take([0]), ["mine"], ["a"])
    assert "mine" in known.grow(table, ["b"] * len(table), filed=names.tolist()).names
    with pytest.raises(LibraryError, match="give one for each, or none"):
        known.grow(table, ["b"] * len(table), filed=["water"])


def test_names_of_clusters() -> None:
    clusters = [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 4, -1]
    filed = ["water", "water", "nothing", "water", "kink", "step", "water", "water"]
    filed += ["unresolved", "unresolved", "cluster 2", "cluster 2", "kink"]
    assert cluster_names(clusters, filed, 5) == (
        ["water"] * 3
        + ["cluster 5"] * 3
        + ["water"] * 2
        + ["cluster 6"] * 2
        + ["cluster 7"] * 2
        + ["cluster 0"]
    )
    assert cluster_names([1, 0, -1], (), 1) == ["cluster 2", "cluster 1", "cluster 0"]
    for no in ("unknown", "nothing", "unresolved", ""):
        assert cluster_names([0, 0], [no, no], 1) == ["cluster 1"] * 2
    assert cluster_names([], [], 1) == []


def test_bad_input_is_told(library: Library, tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match="holds no library; make one .*--folder"):
        Library.read(tmp_path)
    with pytest.raises(LibraryError, match="no class 'kink'; there are: "):
        library.rename("kink", "other")
    with pytest.raises(LibraryError, match="merge 'water' into it"):
        library.rename("water", "dihydride")
    with pytest.raises(LibraryError, match="short printable name"):
        library.rename("water", "\n")
    with pytest.raises(LibraryError, match="cannot be split"):
        library.split("water", 1)
    with pytest.raises(LibraryError, match="no examples"):
        Library.empty().classifier()
    with pytest.raises(LibraryError, match="names and"):
        library.add(library.table, ["a"], ["b"])
    library.write(tmp_path)
    (tmp_path / "library.npz").write_bytes(b"other")
    with pytest.raises(LibraryError, match="not the one.*, or move both away"):
        Library.read(tmp_path)
    (tmp_path / "library.npz").unlink()
    with pytest.raises(LibraryError, match=r"\(library.npz is missing\): put a copy"):
        Library.read(tmp_path)
    one = '{"sha256": "' + library.write(tmp_path) + '", "examples": [], "classes": ["water"]}'
    for text in ("{", "[]", "{}", one):
        (tmp_path / "library.json").write_text(text)
        with pytest.raises(LibraryError, match="cannot be read.*make a new one with gpsts library"):
            Library.read(tmp_path)


@given(st.binary(max_size=200))
def test_any_file_is_read_or_refused(data: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "library.json").write_bytes(data)
        (Path(folder) / "library.npz").write_bytes(data)
        with pytest.raises(LibraryError):
            Library.read(folder)
