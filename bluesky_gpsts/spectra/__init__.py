"""Names for tunnelling spectra: training data, classifiers, novelty, new classes from few examples.

Arrays in, arrays out, SI units; torch is imported only where a network runs.
"""

from bluesky_gpsts.spectra.types import NONE, Classes, Classifier, Session

__all__ = ["NONE", "Classes", "Classifier", "Session"]
