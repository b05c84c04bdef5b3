"""Plans for the RunEngine and the queue server."""

from bluesky_gpsts.plans.gp_sts import gp_sts
from bluesky_gpsts.plans.survey import survey

__all__ = ["gp_sts", "survey"]
