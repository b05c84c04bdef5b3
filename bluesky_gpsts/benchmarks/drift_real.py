"""Seven consecutive scans of one frame: what two ways of reckoning say of the same drift."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bluesky_gpsts.benchmarks.drift_methods import METHODS, OURS, PLAIN, Found
from bluesky_gpsts.benchmarks.maps.recorded import find_data
from bluesky_gpsts.benchmarks.table import Row
from bluesky_gpsts.images.driftmodel import DriftModel
from bluesky_gpsts.images.registration import register

__all__ = ["jump", "read_scans", "real_rows"]

FloatArray = npt.NDArray[np.float64]

AGREE_GOAL, JUMP_GOAL = 0.1, 5.0
_CASE = "seven scans of one frame"


def read_scans(data: Path | None) -> tuple[list[FloatArray], list[float], float]:
    """Read the scans.

    Parameters
    ----------
    data : Path, optional
        Folder of the real measurements.

    Returns
    -------
    images : list of (ny, nx) array
        Current at constant height (A), without the rows that no scan has.
    times : list of float
        When each began, from the first (s).
    pixel : float
        Size of a pixel (m).

    Raises
    ------
    FileNotFoundError
        If the folder is not there.
    ValueError
        If it holds fewer than three scans.
    """
    from bluesky_gpsts.nanonis.files import read_sxm

    folder = find_data(data) / "drift"
    files = sorted(folder.glob("*.sxm"))
    if len(files) < 3:
        raise ValueError(f"{folder} holds {len(files)} scans; give a folder with three or more")
    images, times = [], []
    for file in files:
        scan = read_sxm(file)
        images.append(scan.channels["Current"]["forward"])
        hours, minutes, seconds = (int(part) for part in scan.header["REC_TIME"].split(":"))
        times.append(3600.0 * hours + 60.0 * minutes + seconds)
        pixel = scan.frame.width / scan.nx
    known = np.any([np.isfinite(image).any(axis=1) for image in images], axis=0)
    return [image[known] for image in images], [t - times[0] for t in times], pixel


def jump(images: list[FloatArray], times: list[float], pixel: float) -> tuple[float, float]:
    """How much the last shift surprises a drift model that knows the others.

    Returns
    -------
    size : float
        The last shift (m).
    surprise : float
        Its distance from what was expected, in standard deviations.
    """
    model = DriftModel(start=times[0])
    place = np.zeros(2)
    for i in range(1, len(images)):
        shift = register(images[i - 1], images[i])
        step = np.array([shift.dx, shift.dy]) * pixel
        # Contrast that changes from scan to scan adds to what the residual says.
        sigma = pixel * np.hypot([shift.sigma_x, shift.sigma_y], AGREE_GOAL) * np.sqrt(i)
        place = place + step
        if i == len(images) - 1:
            return float(np.hypot(*step)), model.surprise(times[i], place, sigma)
        model = model.add(times[i], place, sigma)
    raise ValueError(f"{len(images)} scans have no last shift; give three or more")


def real_rows(names: list[str], data: Path | None) -> tuple[list[Row], list[str]]:
    """Compare each method with itself: forward, backward, and skipping a scan.

    Parameters
    ----------
    names : list of str
        Methods; the plain loop is left out, for its blocks do not fit into these images.
    data : Path, optional
        Folder of the real measurements.

    Returns
    -------
    rows : list of Row
        Largest disagreements (pixels), and the jump of the last pair.
    notes : list of str
        Why there are none, where the scans are not there.
    """
    try:
        images, times, pixel = read_scans(data)
    except (FileNotFoundError, ValueError) as error:
        return [], [f"not run: real scans, because {error}"]
    rows = []
    for name in names:
        if "block" in name:
            continue
        back, skip, count = _agreement(METHODS[name][0], images)
        goal = AGREE_GOAL if name == OURS else None
        rows += [
            Row(_CASE, name, "forward against backward, largest", back, "px", count, goal, True),
            Row(_CASE, name, "one scan skipped, largest", skip, "px", count - 1, goal, True),
        ]
    if OURS in names:
        size, surprise = jump(images, times, pixel)
        rows += [
            Row(_CASE, OURS, "last shift", 1e9 * size, "nm", 1),
            Row(_CASE, OURS, "its distance from the drift before", surprise, "sigma", 1, JUMP_GOAL),
        ]
    note = f"{PLAIN} and its kin are not run on the real scans: a block and its search do not fit"
    return rows, [note]


def _agreement(
    method: Callable[[FloatArray, FloatArray], Found], images: list[FloatArray]
) -> tuple[float, float, int]:
    # scikit-image and OpenCV take no NaN; the few unknown pixels become the median.
    filled = [np.where(np.isfinite(v), v, np.nanmedian(v)) for v in images]

    def find(i: int, j: int) -> FloatArray:
        found = method(filled[i], filled[j])
        return np.array([found.dx, found.dy])

    n = len(images)
    steps = [find(i, i + 1) for i in range(n - 1)]
    back = [steps[i] + find(i + 1, i) for i in range(n - 1)]
    skip = [steps[i] + steps[i + 1] - find(i, i + 2) for i in range(n - 2)]
    largest = [float(max(np.abs(v).max() for v in values)) for values in (back, skip)]
    return largest[0], largest[1], n - 1
