"""A simulated microscope over real sockets, driven by the devices under test."""

from device_bench import bench, make_bench, until, ws2

__all__ = ["bench", "make_bench", "until", "ws2"]
