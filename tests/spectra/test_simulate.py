"""Simulated sessions: labels, axes, seeds, the dial of difficulty, and what training draws."""

import numpy as np
import pytest

from bluesky_gpsts.benchmarks.classifier_cases import plain
from bluesky_gpsts.physics.ws2 import COMPONENTS, WS2
from bluesky_gpsts.spectra import drawn as drawn_kinds
from bluesky_gpsts.spectra.drawn import any_kind, near_au, near_ws2
from bluesky_gpsts.spectra.kinds import CLASSES, KINDS, RANGES, UNKNOWN, Patches
from bluesky_gpsts.spectra.lessons import OTHER, lessons, spoil
from bluesky_gpsts.spectra.nuisances import disturb
from bluesky_gpsts.spectra.simulate import PAPER_COUNTS, simulate
from bluesky_gpsts.spectra.splits import random_split, session_split


def test_counts_axes_and_labels_are_those_asked_for():
    sessions = simulate(3, PAPER_COUNTS, sessions=4)
    labels = np.concatenate([session.labels for session in sessions])
    assert {name: int((labels == name).sum()) for name in CLASSES} == PAPER_COUNTS
    assert len({session.name for session in sessions}) == len(sessions) == 8
    for session in sessions:
        (surface,) = {KINDS[str(label)].surface for label in session.labels}
        assert (session.bias[0], session.bias[-1]) == RANGES[surface]
        assert session.bias.size == 1200
        assert 1e-12 < np.abs(session.didv).max() < 1e-8


def test_one_seed_gives_one_data_set_and_another_seed_another():
    first, again, other = (simulate(seed, sessions=2, points=100) for seed in (5, 5, 6))
    assert all(np.array_equal(a.didv, b.didv) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0].didv, other[0].didv)


def test_all_unknown_kinds_are_drawn():
    sessions = simulate(1, dict.fromkeys(UNKNOWN, 4), sessions=2, points=(80, 120), ranges=0.1)
    assert {str(label) for s in sessions for label in s.labels} == set(UNKNOWN)
    assert all(80 <= s.bias.size < 120 for s in sessions)


def test_the_sulfur_vacancy_has_its_two_states_in_the_gap_and_ws2_has_none():
    (session,) = simulate(2, {"V_S": 8, "WS2": 8}, difficulty=0.0, sessions=1)
    for centre in (0.45, 0.70):
        window = np.abs(session.bias - centre) < 0.04
        edge = np.abs(session.bias - 1.1) < 0.05
        height = session.didv[:, window].max(axis=1) / session.didv[:, edge].mean(axis=1)
        assert height[session.labels == "V_S"].min() > 0.2
        assert height[session.labels == "WS2"].max() < 0.02


def test_without_difficulty_spectra_of_clean_ws2_differ_by_the_lattice_alone():
    (session,) = simulate(2, {"WS2": 8}, difficulty=0.0, sessions=1)
    shape = session.didv / session.didv.max(axis=1, keepdims=True)
    assert np.ptp(shape, axis=0).max() < 0.02


def test_the_dial_goes_from_easy_to_hard_and_held_out_sessions_are_harder():
    scores = {}
    for difficulty in (0.3, 1.5):
        for seed in range(2):
            sessions = simulate(seed, difficulty=difficulty, sessions=5)
            for name, parts in (
                ("random", random_split(sessions, 0.2, seed)),
                ("session", session_split(sessions, 0.4, seed)),
            ):
                judged = plain(*parts)
                scores.setdefault((difficulty, name), []).append(judged.balanced_accuracy)
    mean = {key: np.mean(value) for key, value in scores.items()}
    assert mean[0.3, "random"] == 1.0 and mean[0.3, "session"] > 0.95
    assert 0.80 < mean[1.5, "random"] < 0.94
    assert mean[1.5, "session"] < mean[1.5, "random"] - 0.04


