"""The subcommand ``gpsts train``."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluesky_gpsts.cli_images import IMAGE_MODELS, train_images
from bluesky_gpsts.cli_output import check_folder, check_output, whole, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bluesky_gpsts.spectra import Classifier, Session
    from bluesky_gpsts.spectra.registry import Card

__all__ = ["add_command", "train"]

_SHARE = 0.25
"""Of labelled sessions so many are held out, to measure what was reached."""

_OWNERS = {
    "figures": ("paper",),
    "sessions": ("spectra", "linear"),
    "epochs": ("paper", "spectra"),
    "folder": ("spectra", "linear", "paper"),
    "labels": ("spectra", "linear", "paper"),
    "images": IMAGE_MODELS,
    "steps": IMAGE_MODELS,
    "members": ("surface",),
    "bfloat16": tuple(name for name in IMAGE_MODELS if name != "classes"),
}

_FEWEST = {"spectra": 2, "linear": 3}
"""Spectra of each class that a training needs, beside those that are held out."""

_EACH = 40
"""Spectra of a class in a simulated session for the linear model."""

_TAUGHT, _TESTED = 1_000_000, 7000
"""Seeds of the simulated sessions of the linear model, and of those that models are measured on."""


def add_command(commands: Any) -> None:
    """Add the subcommand to the parser of ``gpsts``.

    Parameters
    ----------
    commands : argparse action
        What ``add_subparsers`` returned.
    """
    command = commands.add_parser("train", help="train a model of spectra or images")
    command.add_argument(
        "what",
        choices=("spectra", "linear", "paper", *IMAGE_MODELS),
        help="spectra: the default classifier; linear: the one that needs no torch; paper: the "
        "network of Thomas et al. (2022) by its own protocol, with its table 1 and figures; "
        "surface: what reads images of H-Si(100); classes: what names defects; terraces, atoms, "
        "defects: the networks of Ziatdinov et al.",
    )
    command.add_argument(
        "--folder", type=Path, help="labelled .dat and .3ds files, one folder for each class"
    )
    command.add_argument("--labels", type=Path, help="labelled runs: CSV of uid, seq_num, class")
    command.add_argument("--catalog", help="of the runs: directory, Tiled URI or profile:NAME")
    command.add_argument("--seed", default="0", help="whole number (default: 0)")
    command.add_argument(
        "--out", type=Path, default=Path("models"), help="folder of the model (default: models)"
    )
    command.add_argument(
        "--name", help="of the model (default: my-spectra, my-linear, paper, my-surface ...)"
    )
    command.add_argument(
        "--epochs",
        help="whole number (default: 20 for paper; 5, or 6 with labelled ones, for spectra)",
    )
    command.add_argument(
        "--sessions", help="for spectra and linear: how many to simulate (default: 3000, 120)"
    )
    command.add_argument(
        "--figures", type=Path, help="for paper: write table 1 and the figures to this folder"
    )
    command.add_argument("--images", help="for images: how many to draw and learn from")
    command.add_argument("--steps", help="for images: batches to learn")
    command.add_argument("--members", help="for surface: of the ensemble that judges sites")
    command.add_argument(
        "--bfloat16",
        action="store_true",
        default=None,
        help="for images: half precision, faster on processors with AVX512-BF16 or better",
    )
    command.add_argument("--json", type=Path, help="write what was reached to this file")


def train(options: argparse.Namespace) -> int:
    """Run the subcommand; returns its exit status."""
    check_output(options.json)
    for place in (options.out, options.figures):
        check_folder(place)
    seed = whole("--seed", options.seed, 0)
    if options.epochs is not None:
        whole("--epochs", options.epochs, 1)
    if options.sessions is not None:
        whole("--sessions", options.sessions, 12)
    if options.folder is not None and options.labels is not None:
        raise ValueError("--folder and --labels are two sources; give one of them")
    if options.name is not None:
        from bluesky_gpsts.models import check_name

        check_name(options.name)
    for option, owners in _OWNERS.items():
        if getattr(options, option) is not None and options.what not in owners:
            names = " and ".join(f"'gpsts train {owner}'" for owner in owners)
            raise ValueError(f"--{option} is for {names}")
    if options.what in IMAGE_MODELS:
        return train_images(options, seed)
    return (_train_paper if options.what == "paper" else _train_spectra)(options, seed)


def _sessions(options: argparse.Namespace) -> "tuple[tuple[Session, ...], str] | None":
    """Labelled spectra of the user's, and what they are; None without any."""
    from bluesky_gpsts.analysis.labelled import read_folder, read_labelled_runs, read_labels

    if options.folder is not None:
        found = read_folder(options.folder)
        _tell_left_out(found.left_out)
        return found.sessions, f"files in {options.folder.name}"
    if options.labels is not None:
        rows = read_labels(options.labels)
        from bluesky_gpsts.catalog import open_catalog

        with open_catalog(options.catalog, create=False) as catalog:
            found = read_labelled_runs(catalog, rows)
        _tell_left_out(found.left_out)
        return found.sessions, f"runs in {options.labels.name}"
    return None


def _tell_left_out(reasons: "Sequence[str]") -> None:
    for reason in reasons:
        print(f"left out: {reason}", file=sys.stderr)


