"""Whether everything on a surface appears twice, as under a tip with several ends."""

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.images.prepare import GRID, Prepared
from bluesky_gpsts.images.surfacemodel import Maps

__all__ = ["ghost"]

_MOST = 512
_SMOOTH = 0.3e-9
_BLOCK = 2
_STRONG = 3.0
_DEFECT, _FEW = 0.3, 4
_NEAR, _FAR = 0.55e-9, 3.7e-9


def ghost(prepared: Prepared, maps: Maps) -> float:
    """Strength of the strongest second image of the defects.

    It is the highest peak of the autocorrelation of all defects, each as much higher or lower than
    what is around, at 0.55 to 3.7 nm: about w / (1 + w^2) where all appear again with the weight w.
    Defects that lie somewhere have other ones at many distances, and at none all of them; less is
    made of it where there are few.

    Parameters
    ----------
    prepared : Prepared
        The image; the middle of a large one is enough.
    maps : Maps
        What the network says of it.

    Returns
    -------
    float
        From 0 to 1.
    """
    from scipy.fft import irfft2, next_fast_len, rfft2
    from scipy.ndimage import gaussian_filter, label, maximum_filter

    box = tuple(
        slice(max(0, (n - _MOST) // 2), max(0, (n - _MOST) // 2) + min(n, _MOST) // _BLOCK * _BLOCK)
        for n in maps.defect.shape
    )
    coarse = [_halved(values[box]) for values in (prepared.channels[0], maps.defect)]
    inside = coarse[1] > _DEFECT
    _, count = label(inside)
    signed = np.where(inside, gaussian_filter(coarse[0], _SMOOTH / (_BLOCK * GRID)), 0.0)
    highest = float(np.abs(signed).max(initial=0.0))
    if highest == 0.0:
        return 0.0
    # One large defect does not outweigh all others.
    signed = signed / (1.0 + (_STRONG / highest) * np.abs(signed))
    reach = int(_FAR / (_BLOCK * GRID))
    shape = [next_fast_len(n + reach + 1, real=True) for n in signed.shape]
    waves = rfft2(signed, shape)
    power = irfft2(waves.real**2 + waves.imag**2, shape)
    # One half: the other mirrors it.
    columns = np.arange(-reach, reach + 1) % shape[1]
    near = power[: reach + 1, columns] / power[0, 0] * (count / (count + _FEW))
    y, x = np.arange(reach + 1)[:, None], np.arange(-reach, reach + 1)[None, :]
    distance = np.hypot(y, x) * _BLOCK * GRID
    peak = (maximum_filter(near, 5) == near) & (distance >= _NEAR) & (distance <= _FAR)
    return float(np.clip(near[peak].max(initial=0.0), 0.0, 1.0))


def _halved(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of blocks of 2 x 2 pixels."""
    rows = values[::2] + values[1::2]
    return np.asarray(0.25 * (rows[:, ::2] + rows[:, 1::2]), np.float32)
