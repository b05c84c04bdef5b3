"""Plans by name."""

from bluesky_gpsts.plans import gp_sts, survey
