"""Autonomous scanning tunnelling spectroscopy on a Nanonis microscope, with Bluesky."""

__version__ = "0.1.0"
