"""Plans by name."""

from bluesky_gpsts.plans import check_tip, condition_tip, gp_sts, home, survey, withdraw
