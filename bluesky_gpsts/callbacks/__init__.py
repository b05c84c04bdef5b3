"""Document callbacks: a progress bar, a live figure, and the class of each spectrum.

None of them can stop a run: an error in a callback is logged, and the RunEngine goes on.
"""

from .classify import Classified, Classify
from .live import LiveMap
from .progress import Progress

__all__ = ["Classified", "Classify", "LiveMap", "Progress"]
