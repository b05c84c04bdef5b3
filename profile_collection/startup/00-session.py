"""Microscope, RunEngine and catalog; bluesky_gpsts.startup says how to choose them."""

from bluesky_gpsts.startup import start_from_environment

session = start_from_environment()
RE, stm, catalog = session.RE, session.stm, session.catalog
# None unless GPSTS_SURFACE is 1.
surface = session.surface
