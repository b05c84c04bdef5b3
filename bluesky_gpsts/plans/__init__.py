"""Plans for the RunEngine and the queue server."""

from bluesky_gpsts.plans.conditioning import Conditioned, condition_tip
from bluesky_gpsts.plans.driftchecks import DriftChecks
from bluesky_gpsts.plans.ending import ending, home, withdraw
from bluesky_gpsts.plans.gp_sts import gp_sts
from bluesky_gpsts.plans.rehearsal import rehearse
from bluesky_gpsts.plans.survey import survey
from bluesky_gpsts.plans.targets import NoTargets, Target, find_targets
from bluesky_gpsts.plans.tip import check_tip
from bluesky_gpsts.plans.tipwatch import TipChecks
from bluesky_gpsts.plans.verdict import TipCriteria, TipVerdict

__all__ = [
    "Conditioned",
    "DriftChecks",
    "NoTargets",
    "Target",
    "TipChecks",
    "TipCriteria",
    "TipVerdict",
    "check_tip",
    "condition_tip",
    "ending",
    "find_targets",
    "gp_sts",
    "home",
    "rehearse",
    "survey",
    "withdraw",
]
