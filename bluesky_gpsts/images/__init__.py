"""Images: arrays in, arrays out."""

from bluesky_gpsts.images.plane import flatten_lines

__all__ = ["flatten_lines"]
