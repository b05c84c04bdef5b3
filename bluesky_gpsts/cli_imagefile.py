"""The file that ``gpsts images`` looks at, and what to do about it in the words of the terminal."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["KINDS", "ImageFile", "open_image"]

KINDS = "a .sxm, .npy, .png or .jpg file"

# What readings advise to those who call them from Python.
_OTHER_CHANNEL = "give another channel"
_FIND_PIXEL = "give that, or None to have it found"


@dataclass(frozen=True, eq=False)
class ImageFile:
    """An image from a file.

    Attributes
    ----------
    image : array
        First line first.
    pixel : (float, float) or None
        Width and height (m) of a pixel, where the file tells.
    channel : str
        Channel that it is; "" where files have none.
    others : tuple of str
        Further channels of the file.
    """

    image: NDArray[Any]
    pixel: tuple[float, float] | None = None
    channel: str = ""
    others: tuple[str, ...] = ()

    def advice(self, reason: str, pixel_given: bool) -> str:
        """Put what a reading says into words for the terminal.

        Parameters
        ----------
        reason : str
            Why the image was not read.
        pixel_given : bool
            Whether ``--pixel`` was given.
        """
        if not self.channel:
            other = "give another image"
        elif self.others:
            other = (
                f"give another channel than {self.channel!r} with --channel: "
                f"{', '.join(self.others)}"
            )
        else:
            other = f"give another file, for {self.channel!r} is the only channel of this one"
        if not pixel_given:
            find = "give that with --pixel, for the file says otherwise"
        elif self.pixel is None:
            find = "give that, or leave --pixel out to have it found"
        else:
            find = "give that, or leave --pixel out for the size in the file"
        return reason.replace(_OTHER_CHANNEL, other).replace(_FIND_PIXEL, find)


def open_image(path: Path, channel: str | None = None) -> ImageFile:
    """Open an image.

    Parameters
    ----------
    path : Path
        The file.
    channel : str, optional
        Channel of a .sxm file; Z by default.

    Raises
    ------
    ValueError
        If there is no such file or channel, or it holds no image.
    """
    if not path.exists():
        raise ValueError(f"there is no file {path}; give {KINDS}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give one of the files in it, {KINDS}")
    if path.suffix.lower() == ".sxm":
        return _open_sxm(path, channel)
    if channel is not None:
        raise ValueError(f"--channel is for .sxm files: {path.name} has no channels; leave it out")
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as file:
                return ImageFile(np.lib.format.read_array(file, allow_pickle=False))
        from matplotlib.image import imread

        return ImageFile(np.asarray(imread(path)))
    except PermissionError:
        raise
    except (EOFError, OSError, SyntaxError, ValueError) as error:
        # What is wrong with a picture, Pillow tells by any of these.
        raise ValueError(f"{path} holds no image that can be read; give {KINDS}") from error


def _open_sxm(path: Path, channel: str | None) -> ImageFile:
    """Open the scan forward, where there is one."""
    from bluesky_gpsts.nanonis.files import read_sxm

    scan = read_sxm(path)
    names = list(scan.channels)
    if channel is None:
        found = next((name for name in names if name.lower().startswith("z")), None)
        wanted, how = "Z", "; give one of them with --channel"
    else:
        found = next((name for name in names if name.lower() == channel.lower()), None)
        wanted, how = repr(channel), "; give one of them"
    if found is None:
        raise ValueError(f"{path} has no channel {wanted}; it has {', '.join(names)}{how}")
    size = (scan.frame.width / scan.nx, scan.frame.height / scan.ny)
    planes = scan.channels[found]
    others = tuple(name for name in names if name != found)
    return ImageFile(planes.get("forward", next(iter(planes.values()))), size, found, others)
