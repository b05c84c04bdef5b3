"""Plans for the RunEngine and the queue server."""

from bluesky_gpsts.plans.drift import DriftChecks
from bluesky_gpsts.plans.gp_sts import gp_sts
from bluesky_gpsts.plans.survey import survey

__all__ = ["DriftChecks", "gp_sts", "survey"]
