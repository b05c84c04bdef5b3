"""Training of the published network by the published protocol, with what its figures show.

Adam with a learning rate of 1e-4 and cross entropy, in batches of five; 80 % of the spectra for
training, of the rest 60 % for validation and 40 % for the test; the weights after six epochs are
kept. The split is by spectrum: spectra of one tip fall on both sides of it, so the test flatters.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.spectra.paper import PaperCNN, build_network, inputs
from bluesky_gpsts.spectra.types import Array, Labels, Session

__all__ = [
    "CHOSEN",
    "EPOCHS",
    "RATE",
    "Epoch",
    "Judged",
    "PaperTraining",
    "Parts",
    "split",
    "train",
]

EPOCHS, CHOSEN, RATE, BATCH = 20, 6, 1e-4, 5

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Parts:
    """Indices of the spectra of the three parts of a split, over all sessions one after another."""

    train: Indices
    validation: Indices
    test: Indices


@dataclass(frozen=True)
class Epoch:
    """How the network did after an epoch.

    Attributes
    ----------
    number : int
        From 1.
    train_loss, validation_loss : float
        Mean cross entropy (nats); that of the training part while it trained.
    train_accuracy, validation_accuracy : float
        Fraction named right.
    train_recall, validation_recall : tuple of float
        The same for each class; NaN for a class without spectra in the part.
    """

    number: int
    train_loss: float
    validation_loss: float
    train_accuracy: float
    validation_accuracy: float
    train_recall: tuple[float, ...]
    validation_recall: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Judged:
    """The test part after an epoch: probabilities (N, K), and the true class (N,) by its index."""

    epoch: int
    probabilities: Array
    truth: Indices

    @property
    def accuracy(self) -> float:
        """Fraction named right."""
        return float(np.mean(self.probabilities.argmax(axis=1) == self.truth))


@dataclass(frozen=True, eq=False)
class PaperTraining:
    """The network as chosen, and how it came about.

    Attributes
    ----------
    classifier : PaperCNN
        With the weights after epoch `chosen`.
    chosen : int
        Its epoch.
    epochs : tuple of Epoch
        All epochs.
    tests : tuple of Judged
        The test part after each epoch up to the chosen one.
    parts : Parts
        The split.
    seed : int
        Of split and training.
    """

    classifier: PaperCNN
    chosen: int
    epochs: tuple[Epoch, ...]
    tests: tuple[Judged, ...]
    parts: Parts
    seed: int


def split(count: int, seed: int) -> Parts:
    """Split spectra at random: 80 % for training, 12 % for validation, 8 % for the test.

    Parameters
    ----------
    count : int
        Number of spectra, 10 or more.
    seed : int
        Seed.

    Returns
    -------
    Parts

    Raises
    ------
    ValueError
        If there are too few spectra for three parts.
    """
    if count < 10:
        raise ValueError(f"{count} spectra cannot be split in three parts; give 10 or more")
    order = np.random.default_rng([seed, 1]).permutation(count)
    first = round(0.8 * count)
    second = first + round(0.6 * (count - first))
    return Parts(order[:first], order[first:second], order[second:])


def train(
    sessions: Sequence[Session],
    *,
    seed: int = 0,
    epochs: int = EPOCHS,
    chosen: int = CHOSEN,
    progress: bool = True,
) -> PaperTraining:
    """Train the published network by the published protocol.

    Parameters
    ----------
    sessions : sequence of Session
        Labelled spectra; which session a spectrum is from does not count, as in the article.
    seed : int
        Seed of split, weights and batches. The same seed gives the same network on one machine
        and number of threads.
    epochs : int
        Epochs to train.
    chosen : int
        Epoch whose weights are kept; the last one if there are fewer.
    progress : bool
        Show a bar with the time left.

    Returns
    -------
    PaperTraining

    Raises
    ------
    ValueError
        If there are fewer than two classes or ten spectra, or a class has no spectrum in the
        training part.
    """
    import torch
    from tqdm import tqdm

    if epochs < 1:
        raise ValueError(f"epochs is {epochs}; give 1 or more")
    labels: Labels = np.concatenate([s.labels for s in sessions]) if sessions else np.empty(0, str)
    classes = tuple(str(name) for name in np.unique(labels))
    if len(classes) < 2:
        raise ValueError(f"training needs spectra of two classes or more, not of {list(classes)}")
    truth = np.searchsorted(np.asarray(classes), labels)
    parts = split(len(labels), seed)
    absent = sorted(set(classes) - {classes[k] for k in truth[parts.train]})
    if absent:
        raise ValueError(
            f"no spectrum of {', '.join(absent)} is in the training part; give more of them"
        )
    prepared = np.concatenate([inputs(s.bias, s.didv) for s in sessions if len(s)])
    chosen = min(chosen, epochs)
    history, tests, kept = [], [], None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(len(classes))
        optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
        x, y = torch.from_numpy(prepared[:, None]), torch.from_numpy(truth)
        steps = -(-len(parts.train) // BATCH)
        layout = "{desc} {percentage:3.0f} % |{bar:24}| {elapsed} < {remaining}{postfix}"
        bar = tqdm(
            total=epochs * steps,
            bar_format=layout,
            disable=not progress,
            file=sys.stderr,
            smoothing=0.0,
        )
        with bar:
            for number in range(1, epochs + 1):
                bar.set_description(f"epoch {number} of {epochs}")
                network.train()
                order = torch.from_numpy(parts.train)[torch.randperm(len(parts.train))]
                total, right = 0.0, np.zeros(len(truth), dtype=bool)
                # Batches of nearly one size: batch normalisation cannot learn from one spectrum.
                for batch in order.tensor_split(steps):
                    optimizer.zero_grad()
                    scores = network(x[batch])
                    loss = torch.nn.functional.cross_entropy(scores, y[batch])
                    loss.backward()
                    optimizer.step()
                    total += loss.item() * len(batch)
                    right[batch.numpy()] = (scores.argmax(1) == y[batch]).numpy()
                    bar.update()
                classifier = PaperCNN(network, classes)
                probabilities = classifier.probabilities(prepared[parts.validation])
                history.append(
                    _epoch(number, total, right, probabilities, truth, parts, len(classes))
                )
                bar.set_postfix_str(f"validation {history[-1].validation_accuracy:.3f}")
                if number <= chosen:
                    found = classifier.probabilities(prepared[parts.test])
                    tests.append(Judged(number, found, truth[parts.test]))
                if number == chosen:
                    kept = PaperCNN.from_arrays(*classifier.to_arrays())
    assert kept is not None
    return PaperTraining(kept, chosen, tuple(history), tuple(tests), parts, seed)


def _epoch(
    number: int,
    total: float,
    right: NDArray[np.bool_],
    probabilities: Array,
    truth: Indices,
    parts: Parts,
    classes: int,
) -> Epoch:
    wanted = truth[parts.validation]
    correct = probabilities.argmax(axis=1) == wanted
    likely = probabilities[np.arange(len(wanted)), wanted]
    return Epoch(
        number,
        total / len(parts.train),
        float(-np.log(np.maximum(likely, 1e-300)).mean()),
        float(right[parts.train].mean()),
        float(correct.mean()),
        _recalls(right[parts.train], truth[parts.train], classes),
        _recalls(correct, wanted, classes),
    )


def _recalls(right: NDArray[np.bool_], truth: Indices, classes: int) -> tuple[float, ...]:
    return tuple(
        float(right[truth == k].mean()) if (truth == k).any() else float("nan")
        for k in range(classes)
    )
