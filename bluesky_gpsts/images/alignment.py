"""Least squares below a pixel: how one image lies on another."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.images.tipchange import change
from bluesky_gpsts.images.transforms import Spectra, common_filter, edge, moved, phase

__all__ = ["Aligned", "contrast", "refine"]

FloatArray = NDArray[np.floating]

_ROUNDS = 8
_CONVERGED = 0.02
_HUBER = 2.0
_BLOCK = 16
_PART = 0.18


@dataclass(frozen=True, eq=False)
class Aligned:
    """A shift that fits best nearby.

    Parameters
    ----------
    dx, dy : float
        Shift of the image against the reference (pixels).
    covariance : (2, 2) array
        Of (dx, dy), from the scatter of blocks of the residual (pixels squared).
    correlation : float
        Of the two filtered images at the shift, -1 to 1.
    likeness : float
        The same without the noise of the two images; near 1 where they show the same.
    relief : float
        Sum of squares of what both images show on the lines used, without noise.
    changed : int or None
        Line of the image where the tip changed; the worse side was left out.
    left_out : slice or None
        Those lines, half-way between the two images.
    other : (dx, dy) or None
        Shift of the side that was left out.
    ahead : float
        By how much the likeness of the side taken is larger.
    """

    dx: float
    dy: float
    covariance: FloatArray
    correlation: float
    likeness: float
    relief: float
    changed: int | None
    left_out: slice | None = None
    other: tuple[float, float] | None = None
    ahead: float = 0.0


def refine(pair: Spectra, dx: float, dy: float, *, sides: bool = True) -> Aligned:
    """Find the best shift near a given one, whether or not the tip changed half-way.

    Where it did, both sides are tried on their own, and that which fits better is taken.

    Parameters
    ----------
    pair : Spectra
        The two images.
    dx, dy : float
        Where to begin, within about half the finest structure of the optimum (pixels).
    sides : bool
        Try both sides of a change of the tip.

    Returns
    -------
    Aligned
        The optimum.
    """
    found = _descend(pair, dx, dy, None)
    if found.changed is None or not sides:
        return found
    at = found.changed - round(0.5 * found.dy)
    parts = slice(0, at), slice(at, pair.shape[0])
    two = [_descend(pair, dx, dy, left_out) for left_out in parts]
    best, other = sorted(two, key=lambda side: -side.likeness)
    if best.relief < _PART * (best.relief + other.relief):
        # Two images differ most where there is most to be seen: a nearly bare part that fits
        # better than the rest says nothing of the tip.
        return _descend(pair, dx, dy, slice(0, 0))
    ahead = best.likeness - other.likeness
    return replace(best, other=(other.dx, other.dy), ahead=ahead)


def _descend(pair: Spectra, dx: float, dy: float, left_out: slice | None) -> Aligned:
    """Gauss-Newton steps with Fourier shifts, on all lines or only on some.

    Minimised is the Huber-weighted square of the difference, less an offset of its own in each
    line, of the images after a filter that weighs each wavelength by what the two images have in
    common there (Hannan and Thomson's weighting of a generalised cross-correlation).

    Parameters
    ----------
    pair : Spectra
        The two images.
    dx, dy : float
        Where to begin, within about half the finest structure of the optimum (pixels).
    left_out : slice or None
        Lines not to be used, half-way between the images; None looks for a change of the tip.

    Returns
    -------
    Aligned
        The optimum.
    """
    from scipy.fft import irfft2

    shape = pair.shape
    inner = tuple(slice(edge(n), n - edge(n)) for n in shape)
    place = np.array([dx, dy], dtype=float)
    filtered = common_filter(pair, place)
    a_hat, b_hat = pair.a * filtered, pair.b * filtered
    passed = filtered**2
    band = float(np.mean(passed) ** 2 / np.mean(passed**2))
    # Noise of the difference, if it is white.
    white = float(np.mean(passed)) * (pair.noise_a + pair.noise_b)
    margin = inner[0].start
    worse = left_out and slice(max(0, left_out.start - margin), max(0, left_out.stop - margin))
    robust = np.ones((1, 1), dtype=np.float32)
    for turn in range(_ROUNDS):
        # Both go half the way, so that nothing depends on which of them is the reference.
        half_way = phase(pair, 0.5 * place)
        a = irfft2(a_hat * np.conj(half_way), s=shape)[inner]
        b = irfft2(b_hat * half_way, s=shape)[inner]
        weight = (moved(pair.weight_a, -0.5 * place) * moved(pair.weight_b, 0.5 * place))[inner]
        kept = weight.copy()
        if worse is not None:
            kept[worse] = 0.0
        used = kept * robust
        total = np.maximum(np.einsum("ij->i", used), np.float32(1e-30))
        power = [float(np.vdot(kept * p, p)) for p in (a, b)]
        b *= np.float32(np.sqrt((power[0] + 1e-30) / (power[1] + 1e-30)))
        ga, gb = _gradient(a), _gradient(b)
        own = [_centred(plane, used, total) for plane in ga]
        difference = _centred(b - a, used, total)
        weighted = [plane * used for plane in own]
        # What the gradients of the two images have in common: the noise of each would make the
        # normal matrix too large and the steps too short.
        shared = np.array([[float(np.vdot(p, q)) for q in gb] for p in weighted])
        most = sum(float(np.vdot(p, q)) for p, q in zip(weighted, own, strict=True))
        normal = _positive(shared, most)
        pull = used * difference
        mean = [0.5 * (p + q) for p, q in zip(ga, gb, strict=True)]
        right = np.array([float(np.vdot(pull, plane)) for plane in mean])
        move = np.clip(-np.linalg.solve(normal, right), -1.0, 1.0)
        residual = difference + _centred(
            np.float32(move[0]) * mean[0] + np.float32(move[1]) * mean[1], used, total
        )
        place = place + move
        if turn and float(np.abs(move).max()) < _CONVERGED:
            break
        if left_out is None:
            both = _centred(0.5 * (a + b), used, total)
            worse = change(difference, own, both, weight, band, white)
        robust = _huber(residual, kept)
    scores = [_blocks(_centred(plane, used, total) * used * residual) for plane in mean]
    inverse = np.linalg.inv(normal)
    scatter = np.array([[float(np.sum(p * q)) for q in scores] for p in scores])
    level = float(np.mean(passed)) * float(kept.sum())
    noise = level * pair.noise_a, level * pair.noise_b * power[0] / (power[1] + 1e-30)
    if worse is not None and worse.start == worse.stop:
        worse = None
    line = None
    if worse is not None:
        # The lines here count half-way between the two images.
        line = (worse.start or worse.stop) + margin + round(0.5 * float(place[1]))
    return Aligned(
        float(place[0]),
        float(place[1]),
        inverse @ scatter @ inverse,
        *_alike(a, b, kept, noise),
        None if line is None else int(np.clip(line, 0, shape[0])),
        None if worse is None else _whole(worse, margin, shape[0]),
    )


def _alike(
    a: FloatArray, b: FloatArray, kept: FloatArray, noise: tuple[float, float]
) -> tuple[float, float, float]:
    """Correlation with and without noise, and relief, of two aligned images."""
    # The offsets of the lines are not part of what the images show.
    total = np.maximum(np.einsum("ij->i", kept), np.float32(1e-30))
    a, b = _centred(a, kept, total), _centred(b, kept, total)
    cross, first, second = (float(np.vdot(kept * p, q)) for p, q in ((a, b), (a, a), (b, b)))
    clean = float(
        np.sqrt(max(first - noise[0], 0.02 * first) * max(second - noise[1], 0.02 * second))
    )
    return cross / (float(np.sqrt(first * second)) + 1e-30), cross / (clean + 1e-30), clean


def _whole(part: slice, margin: int, n: int) -> slice:
    """Lines of the part without margins, as lines of the whole."""
    start = 0 if not part.start else part.start + margin
    return slice(start, n if part.stop >= n - 2 * margin else part.stop + margin)


def contrast(pair: Spectra, first: Aligned, second: Aligned) -> float:
    """How clearly one shift fits better than another, in standard deviations.

    The squared misfits of the two are compared block by block. The scatter of most blocks is the
    unit, so that a single defect on a lattice speaks for its shift, and noise for none.

    Parameters
    ----------
    pair : Spectra
        The two images.
    first, second : Aligned
        The shifts. Lines that the first left out are left out.

    Returns
    -------
    float
        Positive where the first fits better.
    """
    from scipy.fft import irfft2

    inner = tuple(slice(edge(n), n - edge(n)) for n in pair.shape)
    filtered = common_filter(pair, np.array([first.dx, first.dy]))
    a = irfft2(pair.a * filtered, s=pair.shape)[inner]
    b_hat = pair.b * filtered
    places = [np.array([found.dx, found.dy]) for found in (first, second)]
    weight = pair.weight_a.copy()
    if first.left_out is not None:
        back = round(0.5 * first.dy)
        rows = (max(0, line - back) for line in (first.left_out.start, first.left_out.stop))
        weight[slice(*rows)] = 0.0
    weight = weight[inner]
    for place in places:
        weight = weight * moved(pair.weight_b, place)[inner]
    total = np.maximum(np.einsum("ij->i", weight), np.float32(1e-30))
    misfit = []
    for place in places:
        b = irfft2(b_hat * phase(pair, place), s=pair.shape)[inner]
        power = [float(np.vdot(weight * p, p)) for p in (a, b)]
        b *= np.float32(np.sqrt((power[0] + 1e-30) / (power[1] + 1e-30)))
        misfit.append(_centred(b - a, weight, total) ** 2)
    gain = _blocks(weight * (misfit[1] - misfit[0]))
    gain = gain[_blocks(weight) > 0.25 * _BLOCK**2].ravel()
    if gain.size < 4:
        return 0.0
    scatter = 1.4826 * float(np.median(np.abs(gain - np.median(gain)))) * np.sqrt(gain.size)
    return float(gain.sum() / (scatter + 1e-30))


def _positive(normal: FloatArray, trace: float) -> FloatArray:
    """Keep a normal matrix symmetric and positive, whatever noise does to it."""
    values, vectors = np.linalg.eigh(0.5 * (normal + normal.T))
    return np.asarray((vectors * np.maximum(values, 0.005 * trace + 1e-30)) @ vectors.T)


def _gradient(plane: FloatArray) -> tuple[FloatArray, FloatArray]:
    # Antisymmetric differences: the noise of an image is not correlated with its own gradient.
    across, up = np.zeros_like(plane), np.zeros_like(plane)
    np.subtract(plane[:, 2:], plane[:, :-2], out=across[:, 1:-1])
    np.subtract(plane[2:], plane[:-2], out=up[1:-1])
    across *= 0.5
    up *= 0.5
    return across, up


def _centred(plane: FloatArray, weight: FloatArray, total: FloatArray) -> FloatArray:
    """Each line less its weighted mean."""
    mean = np.einsum("ij,ij->i", weight, plane) / total
    return np.asarray(plane - mean[:, None])


def _huber(residual: FloatArray, kept: FloatArray) -> FloatArray:
    """Huber's weights."""
    known = np.einsum("ij->i", kept)
    some = known > 0.05 * float(known.max())
    if not some.any():
        return np.ones((1, 1), dtype=np.float32)
    power = np.einsum("ij,ij,ij->i", kept, residual, residual)[some] / known[some]
    bound = _HUBER * float(np.sqrt(np.median(power))) + 1e-30
    return np.asarray(1.0 / np.maximum(np.abs(residual) * np.float32(1.0 / bound), 1.0))


def _blocks(plane: FloatArray) -> FloatArray:
    """Sums over square blocks."""
    rows = np.add.reduceat(plane, np.arange(0, plane.shape[0], _BLOCK), axis=0)
    return np.asarray(np.add.reduceat(rows, np.arange(0, plane.shape[1], _BLOCK), axis=1))
