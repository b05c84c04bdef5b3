"""Document callbacks: progress, a live figure, classes of spectra, defects of survey images.

None of them can stop a run: an error in a callback is logged, and the RunEngine goes on.
"""

from .classify import Classified, Classify
from .live import LiveMap
from .progress import Progress
from .surface import FindDefects, Found

__all__ = ["Classified", "Classify", "FindDefects", "Found", "LiveMap", "Progress"]
