"""Training of the default classifier: on unlimited simulated sessions, or on labelled ones."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.spectra.default import DefaultClassifier, network_output
from bluesky_gpsts.spectra.kinds import CLASSES
from bluesky_gpsts.spectra.lessons import LIBRARY, OTHER, Lesson, lessons, spoil
from bluesky_gpsts.spectra.network import build, fold, tensors
from bluesky_gpsts.spectra.novelty import fit_head, split_logits
from bluesky_gpsts.spectra.nuisances import disturb
from bluesky_gpsts.spectra.preprocess import CHANNELS, GRID, channels, find_problems
from bluesky_gpsts.spectra.splits import session_split
from bluesky_gpsts.spectra.types import Array, Session

if TYPE_CHECKING:
    import torch

__all__ = ["Prepared", "prepare", "train_default", "train_on"]

_BATCH, _SMALLEST, _STEPS = 128, 16, 40
_RATE = 3e-3
_CALIBRATION = 240
_HEAD = 40_000
_COPIES, _STRENGTH = 24, 2.5

Targets = NDArray[np.int64]
Prepared = tuple[NDArray[np.float16], Targets]
"""Prepared spectra (N, CHANNELS, GRID) and their targets (N,)."""


def train_default(
    seed: int = 0, *, sessions: int = 3000, epochs: int = 5, progress: bool = True
) -> DefaultClassifier:
    """Train on simulated sessions, each with a tip of its own.

    Parameters
    ----------
    seed : int
        Seed of sessions, weights and order.
    sessions : int
        Sessions to train on, 12 or more; 0.12 s each to simulate.
    epochs : int
        How often each spectrum is seen.
    progress : bool
        Show bars with the time left.

    Returns
    -------
    DefaultClassifier
        Of the four classes of the paper.

    Raises
    ------
    ValueError
        If there are too few sessions or epochs.
    """
    if sessions < 12 or epochs < 1:
        raise ValueError(f"{sessions} sessions, {epochs} epochs; give 12 or more and 1 or more")
    taught = prepare(lessons(2 * seed, sessions), sessions, "simulating", progress)
    held = prepare(
        lessons(2 * seed + 1, min(_CALIBRATION, sessions)),
        min(_CALIBRATION, sessions),
        "calibration",
        progress,
    )
    weights = _fit(*taught, OTHER + 1, seed, epochs, progress)
    part = slice(0, _HEAD)
    return _with_head(
        CLASSES,
        weights,
        OTHER + 1,
        (taught[0][part], taught[1][part]),
        held,
        len(CLASSES) + LIBRARY,
    )


def train_on(
    sessions: Sequence[Session],
    seed: int = 0,
    *,
    epochs: int = 6,
    copies: int = _COPIES,
    progress: bool = True,
) -> DefaultClassifier:
    """Train on labelled sessions alone, each of them varied at random (domain randomisation).

    The temperature comes from sessions that a first network has not seen, where there are two
    or more of every kind, and otherwise from varied copies.

    Parameters
    ----------
    sessions : sequence of Session
        Labelled spectra of two classes or more.
    seed : int
        Seed of everything random.
    epochs : int
        How often each varied spectrum is seen.
    copies : int
        Varied copies of each session.
    progress : bool
        Show bars with the time left.

    Returns
    -------
    DefaultClassifier

    Raises
    ------
    ValueError
        If there are fewer than two classes, a class has one spectrum, or a spectrum cannot be
        judged.
    """
    labels = np.concatenate([session.labels for session in sessions])
    names, counts = np.unique(labels, return_counts=True)
    classes = tuple(str(name) for name in names)
    if len(classes) < 2 or counts.min() < 2:
        table = ", ".join(f"{name}: {n}" for name, n in zip(names, counts, strict=True))
        raise ValueError(f"spectra per class: {table}; give two classes, two spectra each, or more")
    for session in sessions:
        for row, problem in enumerate(find_problems(session.bias, session.didv)):
            if problem:
                raise ValueError(f"session {session.name!r}, spectrum {row}: {problem}")
    outputs = len(classes) + 1
    try:
        some, others = session_split(sessions, 0.4, seed)
    except ValueError:  # a class of one session: no session can be spared
        held = _varied(sessions, classes, seed + 1, 4)
        some = others = ()
    if others:
        taught = _varied(some, classes, seed, copies)
        first = _fit(*taught, outputs, seed, epochs, progress)
        measured = _varied(others, classes, seed + 1, 2, strength=0.0)
        trial = _with_head(classes, first, outputs, taught, measured, len(classes))
    taught = _varied(sessions, classes, seed, copies)
    weights = _fit(*taught, outputs, seed, epochs, progress)
    if not others:
        return _with_head(classes, weights, outputs, taught, held, len(classes))
    copied = _varied(sessions, classes, seed + 1, 4)
    final = _with_head(classes, weights, outputs, taught, copied, len(classes))
    head = replace(final.head, temperature=trial.head.temperature)
    return replace(final, head=head)


def prepare(source: Iterable[Lesson], count: int, what: str, progress: bool) -> Prepared:
    """Prepare the spectra of lessons; those that cannot be judged are left out.

    Parameters
    ----------
    source : iterable of Lesson
        The lessons.
    count : int
        How many there are.
    what : str
        What the bar says.
    progress : bool
        Show a bar with the time left.

    Returns
    -------
    Prepared
    """
    from tqdm import tqdm

    blocks, targets = [np.zeros((0, CHANNELS, GRID), np.float16)], [np.zeros(0, np.int64)]
    for lesson in tqdm(source, total=count, desc=what, disable=not progress):
        good = np.array([not text for text in find_problems(lesson.bias, lesson.didv)], bool)
        if good.any():
            blocks.append(channels(lesson.bias, lesson.didv[good]).astype(np.float16))
            targets.append(lesson.targets[good])
    return np.concatenate(blocks), np.concatenate(targets)


def _varied(
    sessions: Sequence[Session],
    classes: tuple[str, ...],
    seed: int,
    copies: int,
    strength: float = _STRENGTH,
) -> Prepared:
    """Copies of sessions under other tips and axes, a quarter of the spectra spoilt."""

    def lesson(session: Session, rng: np.random.Generator) -> Lesson:
        targets = np.array([classes.index(label) for label in session.labels], np.int64)
        part = rng.permutation(len(session))[: max(1, len(session) // 4)]
        didv = np.concatenate((session.didv, spoil(session.bias, session.didv[part], rng)))
        targets = np.append(targets, np.full(part.size, len(classes)))
        return Lesson(*_vary(session.bias, didv, rng, strength), targets)

    rng = np.random.default_rng([seed, 71])
    source = (lesson(session, rng) for _ in range(copies) for session in sessions)
    return prepare(source, copies * len(sessions), "varying", False)


def _vary(
    bias: Array, didv: Array, rng: np.random.Generator, strength: float
) -> tuple[Array, Array]:
    """One session under another tip: bumps in its density of states, axis, gain, noise."""
    d = strength * rng.random()
    factor = np.ones(bias.size)
    for _ in range(int(rng.integers(1, 5))):
        width = np.exp(rng.uniform(np.log(0.08), np.log(0.5)))
        centre = rng.uniform(bias.min(), bias.max())
        size = np.clip(0.36 * d * rng.standard_normal(), -0.3, 1.5)
        factor *= 1.0 + size * np.exp(-0.5 * ((bias - centre) / width) ** 2)
    factor *= np.exp(np.tanh(0.5 * d * rng.standard_normal() * bias))
    moved = (1.0 + 3e-3 * d * rng.standard_normal()) * bias + 16e-3 * d * rng.standard_normal()
    value = disturb(bias, didv * factor, rng, d)
    first = int(0.06 * rng.random() * bias.size)
    last = bias.size - int(0.06 * rng.random() * bias.size)
    return moved[first:last], value[:, first:last]


def _fit(
    spectra: NDArray[np.float16],
    targets: Targets,
    outputs: int,
    seed: int,
    epochs: int,
    progress: bool,
) -> "dict[str, NDArray[np.float32]]":
    """Train the network and return its folded weights."""
    import torch
    from tqdm import tqdm

    # Few spectra come in small batches: a network learns by the step.
    batch = int(np.clip(len(targets) // _STEPS, _SMALLEST, _BATCH))
    steps = max(1, len(targets) // batch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build(outputs)
        optimizer = torch.optim.AdamW(net.parameters(), lr=_RATE, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, epochs * steps)
        order = np.random.default_rng([seed, 72])
        net.train()
        with tqdm(total=epochs * steps, desc="training", disable=not progress) as bar:
            for _ in range(epochs):
                index = order.permutation(len(targets))
                for step in range(steps):
                    chosen = index[step * batch : (step + 1) * batch]
                    loss = _loss(net, spectra[chosen], targets[chosen])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    schedule.step()
                    bar.update()
                    if step % 50 == 0:
                        bar.set_postfix(loss=f"{loss.item():.3f}")
        net.eval()
        return fold(net)


def _loss(net: "torch.nn.Module", spectra: NDArray[np.float16], targets: Targets) -> "torch.Tensor":
    import torch

    _, logits = net(torch.from_numpy(spectra.astype(np.float32)))
    return torch.nn.functional.cross_entropy(
        logits, torch.from_numpy(targets), label_smoothing=0.02
    )


def _with_head(
    classes: tuple[str, ...],
    weights: "dict[str, NDArray[np.float32]]",
    outputs: int,
    fitted: Prepared,
    held: Prepared,
    nameless: int,
) -> DefaultClassifier:
    """Classifier with a head fitted to prepared spectra; targets from `nameless` on are none."""
    live = tensors(weights, outputs)

    def outcome(spectra: NDArray[np.float16]) -> tuple[Array, Array]:
        parts = [
            network_output(live, spectra[start : start + 256].astype(np.float32))
            for start in range(0, len(spectra), 256)
        ]
        features, logits = zip(*parts, strict=True)
        return np.concatenate(features), np.concatenate(logits)

    kinds = np.where(fitted[1] >= nameless, -1, fitted[1])
    held_kinds = np.where(held[1] >= nameless, -1, held[1])
    features, logits = outcome(held[0])
    part = (features, held_kinds, *split_logits(logits, len(classes)))
    head = fit_head(classes, (outcome(fitted[0])[0], kinds), part)
    return DefaultClassifier(dict(weights), outputs, head)
