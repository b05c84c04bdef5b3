"""Analysis of runs from a catalog alone: maps, their growth, figures, and the report."""

from .errors import AnalysisError
from .history import MapHistory
from .maps import correlations, final_maps, history_of, maps_after
from .priors import (
    lattice_of,
    learned_prior,
    library_of,
    symmetry_of,
    topograph_of,
)
from .record import RunRecord, read_record
from .report import write_report
from .resume import optimizer_of

__all__ = [
    "AnalysisError",
    "MapHistory",
    "RunRecord",
    "correlations",
    "final_maps",
    "history_of",
    "lattice_of",
    "learned_prior",
    "library_of",
    "maps_after",
    "optimizer_of",
    "read_record",
    "symmetry_of",
    "topograph_of",
    "write_report",
]
