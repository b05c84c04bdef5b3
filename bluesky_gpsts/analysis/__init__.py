"""Analysis of runs from a catalog alone: maps, their growth, figures, and the report."""

from .errors import AnalysisError
from .history import MapHistory
from .maps import correlations, final_maps, history_of, maps_after
from .record import RunRecord, read_record
from .report import write_report
from .warm import learned_prior, library_of

__all__ = [
    "AnalysisError",
    "MapHistory",
    "RunRecord",
    "correlations",
    "final_maps",
    "history_of",
    "learned_prior",
    "library_of",
    "maps_after",
    "read_record",
    "write_report",
]
