"""Document callbacks for people who watch a run: a progress bar and a live figure.

None of them can stop a run: an error in a callback is logged, and the RunEngine goes on.
"""

from .live import LiveMap
from .progress import Progress

__all__ = ["LiveMap", "Progress"]