def test_noise_bias_shift_and_tip_changes_have_their_own_dials():
    plain_, noisy, moved = (
        simulate(4, {"WS2": 20}, sessions=1, **changes)[0]
        for changes in ({}, {"noise": 5.0}, {"bias_shift": 0.1})
    )
    rough = [np.abs(np.diff(s.didv, n=2, axis=1)).mean() for s in (plain_, noisy)]
    assert rough[1] > 3.0 * rough[0]
    onset = [_onset(session) for session in (plain_, moved)]
    assert onset[0] - onset[1] == pytest.approx(0.1, abs=0.01)
    bias, flat = np.linspace(-1, 1, 200), np.ones((200, 200))
    still, jumping = (
        disturb(bias, flat, np.random.default_rng(0), 0.3, noise=0.0, tip_changes=changes)
        for changes in (0.0, 30.0)
    )
    assert np.abs(np.diff(jumping, axis=1)).max() > 10 * np.abs(np.diff(still, axis=1)).max()


def _onset(session):
    """Bias (V) at which the mean spectrum reaches a tenth of its value at 1.2 V."""
    bias, mean = session.bias[::-1], session.didv.mean(axis=0)[::-1]
    inside = (bias > 0.3) & (bias < 1.2)
    return bias[inside][np.argmax(mean[inside] > 0.1 * mean[bias > 1.2][0])]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"counts": {"gold": 3}}, "no kind of spectrum 'gold'"),
        ({"counts": {"WS2": -1}}, "give 0 or more"),
        ({"sessions": 0}, "1 or more"),
        ({"difficulty": -1.0}, "give 0 or more"),
    ],
)
def test_what_cannot_be_simulated_is_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        simulate(0, **arguments)


def test_lessons_teach_all_classes_and_what_is_none_of_them():
    drawn = list(lessons(11, 18))
    targets = np.concatenate([lesson.targets for lesson in drawn])
    assert set(range(len(CLASSES))) <= set(targets.tolist())
    assert (targets == OTHER).mean() > 0.2
    assert all(np.isfinite(lesson.didv).all() for lesson in drawn)
    again = list(lessons(11, 18))
    assert all(np.array_equal(a.didv, b.didv) for a, b in zip(drawn, again, strict=True))


def test_no_near_miss_of_ws2_has_the_gap_of_an_oxygen_substitution():
    surface, energy = WS2(), np.linspace(-1.8, 1.4, 641)
    rows = dict(zip(COMPONENTS, surface.spectra(energy), strict=True))
    up, down = drawn_kinds._OXYGEN
    moved = dict(zip(COMPONENTS, surface.spectra(energy - up), strict=True))["conduction"]
    moved = moved + dict(zip(COMPONENTS, surface.spectra(energy - down), strict=True))["valence"]
    np.testing.assert_allclose(moved, rows["oxygen_bands"])
    rng = np.random.default_rng(0)
    shifts = np.array([drawn_kinds._other_gap(rng) for _ in range(3000)])
    assert (np.abs(shifts - (up, down)).max(axis=1) > 0.04).all()
    # Both nearer and wider gaps are drawn.
    assert np.ptp(shifts[:, 0] - shifts[:, 1]) > 0.7


def test_a_spoilt_spectrum_may_be_the_current():
    bias = np.linspace(1.0, -1.0, 301)
    didv = 1e-10 * (1.0 + bias**2)[None]
    current = 1e-10 * (bias + bias**3 / 3.0)
    found = spoil(bias, np.repeat(didv, 40, axis=0), np.random.default_rng(0))
    alike = [np.corrcoef(row, current)[0, 1] > 0.9999 for row in found]
    assert 3 <= sum(alike) <= 20


def test_drawn_densities_are_positive_and_spoilt_spectra_are_changed():
    rng = np.random.default_rng(0)
    energy = np.linspace(-2.0, 2.0, 400)
    for draw in (near_ws2, near_au, lambda r: any_kind(r, 2.0)):
        for _ in range(20):
            surface = Patches((draw(rng),))
            assert (surface.spectra(energy) > 0.0).all()
    (session,) = simulate(0, {"WS2": 20}, sessions=1)
    spoilt = spoil(session.bias, session.didv, rng)
    change = np.abs(spoilt - session.didv).max(axis=1) / np.ptp(session.didv, axis=1)
    assert change.min() > 0.1
