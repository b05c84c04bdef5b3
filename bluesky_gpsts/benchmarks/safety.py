"""Ten thousand random plans and commands with faults, judged by what truly happened to the tip.

Each world is a simulated microscope of its own, ws2 and au111 by turns, with a session and an
operator. About two steps in five are troubles: a fault of the connection, an operator who changes
something, or an event in the middle of what comes next. What went wrong is what the simulator
knows, see `bluesky_gpsts.benchmarks.safety_world`.
"""

import os
import sys
from collections import Counter
from contextlib import redirect_stdout
from typing import Any

import numpy as np

from bluesky_gpsts.benchmarks.safety_steps import ACTIONS, TROUBLES, Step, do
from bluesky_gpsts.benchmarks.safety_world import World, hurried
from bluesky_gpsts.benchmarks.table import Row, report

__all__ = ["draw", "run"]

_ACTIONS, _QUICK = 10_000, 300
_STEPS = 34
_TROUBLE = 0.4
_METHOD = "bluesky-gpsts"


def draw(rng: np.random.Generator) -> Step:
    """Draw a step."""
    kinds = TROUBLES if rng.random() < _TROUBLE else ACTIONS
    a, b, c, d = (float(number) for number in rng.random(4))
    return Step(str(rng.choice(kinds)), (a, b, c, d))


def run(
    quick: bool = False, *, actions: int | None = None, seed: int = 0, progress: bool = True
) -> dict[str, Any]:
    """Treat microscopes at random.

    Parameters
    ----------
    quick : bool
        300 plans and commands instead of 10,000.
    actions : int, optional
        Number of plans and commands.
    seed : int
        Of everything random.
    progress : bool
        Show a progress bar.

    Returns
    -------
    dict
        Rows, and under ``notes`` what went wrong, with the seed and the step.
    """
    from bluesky import RunEngine
    from tqdm import tqdm

    from bluesky_gpsts.simulator import open_sample

    wanted = actions or (_QUICK if quick else _ACTIONS)
    samples = [open_sample(name, seed) for name in ("ws2", "au111")]
    engine = RunEngine({})
    done: Counter[str] = Counter()
    notes: list[str] = []
    crashes, refused, gap, unguarded, largest = 0, 0, np.inf, 0.0, 0.0
    number = seed * 1_000_000
    bar = tqdm(total=wanted, disable=not progress, file=sys.stderr, unit="")
    with hurried(), bar, open(os.devnull, "w", encoding="utf-8") as nowhere:
        while sum(done[kind] for kind in ACTIONS) < wanted:
            rng = np.random.default_rng(number)
            # The RunEngine tells each abort on the terminal.
            with redirect_stdout(nowhere), World(samples[number % 2], number, engine) as world:
                for place in range(_STEPS):
                    step = draw(rng)
                    found = do(world, step)
                    done[step.kind] += 1
                    bar.update(step.kind in ACTIONS)
                    if found:
                        notes.append(f"world {number}, step {place}, {step.kind}: {found}")
                        break
                truth = world.simulator.truth
                crashes += truth.crashes
                refused += len(world.errors)
                gap = min(gap, truth.smallest_gap)
                largest = max(largest, truth.largest_current)
                unguarded = max(unguarded, world.truth.unguarded)
            number += 1
    total = sum(done[kind] for kind in ACTIONS)
    rows = _rows(total, done, crashes, len(notes), refused, gap, largest, unguarded)
    notes.append("Carried out: " + ", ".join(f"{kind} {done[kind]}" for kind in sorted(done)))
    return {
        **report("safety", rows, seed=seed, packages=("bluesky", "ophyd", "numpy")),
        "notes": notes,
    }


def _rows(
    total: int,
    done: Counter[str],
    crashes: int,
    findings: int,
    refused: int,
    gap: float,
    largest: float,
    unguarded: float,
) -> list[Row]:
    from bluesky_gpsts.simulator.truth import CRASH_GAP

    case = "random treatment"
    troubles = sum(done[kind] for kind in TROUBLES)
    return [
        Row(case, _METHOD, "plans and commands", total, "", total),
        Row(case, _METHOD, "faults, events, operator's changes", troubles, "", max(troubles, 1)),
        Row(case, _METHOD, "refused or failed", refused, "", total),
        Row(case, _METHOD, "crashes", crashes, "", total, 0.0, True),
        Row(case, _METHOD, "worlds where something went wrong", findings, "", total, 0.0, True),
        Row(case, _METHOD, "smallest gap", gap * 1e9, "nm", total, CRASH_GAP * 1e9),
        Row(case, _METHOD, "largest current that nothing ended", unguarded, "A", total, 0.0, True),
        Row(case, _METHOD, "largest current at one instant", largest * 1e9, "nA", total),
    ]
