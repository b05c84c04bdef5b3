"""Ways to find the drift between two images: ours, and what others offer."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt

from bluesky_gpsts.images.blockmatching import FEATURE, SEARCH, block_scores_loop, find_feature
from bluesky_gpsts.images.plane import flatten_lines
from bluesky_gpsts.images.registration import register

__all__ = ["LEAN", "METHODS", "OURS", "PLAIN", "Found", "available", "plain_loop"]

FloatArray = npt.NDArray[np.float64]

OURS = "bluesky-gpsts"
PLAIN = "block matching, plain loop"
LEAN = "block matching, lean loop"


@dataclass(frozen=True)
class Found:
    """What a method says.

    Parameters
    ----------
    dx, dy : float
        Shift (pixels).
    confidence : float
        The larger, the safer; on a scale of the method's own.
    """

    dx: float
    dy: float
    confidence: float


def _ours(reference: FloatArray, image: FloatArray) -> Found:
    shift = register(reference, image)
    return Found(shift.dx, shift.dy, shift.confidence)


def _middle(reference: FloatArray) -> tuple[int, int]:
    """Most distinctive feature among those whose whole search lies within the frame."""
    inner = reference[SEARCH:-SEARCH, SEARCH:-SEARCH]
    row, column = find_feature(inner, FEATURE)
    return row + SEARCH, column + SEARCH


def _vectorised(reference: FloatArray, image: FloatArray) -> Found:
    middle = _middle(reference)
    shift = register(reference, image, method="block-matching", center=middle)
    return Found(shift.dx, shift.dy, shift.confidence)


def plain_loop(reference: FloatArray, image: FloatArray) -> FloatArray:
    """Block matching as one would write it down from its description.

    The correlation coefficient of the block with every block of the image within the search, one
    after another, after the line-by-line linear fit.

    Parameters
    ----------
    reference, image : (ny, nx) array
        Raw images without unknown pixels.

    Returns
    -------
    (2 search + 1, 2 search + 1) array
        The coefficients.
    """
    first, second = flatten_lines(reference), flatten_lines(image)
    row, column = _middle(reference)
    block = first[row - FEATURE : row + FEATURE + 1, column - FEATURE : column + FEATURE + 1]
    scores = np.full((2 * SEARCH + 1, 2 * SEARCH + 1), -1.0)
    for dy in range(-SEARCH, SEARCH + 1):
        for dx in range(-SEARCH, SEARCH + 1):
            top, left = row + dy - FEATURE, column + dx - FEATURE
            other = second[top : top + 2 * FEATURE + 1, left : left + 2 * FEATURE + 1]
            if min(top, left) < 0 or other.shape != block.shape:
                continue
            scores[dy + SEARCH, dx + SEARCH] = np.corrcoef(block.ravel(), other.ravel())[0, 1]
    return scores


def _best(scores: FloatArray) -> Found:
    i, j = np.unravel_index(int(np.argmax(scores)), scores.shape)
    return Found(float(j) - SEARCH, float(i) - SEARCH, float(scores[i, j]))


def _plain(reference: FloatArray, image: FloatArray) -> Found:
    return _best(plain_loop(reference, image))


def _lean(reference: FloatArray, image: FloatArray) -> Found:
    middle = _middle(reference)
    return _best(block_scores_loop(flatten_lines(reference), flatten_lines(image), middle))


def _skimage(normalization: str | None) -> Callable[[FloatArray, FloatArray], Found]:
    def find(reference: FloatArray, image: FloatArray) -> Found:
        from skimage.registration import phase_cross_correlation

        shift, error, _ = phase_cross_correlation(
            flatten_lines(image),
            flatten_lines(reference),
            upsample_factor=100,
            normalization=normalization,
        )
        return Found(float(shift[1]), float(shift[0]), 1.0 - float(error))

    return find


def _phase_correlate(reference: FloatArray, image: FloatArray) -> Found:
    import cv2

    window = cv2.createHanningWindow(reference.shape[::-1], cv2.CV_64F)
    (dx, dy), response = cv2.phaseCorrelate(flatten_lines(reference), flatten_lines(image), window)
    return Found(float(dx), float(dy), float(response))


def _match_template(reference: FloatArray, image: FloatArray) -> Found:
    import cv2

    first, second = (flatten_lines(v).astype(np.float32) for v in (reference, image))
    margin = min(SEARCH, min(first.shape) // 4)
    scores = cv2.matchTemplate(second, first[margin:-margin, margin:-margin], cv2.TM_CCOEFF_NORMED)
    i, j = np.unravel_index(int(np.argmax(scores)), scores.shape)
    place = [float(i), float(j)]
    for axis, values in enumerate((scores[:, j], scores[i])):
        at = (int(i), int(j))[axis]
        if 0 < at < len(values) - 1:
            low, top, high = (float(v) for v in values[at - 1 : at + 2])
            curve = low - 2.0 * top + high
            place[axis] += 0.5 * (low - high) / curve if curve < 0.0 else 0.0
    return Found(place[1] - margin, place[0] - margin, float(scores[i, j]))


METHODS: dict[str, tuple[Callable[[FloatArray, FloatArray], Found], str | None]] = {
    OURS: (_ours, None),
    "bluesky-gpsts block-matching": (_vectorised, None),
    PLAIN: (_plain, None),
    LEAN: (_lean, None),
    "scikit-image, phase": (_skimage("phase"), "skimage"),
    "scikit-image, not normalised": (_skimage(None), "skimage"),
    "OpenCV phaseCorrelate": (_phase_correlate, "cv2"),
    "OpenCV matchTemplate": (_match_template, "cv2"),
}
"""Methods, and the module that each needs."""


def available() -> tuple[list[str], list[str]]:
    """Names of the methods that can be run, and a note on each that cannot."""
    names, notes = [], []
    for name, (_, module) in METHODS.items():
        if module is None or find_spec(module) is not None:
            names.append(name)
        else:
            notes.append(f"not run: {name}, because the module {module} is not installed")
    return names, notes
