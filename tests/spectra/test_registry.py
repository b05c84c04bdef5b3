"""Models and their cards: what was saved comes back, and nothing else is loaded."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bluesky_gpsts.spectra import registry
from bluesky_gpsts.spectra.linear import train_linear
from bluesky_gpsts.spectra.paper import PaperCNN, build_network
from bluesky_gpsts.spectra.registry import Card, ModelError
from bluesky_gpsts.spectra.simulate import simulate

CLASSES = ("Au fcc", "WS2")


def network(seed: int = 1) -> PaperCNN:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PaperCNN(build_network(2), CLASSES)


def card_of(classifier: PaperCNN, name: str = "mine") -> Card:
    metrics = {"sessions held out": {"balanced accuracy": 0.5}}
    return Card.of(classifier, name=name, data="nothing", seed=3, metrics=metrics)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    classifier = network()
    registry.save(classifier, card_of(classifier), folder)
    return folder


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def edit(folder: Path, **changes: object) -> None:
    path = folder / "mine.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("what", ["", "mine", "mine.json", "mine.safetensors"])
def test_what_was_saved_comes_back(saved, what):
    classifier, card = registry.load_with_card(saved / what)
    rng = np.random.default_rng(0)
    bias, didv = np.linspace(-1, 1, 300), 1e-10 * rng.random((5, 300))
    expected = network().classify(bias, didv)
    np.testing.assert_array_equal(
        classifier.classify(bias, didv).probabilities, expected.probabilities
    )
    assert classifier.classes == CLASSES and card.classes == CLASSES
    assert card.id == f"mine@{card.sha256[:12]}" and len(card.sha256) == 64
    assert card.seed == 3 and card.metrics["sessions held out"]["balanced accuracy"] == 0.5
    assert card.versions["torch"].startswith("2.") and card.licence == "BSD-3-Clause"


def test_equal_models_have_equal_files(saved, tmp_path):
    again = registry.save(network(), card_of(network()), tmp_path)
    assert again == registry.card(saved)
    other = registry.save(network(2), card_of(network(2)), tmp_path)
    assert other.sha256 != again.sha256


def test_models_are_listed_by_name(saved, tmp_path):
    for name in ("b", "a"):
        registry.save(network(), card_of(network(), name), tmp_path)
    assert [card.name for card in registry.models(tmp_path)] == ["a", "b"]
    with pytest.raises(ModelError, match="must hold the card of one model, and holds a.json, b"):
        registry.load(tmp_path)
    with pytest.raises(ModelError, match="is no folder"):
        registry.models(tmp_path / "missing")


def test_a_weights_file_that_is_cut_off(copied):
    file = copied / "mine.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    told = r"does not match its weights: .* has \d+ \(was it cut off\?\); get both files again"
    with pytest.raises(ModelError, match=told):
        registry.load(copied)


def test_a_weights_file_with_one_bit_changed(copied):
    file = copied / "mine.safetensors"
    data = bytearray(file.read_bytes())
    data[-1000] ^= 1
    file.write_bytes(data)
    with pytest.raises(ModelError, match="does not match its weights: the card says SHA-256"):
        registry.load(copied)


def test_a_weights_file_that_is_missing(copied):
    (copied / "mine.safetensors").unlink()
    with pytest.raises(ModelError, match="must lie beside their card"):
        registry.load(copied)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ["WS2", "Au fcc"]}, "the card says classes"),
        ({"kind": "default"}, "the card says kind default"),
        ({"kind": "pickle"}, "the kind of model 'pickle' is unknown; this version knows"),
        ({"name": "other"}, "the file must have the model's name"),
        ({"sha256": "x" * 64}, "its sha256 is"),
        ({"bytes": True}, "its bytes is 'True'"),
        ({"classes": []}, r"its classes is '\[\]'"),
        ({"metrics": {"a": 1}}, "its metrics is"),
    ],
)
def test_a_card_that_says_something_else(copied, changes, message):
    edit(copied, **changes)
    with pytest.raises(ModelError, match=message):
        registry.load(copied)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "no JSON"), ("[]", "no JSON object"), ("{}", "lacking"), ('{"name": "mine"', "no JSON")],
)
def test_a_card_that_is_none(copied, text, message):
    (copied / "mine.json").write_text(text)
    with pytest.raises(ModelError, match=message):
        registry.load(copied)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=300))
def test_any_bytes_in_place_of_a_card_are_refused(copied, data):
    (copied / "mine.json").write_bytes(data)
    with pytest.raises(ModelError):
        registry.load(copied)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=300), st.booleans())
def test_any_weights_are_refused_even_with_a_card_to_match(copied, data, framed):
    import hashlib

    data = len(data).to_bytes(8, "little") + data if framed else data
    (copied / "mine.safetensors").write_bytes(data)
    edit(copied, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    told = r"no weights file of this package \(.+\); get it again from where it came, or train"
    with pytest.raises(ModelError, match=f"(?s){told}"):
        registry.load(copied)


def test_weights_of_another_shape_are_refused(tmp_path):
    class Shorter(PaperCNN):
        def to_arrays(self):
            arrays, kept = super().to_arrays()
            return arrays | {"0.weight": arrays["0.weight"][:-1]}, kept

    classifier = Shorter(build_network(2), CLASSES)
    registry.save(classifier, card_of(classifier), tmp_path)
    with pytest.raises(ModelError, match="0.weight are missing, too many or of another shape"):
        registry.load(tmp_path)


def test_a_card_of_another_classifier_is_not_saved(tmp_path):
    classifier = network()
    other = PaperCNN(build_network(2), ("a", "b"))
    with pytest.raises(ModelError, match="says classes"):
        registry.save(classifier, card_of(other), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", "../up", "a b", "ä", "a/b", "."])
def test_names_that_are_no_file_names_are_refused(name):
    with pytest.raises(ModelError, match="cannot be named"):
        card_of(network(), name)


def test_a_metric_that_is_no_number_is_refused():
    with pytest.raises(ModelError, match="'loss' of 'test' is nan"):
        Card.of(network(), name="a", data="", seed=0, metrics={"test": {"loss": float("nan")}})


def test_a_model_that_is_not_there():
    with pytest.raises(ModelError, match="there is no model 'gold'; give the path of a card, or"):
        registry.load("gold")


def test_without_torch_the_paper_network_is_refused(saved, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "torch" else real(name, *a)
    )
    with pytest.raises(ModelError, match="needs torch, which is not installed"):
        registry.load(saved)


def test_cards_are_read_without_torch_and_quickly():
    code = (
        "import sys; from bluesky_gpsts.spectra import registry; registry.models();"
        "print([n for n in ('torch', 'matplotlib', 'scipy', 'safetensors') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the package's own: a default model that needs torch, and the linear one."""
    folder = tmp_path_factory.mktemp("shipped")
    registry.save(network(), card_of(network(), "default"), folder)
    linear = train_linear(simulate(5, dict.fromkeys(CLASSES, 40), difficulty=0.3))
    card = Card.of(linear, name="linear", data="simulated", seed=5, metrics={})
    registry.save(linear, card, folder)
    return folder


