"""How far the sample moved between two images."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from bluesky_gpsts.images.alignment import Aligned, contrast, refine
from bluesky_gpsts.images.blockmatching import FEATURE, SEARCH, block_scores, find_feature
from bluesky_gpsts.images.plane import level_lines
from bluesky_gpsts.images.transforms import Spectra, coarse_peaks, spectra

__all__ = ["Shift", "register"]

FloatArray = npt.NDArray[np.float64]

TRUSTED = 0.5
"""Confidence from which on a shift is `ok`."""

_FEWEST = 32
_RIVALS = 3
_RIVAL_HEIGHT = 0.45
_SIGNAL = 0.08
_SIDES_DIFFER = 1.0
_CLEARLY = 0.006
_LEAD = 6.0
_WIDE = 0.3


@dataclass(frozen=True)
class Shift:
    """Where the surface went between two images.

    Parameters
    ----------
    dx, dy : float
        The image is the reference moved by dx columns and dy rows: what is in the reference at
        (row, column) is in the image at (row + dy, column + dx). Pixels.
    sigma_x, sigma_y : float
        Standard uncertainty of dx and dy (pixels), from the scatter of the residual.
    confidence : float
        0 to 1: how safe it is that the shift is right within about a pixel.
    ok : bool
        Whether to act on it.
    reason : str
        Why not; "" if ok.
    alternatives : tuple of (dx, dy)
        Other shifts (pixels) that cannot be excluded, most likely first.
    correlation : float
        Of the two aligned images, -1 to 1.
    changed : int or None
        Row of the image where the tip changed, if it did while the image was taken; the shift is
        then that of the part which is as before.
    method : str
        How it was found.
    """

    dx: float
    dy: float
    sigma_x: float
    sigma_y: float
    confidence: float
    ok: bool
    reason: str
    alternatives: tuple[tuple[float, float], ...]
    correlation: float
    changed: int | None
    method: str


def register(
    reference: npt.ArrayLike,
    image: npt.ArrayLike,
    *,
    method: Literal["phase", "block-matching"] = "phase",
    center: tuple[int, int] | Literal["feature"] | None = None,
    reach: int | None = None,
    max_shift: int = SEARCH,
) -> Shift:
    """Find how far the surface moved from one image to another.

    Tilt, jumps of lines and lines that were not scanned do not matter. "phase" finds the peak of
    the half-whitened cross-correlation and refines it by robust least squares below a hundredth
    of a pixel; where peaks rival, each is refined and their misfits are compared. "block-matching"
    is the method of Thomas et al., npj Comput. Mater. 8, 99 (2022), in whole pixels.

    Parameters
    ----------
    reference, image : array_like, shape (ny, nx)
        Images of one frame in any unit, NaN where not scanned.
    method : str
        "phase" or "block-matching".
    center : (row, column), "feature" or None
        Middle of the patch to be read; "feature" looks for the most distinctive one of the
        reference. None is the whole frame for "phase" and "feature" for "block-matching".
    reach : int, optional
        The patch reaches so far from its middle (pixels). For "phase" at least 16, and 60 unless
        given, for shifts up to about half of it; for "block-matching" 20, as in the paper.
    max_shift : int
        Largest shift along either axis (pixels).

    Returns
    -------
    Shift
        With `ok` False and a reason where it cannot be told; no exception is raised for that.

    Raises
    ------
    ValueError
        If the images differ in shape, are smaller than 32 x 32 pixels or hold infinite values, if
        the method is unknown, or the patch does not fit into the frame.
    """
    first, second = (np.asarray(values, dtype=float) for values in (reference, image))
    if first.ndim != 2 or first.shape != second.shape or min(first.shape) < _FEWEST:
        raise ValueError(
            f"images of shapes {first.shape} and {second.shape} cannot be compared; give two of "
            f"one shape, at least {_FEWEST} x {_FEWEST} pixels"
        )
    if np.isinf(first).any() or np.isinf(second).any():
        raise ValueError("an image holds infinite values; use NaN for pixels that are not known")
    if max_shift < 1:
        raise ValueError(f"max_shift is {max_shift} pixels; give 1 or more")
    if method == "phase":
        return _phase(first, second, center, reach, max_shift)
    if method == "block-matching":
        return _blocks(first, second, center, FEATURE if reach is None else reach, max_shift)
    raise ValueError(f"no method {method!r}; choose 'phase' or 'block-matching'")


def _phase(
    reference: FloatArray,
    image: FloatArray,
    center: tuple[int, int] | str | None,
    reach: int | None,
    max_shift: int,
) -> Shift:
    first_row = 0
    if center is not None:
        rows, columns = _patch(reference, center, 60 if reach is None else reach)
        reference, image = reference[rows, columns], image[rows, columns]
        first_row = rows.start
    elif reach is not None:
        raise ValueError(f"reach is {reach}, but no center is given; give center='feature'")
    # Only the part that both images have: an unfinished one ends early.
    both = np.isfinite(reference).mean(axis=1), np.isfinite(image).mean(axis=1)
    rows_known = np.flatnonzero((both[0] > 0.5) & (both[1] > 0.5))
    if len(rows_known) < _FEWEST:
        return _nothing(f"only {len(rows_known)} rows are known in both images", "phase")
    part = slice(int(rows_known[0]), int(rows_known[-1]) + 1)
    pair = spectra(reference[part], image[part])
    for name, weight in (("reference", pair.weight_a), ("image", pair.weight_b)):
        if not weight.any():
            return _nothing(f"featureless: no good line in the {name}", "phase")
    shift = _choose(pair, min(max_shift, min(pair.shape) // 2 - 1))
    if shift.changed is not None:
        shift = replace(shift, changed=shift.changed + part.start + first_row)
    return shift


def _choose(pair: Spectra, max_shift: int) -> Shift:
    """Refine the highest peak and its rivals, and tell how far the best is ahead."""
    # A shift beyond the limit must not be mistaken for the best one within it.
    reach = max(max_shift, round(_WIDE * min(pair.shape)))
    peaks = coarse_peaks(pair, reach, _RIVALS + 1)
    if not peaks:
        return _nothing("featureless: the correlation has no peak", "phase")
    best = refine(pair, *peaks[0][:2])
    ratio = peaks[1][2] / peaks[0][2] if len(peaks) > 1 else 0.0
    rivals: list[tuple[Aligned, float]] = []
    for dx, dy, height in peaks[1:]:
        if height < _RIVAL_HEIGHT * peaks[0][2]:
            break
        rival = refine(pair, dx, dy, sides=False)
        if np.hypot(rival.dx - best.dx, rival.dy - best.dy) < 1.0:
            continue
        lead = contrast(pair, best, rival)
        if lead < -_LEAD:
            # The other one is right; by how much it leads is the same question.
            best, rival, lead = refine(pair, rival.dx, rival.dy), best, -lead
            rivals = []
        if (
            max(abs(rival.dx), abs(rival.dy)) <= max_shift
            or max(abs(best.dx), abs(best.dy)) > max_shift
        ):
            rivals.append((rival, lead))
    return _judge(pair, best, rivals, ratio, max_shift)


def _judge(
    pair: Spectra,
    best: Aligned,
    rivals: list[tuple[Aligned, float]],
    ratio: float,
    max_shift: int,
) -> Shift:
    sigma_x, sigma_y = (float(np.sqrt(max(v, 0.0))) for v in np.diag(best.covariance))
    lead = min((value for _, value in rivals), default=np.inf)
    unique = 1.0 / (1.0 + float(np.exp(-min((lead - _LEAD) / 1.5, 50.0))))
    alike = float(np.clip((best.correlation - 0.15) / 0.25, 0.0, 1.0))
    sharp = 1.0 / (1.0 + (sigma_x**2 + sigma_y**2) / 0.5)
    same = 1.0
    doubtful = best.other is not None and (
        np.hypot(best.other[0] - best.dx, best.other[1] - best.dy) > _SIDES_DIFFER
    )
    if doubtful:
        same = float(np.clip(best.ahead / _CLEARLY, 0.2, 1.0))
        same *= float(np.clip((best.likeness - 0.75) / 0.2, 0.3, 1.0))
        # Another tip sees the same surface differently, not another surface.
        same *= float(np.clip((best.likeness - best.ahead - 0.5) / 0.25, 0.1, 1.0))
    inside = max(abs(best.dx), abs(best.dy)) < max_shift - 0.5
    confidence = unique * alike * sharp * same * (1.0 - 0.1 * ratio) * (1.0 if inside else 0.3)
    close = [rival for rival, value in rivals if value < 2.0 * _LEAD]
    reason = ""
    if confidence < TRUSTED:
        if pair.signal < _SIGNAL:
            reason = "featureless: an image shows no more than noise"
        elif alike < TRUSTED:
            reason = (
                "the images do not match: the tip changed, or the sample moved by more than "
                f"{max_shift} px"
            )
        elif not inside:
            reason = f"the best shift is at or beyond the limit of the search, {max_shift} px"
        elif unique < TRUSTED:
            places = ", ".join(f"({rival.dx:.1f}, {rival.dy:.1f})" for rival in close)
            reason = f"periodic lattice: shifts of {places} px fit as well"
        elif doubtful:
            reason = f"the tip changed at row {best.changed}, and both parts fit equally well"
        else:
            reason = (
                f"too little structure: the shift is uncertain by ({sigma_x:.2f}, {sigma_y:.2f}) px"
            )
    return Shift(
        best.dx,
        best.dy,
        sigma_x,
        sigma_y,
        float(np.clip(confidence, 0.0, 1.0)),
        not reason,
        reason,
        tuple((rival.dx, rival.dy) for rival in close)
        + ((best.other,) if doubtful and best.other is not None and reason else ()),
        float(np.clip(best.correlation, -1.0, 1.0)),
        best.changed,
        "phase",
    )


def _blocks(
    reference: FloatArray,
    image: FloatArray,
    center: tuple[int, int] | str | None,
    reach: int,
    max_shift: int,
) -> Shift:
    rows, columns = _patch(reference, "feature" if center is None else center, reach, least=2)
    flat = []
    for values in (reference, image):
        level, _ = level_lines(values)
        flat.append(level.astype(float))
    middle = rows.start + reach, columns.start + reach
    scores = block_scores(flat[0], flat[1], middle, search=max_shift, feature=reach)
    # Blocks with unknown pixels do not count.
    unknown = np.isnan(image)
    if unknown.any():
        known = block_known(~unknown, middle, max_shift, reach)
        scores = np.where(known, scores, -1.0)
    i, j = np.unravel_index(int(np.argmax(scores)), scores.shape)
    top = float(scores[i, j])
    dy, dx = int(i) - max_shift, int(j) - max_shift
    if not top > 0.0:
        return _nothing("featureless: no block of the image is like the feature", "block-matching")
    away = scores.copy()
    away[max(0, i - 3) : i + 4, max(0, j - 3) : j + 4] = -1.0
    k, m = np.unravel_index(int(np.argmax(away)), away.shape)
    second = max(float(away[k, m]), 0.0)
    confidence = float(np.clip(top * (1.0 - (second / top) ** 8), 0.0, 1.0))
    reason = ""
    rivals: tuple[tuple[float, float], ...] = ()
    if confidence < TRUSTED:
        if top < TRUSTED:
            reason = f"the images do not match: the best correlation of a block is {top:.2f}"
        else:
            rivals = ((float(m) - max_shift, float(k) - max_shift),)
            reason = f"the shift of ({rivals[0][0]:.0f}, {rivals[0][1]:.0f}) px fits nearly as well"
    rounding = float(np.sqrt(1.0 / 12.0))
    return Shift(
        float(dx),
        float(dy),
        rounding,
        rounding,
        confidence,
        not reason,
        reason,
        rivals,
        top,
        None,
        "block-matching",
    )


def block_known(
    known: npt.NDArray[np.bool_], middle: tuple[int, int], search: int, reach: int
) -> npt.NDArray[np.bool_]:
    """Which blocks of the search are known as a whole, shape (2 search + 1, 2 search + 1)."""
    from scipy.ndimage import minimum_filter

    whole = minimum_filter(known, 2 * reach + 1, mode="constant", cval=False)
    padded = np.pad(whole, search)
    row, column = middle
    return np.asarray(padded[row : row + 2 * search + 1, column : column + 2 * search + 1])


def _patch(
    reference: FloatArray, center: tuple[int, int] | str, reach: int, least: int = 16
) -> tuple[slice, slice]:
    ny, nx = reference.shape
    if reach < least or 2 * reach + 1 > min(ny, nx):
        raise ValueError(
            f"reach is {reach} pixels; give {least} to {(min(ny, nx) - 1) // 2} for a frame of "
            f"{ny} x {nx}"
        )
    if isinstance(center, str):
        if center != "feature":
            raise ValueError(f"center is {center!r}; give (row, column), 'feature' or None")
        row, column = find_feature(reference, reach)
    else:
        row, column = center
        if not (reach <= row < ny - reach and reach <= column < nx - reach):
            raise ValueError(
                f"a patch that reaches {reach} pixels from ({row}, {column}) leaves the frame of "
                f"{ny} x {nx}; choose another middle or a smaller reach"
            )
    return slice(row - reach, row + reach + 1), slice(column - reach, column + reach + 1)


def _nothing(reason: str, method: str) -> Shift:
    """No shift: of what size it might be is not known."""
    return Shift(0.0, 0.0, np.inf, np.inf, 0.0, False, reason, (), 0.0, None, method)