def _train_paper(options: argparse.Namespace, seed: int) -> int:
    epochs = 20 if options.epochs is None else whole("--epochs", options.epochs)
    from bluesky_gpsts.benchmarks.classifier_paper_figures import summary, table_1, write_figures
    from bluesky_gpsts.spectra import paper_training

    given = _sessions(options)
    licence = _licence(own=given is not None)
    if given is None:
        from bluesky_gpsts.benchmarks.classifier_paper import DIFFICULTY, paper_sessions

        given = paper_sessions(seed), f"simulated sessions of difficulty {DIFFICULTY}"
    sessions, data = given
    training = paper_training.train(sessions, seed=seed, epochs=epochs)
    print(table_1(training), end="")
    for test in training.tests:
        print(f"test after epoch {test.epoch}: {100 * test.accuracy:.1f} % of {len(test.truth)}")
    print("The split is by spectrum, so that tips of the test are known from training.")
    metrics = {"random split": {"test accuracy": training.tests[-1].accuracy}}
    card = _save(training.classifier, options, "paper", data, seed, metrics, licence)
    if options.figures is not None:
        for path in write_figures(training, options.figures):
            print(path)
    write_json(options.json, {"model": card.as_dict(), **summary(training)})
    return 0


def _train_spectra(options: argparse.Namespace, seed: int) -> int:
    from bluesky_gpsts.spectra.linear import train_linear
    from bluesky_gpsts.spectra.simulate import simulate

    given = _sessions(options)
    size: dict[str, Any] = {}
    for option in ("epochs", "sessions"):
        text = getattr(options, option)
        if text is not None:
            size[option] = whole(f"--{option}", text)
    if given is not None:
        if options.sessions is not None:
            raise ValueError("--sessions is for simulated ones; --folder and --labels bring theirs")
        sessions, data = given
        what, kept, tested = _held_out(sessions, seed)
        _check_rest(kept, sessions, options.what)
        held = {what: tested}
    else:
        data = "simulated sessions"
    classifier: Classifier
    if options.what == "linear":
        classifier = train_linear(_simulated(seed, **size) if given is None else kept, seed)
    else:
        from bluesky_gpsts.spectra.training import train_default, train_on

        classifier = train_default(seed, **size) if given is None else train_on(kept, seed, **size)
    if given is None:
        held = {
            f"new simulated sessions, difficulty {difficulty}": simulate(
                _TESTED + seed, difficulty=difficulty
            )
            for difficulty in (0.3, 1.0, 1.5)
        }
    metrics = {what: _metrics(classifier, tested) for what, tested in held.items()}
    for what, found in metrics.items():
        print(
            f"{what}: {', '.join(f'{name} {round(value, 3):g}' for name, value in found.items())}"
        )
    licence = _licence(own=given is not None)
    card = _save(classifier, options, f"my-{options.what}", data, seed, metrics, licence)
    write_json(options.json, {"model": card.as_dict()})
    return 0


def _simulated(seed: int, sessions: int = 120) -> "tuple[Session, ...]":
    """Sessions for the linear model: half WS2, half Au(111), of three difficulties."""
    from bluesky_gpsts.spectra.kinds import CLASSES
    from bluesky_gpsts.spectra.simulate import simulate

    each = sessions // 6
    counts = dict.fromkeys(CLASSES, _EACH * each)
    return tuple(
        session
        for number, difficulty in enumerate((0.5, 1.0, 1.5))
        for session in simulate(
            _TAUGHT + 3 * seed + number,
            counts,
            difficulty=difficulty,
            sessions=each,
            points=(200, 1300),
            ranges=0.1,
        )
    )


def _held_out(
    sessions: "tuple[Session, ...]", seed: int
) -> "tuple[str, tuple[Session, ...], tuple[Session, ...]]":
    """Name of the split, and its sides: whole sessions are held out wherever that is possible."""
    from bluesky_gpsts.spectra.folders import check_split
    from bluesky_gpsts.spectra.splits import random_split, session_split

    what = "sessions held out"
    try:
        kept, held = session_split(sessions, _SHARE, seed)
    except ValueError as error:
        what = "random split"
        print(f"no session can be held out ({error}): spectra are, which flatters")
        kept, held = random_split(sessions, _SHARE, seed)
    check_split(kept, held)
    return what, kept, held


def _check_rest(kept: "tuple[Session, ...]", sessions: "tuple[Session, ...]", what: str) -> None:
    """Refuse classes of which too little is left to train on once the test is set aside."""
    for label in sorted({str(label) for session in sessions for label in session.labels}):
        left = sum(int((session.labels == label).sum()) for session in kept)
        if left < _FEWEST[what]:
            raise ValueError(
                f"class {label!r} has {left} spectra left to train on after a quarter was set "
                f"aside for the test, and 'gpsts train {what}' needs {_FEWEST[what]}; give at "
                f"least {_FEWEST[what] + 1} files of each class"
            )


def _licence(own: bool) -> str:
    """Licence of the weights: who trains on spectra of their own chooses it."""
    return "not stated (yours to choose)" if own else "BSD-3-Clause"


def _metrics(classifier: "Classifier", sessions: "tuple[Session, ...]") -> dict[str, float]:
    """Balanced accuracy whatever the novelty, and the share that is called none of the classes."""
    import numpy as np

    truth = np.concatenate([session.labels for session in sessions])
    found = [classifier.classify(session.bias, session.didv) for session in sessions]
    best = np.concatenate([classes.best for classes in found])
    novelty = np.concatenate([classes.novelty for classes in found])
    recalls = [np.mean(best[truth == name] == name) for name in np.unique(truth)]
    return {
        "balanced accuracy": float(np.mean(recalls)),
        "called none of these": float(np.mean(novelty > 0.5)),
        "spectra": float(len(truth)),
    }


def _save(
    classifier: "Classifier",
    options: argparse.Namespace,
    name: str,
    data: str,
    seed: int,
    metrics: dict[str, dict[str, float]],
    licence: str,
) -> "Card":
    from bluesky_gpsts.spectra.registry import Card, save

    card = Card.of(
        classifier,
        name=options.name or name,
        data=data,
        seed=seed,
        metrics=metrics,
        licence=licence,
    )
    card = save(classifier, card, options.out)
    print(f"{card.id} in {options.out}")
    return card
