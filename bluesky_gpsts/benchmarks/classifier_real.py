"""Real spectra of hexagonal boron nitride, which no classifier here was trained on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.benchmarks.classifier_cases import Shipped
from bluesky_gpsts.benchmarks.table import Row
from bluesky_gpsts.nanonis.files import read_dat

__all__ = ["Measured", "read_measured", "real_rows"]

Array = NDArray[np.float64]

_BIAS, _LOCKIN = "Bias calc (V)", "LI Demod 1 X (A)"
_COMMENT, _AMPLITUDE = "Comment01", "Lock-in>Amplitude"
_LINE = "dIdV_line"
_SURE = 0.5


@dataclass(frozen=True, eq=False)
class Measured:
    """A real spectrum: file name, class, bias (n,) in V and dI/dV (n,) in A/V."""

    file: str
    label: str
    bias: Array
    didv: Array


def read_measured(folder: Path) -> list[Measured]:
    """Read the labelled spectra (dIdV*.dat) of a folder and of the folders in it.

    The class is what the comment says, in dI/dV of the lock-in's output divided by the modulation.

    Parameters
    ----------
    folder : Path
        Where they are.

    Returns
    -------
    list of Measured

    Raises
    ------
    ValueError
        If there is none.
    """
    result = []
    for path in sorted(folder.rglob("dIdV*.dat")):
        spectrum = read_dat(path)
        if _COMMENT not in spectrum.header or _LOCKIN not in spectrum.columns:
            continue
        if _BIAS not in spectrum.columns or _AMPLITUDE not in spectrum.header:
            continue
        bias, lockin = spectrum.columns[_BIAS], spectrum.columns[_LOCKIN]
        # A sweep that was broken off ends in NaN.
        good = np.isfinite(bias) & np.isfinite(lockin)
        didv = lockin / float(spectrum.header[_AMPLITUDE])
        label = spectrum.header[_COMMENT].strip()
        result.append(Measured(path.name, label, bias[good], didv[good]))
    if not result:
        raise ValueError(f"no spectrum with a comment and a lock-in channel under {folder}")
    return result


def real_rows(shipped: Shipped, method: str, folder: Path) -> list[Row]:
    """None named as a class of the training; told apart once one example of each is given.

    Parameters
    ----------
    shipped : Shipped
        Classifier.
    method : str
        Its name in the table.
    folder : Path
        Folder of the spectra.

    Returns
    -------
    list of Row
    """
    spectra = read_measured(folder)
    found = [shipped.classify(s.bias, s.didv[None]) for s in spectra]
    sure = [float(f.confidence[0]) for f in found if f.novelty[0] <= _SURE]
    case, count = "real hBN spectra", len(spectra)
    named = sum(value > _SURE for value in sure)
    rows = [
        Row(case, method, "named Au or WS2 with confidence > 0.5", named, "", count, 0, True),
        Row(case, method, "said to be none of the classes", count - len(sure), "", count),
    ]
    # The line crosses from clean to defect under one comment: no class to tell from the others.
    spectra = [s for s in spectra if not s.file.startswith(_LINE)]
    kinds = sorted({s.label for s in spectra})
    first = {kind: next(s for s in spectra if s.label == kind) for kind in kinds}
    learned = _taught(shipped, list(first.values()))
    own = sum(_named(learned, s) == s.label for s in first.values())
    case = f"real hBN, one example of each of {len(kinds)} classes"
    rows.append(Row(case, method, "examples named right", own, "", len(kinds), len(kinds)))
    pairs = [s for s in spectra if sum(t.label == s.label for t in spectra) > 1]
    right = sum(_named(_without(shipped, spectra, s), s) == s.label for s in pairs)
    case = "real hBN, leave one out, classes of two spectra"
    rows.append(Row(case, method, "named right", right, "", len(pairs), len(pairs)))
    return rows


def _without(shipped: Shipped, spectra: list[Measured], left: Measured) -> Shipped:
    """Classifier taught one example of each class, none of them `left`."""
    examples: dict[str, Measured] = {}
    for spectrum in spectra:
        if spectrum is not left:
            examples.setdefault(spectrum.label, spectrum)
    return _taught(shipped, list(examples.values()))


def _taught(shipped: Shipped, examples: list[Measured]) -> Shipped:
    for example in examples:
        shipped = shipped.with_class(example.label, example.bias, example.didv[None])
    return shipped


def _named(classifier: Shipped, spectrum: Measured) -> str:
    return str(classifier.classify(spectrum.bias, spectrum.didv[None]).best[0])