def test_without_torch_the_linear_model_takes_the_place_of_the_default(shipped):
    code = (
        "import importlib.util, sys, warnings\n"
        "from pathlib import Path\n"
        "class Gone:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name.partition('.')[0] == 'torch': raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Gone())\n"
        "real = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: None if name == 'torch' else real(name, *a)\n"
        "from bluesky_gpsts.spectra import registry\n"
        "from bluesky_gpsts.spectra.simulate import simulate\n"
        f"registry.SHIPPED = Path({str(shipped)!r})\n"
        "with warnings.catch_warnings(record=True) as told:\n"
        "    warnings.simplefilter('always')\n"
        "    classifier, card = registry.load_with_card()\n"
        "print(card.name, classifier.name, len(told), told[0].message)\n"
        f"counts = dict.fromkeys({CLASSES!r}, 20)\n"
        "session = simulate(6, counts, difficulty=0.3, sessions=1)[0]\n"
        "found = classifier.classify(session.bias, session.didv)\n"
        "print((found.best == session.labels).mean())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, accuracy = done.stdout.splitlines()
    assert first.startswith("linear linear 1 torch is not installed: the model 'linear' takes")
    assert float(accuracy) == 1.0


def test_with_torch_the_default_is_loaded_without_a_word(shipped, monkeypatch, recwarn):
    monkeypatch.setattr(registry, "SHIPPED", shipped)
    classifier, card = registry.load_with_card()
    assert card.name == "default" and classifier.name == "paper" and not recwarn.list
    assert [card.name for card in registry.models()] == ["default", "linear"]
    with pytest.raises(ModelError, match="a model of the package: default, linear"):
        registry.load("gold")
