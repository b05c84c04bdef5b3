"""Readers and writers of Nanonis files: images (.sxm), spectra (.dat) and grids (.3ds)."""

from bluesky_gpsts.nanonis.files.dat import Spectrum, read_dat, write_dat
from bluesky_gpsts.nanonis.files.grid3ds import Grid, read_3ds, write_3ds
from bluesky_gpsts.nanonis.files.sxm import Image, read_sxm, write_sxm
from bluesky_gpsts.nanonis.files.text import FileFormatError, Frame, scientific

__all__ = [
    "FileFormatError",
    "Frame",
    "Grid",
    "Image",
    "Spectrum",
    "read_3ds",
    "read_dat",
    "read_sxm",
    "scientific",
    "write_3ds",
    "write_dat",
    "write_sxm",
]
