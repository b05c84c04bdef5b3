"""What is known about the surface before the first spectrum, mostly from the survey image.

Each structure says that a part of the map repeats: by a symmetry, with a lattice, with the
topograph, or as in maps measured before. The model is the sum of that part and of a free residual,
and it is used only as long as the outcomes support it; see `bluesky_gpsts.surrogate.fit`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .checks import require_between, require_count, require_flag, require_pair, require_positive
from .encoding import decode, encode
from .grid import Grid
from .kernels import PROFILES, FloatArray
from .parts import Part, feature_part, folded_part, library_part, symmetric_part

_ORDERS = {"C2": 2, "C3": 3, "C4": 4, "C6": 6, "mirror": 1}

# Shortest and longest lattice vector, relative to the larger side of the frame. Beyond a thousand
# periods no lattice is known well enough to be followed; ten frames away it does not repeat.
_SHORTEST, _LONGEST = 1e-3, 10.0


@dataclass(frozen=True)
class Symmetry:
    """A point group about a centre, such as a defect.

    Attributes
    ----------
    kind : str
        ``"C2"``, ``"C3"``, ``"C4"``, ``"C6"`` or ``"mirror"`` (one mirror line, of any direction).
    center : tuple of float, optional
        Centre in sample coordinates, in metres; the frame's centre unless given. It is refined
        from the spectra.
    mirror : bool
        Whether there are mirror lines through the centre beside the rotations; their direction is
        learned.
    center_error : float, optional
        Standard deviation of the centre in metres; 2.5 % of the frame's width unless given.

    Raises
    ------
    ValueError
        If the kind is not one of those, or a number is none or not finite.
    """

    kind: str = "C3"
    center: tuple[float, float] | None = None
    mirror: bool = False
    center_error: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or self.kind not in _ORDERS:
            raise ValueError(f"No symmetry {self.kind!r}; choose one of {', '.join(_ORDERS)}.")
        if self.center is not None:
            center = _vector("The centre of a symmetry", self.center)
            object.__setattr__(self, "center", center)
        require_flag("mirror", self.mirror)
        if self.center_error is not None:
            require_positive("center_error", self.center_error, "metres")

    @property
    def rival(self) -> "Symmetry | None":
        """Point group of another order: where it explains the outcomes better, this is wrong.

        A wrong group gains evidence over none at all, as far as a defect is round.
        """
        order = _ORDERS[self.kind]
        if order == 1:
            return None
        return replace(self, kind="C4" if order in (3, 6) else "C3")

    def part(self, grid: Grid, kernel: str, length: float, factor: float) -> Part:
        """Return the covariance on a frame; ``length`` and ``factor`` are those of the prior.

        Raises
        ------
        ValueError
            If the centre is outside the frame by more than half its size.
        """
        middle = np.zeros(2)
        if self.center is not None:
            middle = grid.to_unit([self.center])[0]
            if np.abs(middle).max() > 1.0:
                raise ValueError(
                    f"The centre of the symmetry, {self.center} m, is far outside the frame; give "
                    "sample coordinates in metres."
                )
        sd = 0.025 if self.center_error is None else self.center_error / grid.width
        return symmetric_part(
            grid,
            PROFILES[kernel],
            _ORDERS[self.kind],
            self.mirror or self.kind == "mirror",
            middle,
            sd,
            (length, factor),
        )

    def describe(self) -> dict[str, Any]:
        """Return what a document has to hold, as a dict that JSON can hold."""
        return {
            "structure": "symmetry",
            "kind": self.kind,
            "center": None if self.center is None else list(self.center),
            "mirror": self.mirror,
            "center_error": self.center_error,
        }

    def to_json(self) -> dict[str, Any]:
        """Return everything, as a dict that JSON can hold."""
        return self.describe()


@dataclass(frozen=True)
class Lattice:
    """A lattice with which the map repeats.

    Attributes
    ----------
    vectors : tuple
        Two lattice vectors ((ax, ay), (bx, by)) in sample coordinates, in metres. They are
        refined from the spectra.
    error : float
        Relative standard deviation of the vectors.

    Raises
    ------
    ValueError
        If they are not two vectors of two finite numbers, or lie on one line.
    """

    vectors: tuple[tuple[float, float], tuple[float, float]]
    error: float = 0.02

    def __post_init__(self) -> None:
        try:
            first, second = self.vectors
        except (TypeError, ValueError):
            raise ValueError(
                f"The lattice vectors are {self.vectors!r}; give two, ((ax, ay), (bx, by)), in "
                "metres."
            ) from None
        a, b = (_vector("A lattice vector", vector) for vector in (first, second))
        object.__setattr__(self, "vectors", (a, b))
        area = abs(a[0] * b[1] - a[1] * b[0])
        if not area > 1e-3 * np.linalg.norm(a) * np.linalg.norm(b):
            raise ValueError(f"The lattice vectors {self.vectors} m lie on one line.")
        require_between("error", self.error, 0.0, 1.0)

    def part(self, grid: Grid, kernel: str, length: float, factor: float) -> Part:
        """Return the covariance on a frame.

        Raises
        ------
        ValueError
            If a vector is too long or too short for the frame.
        """
        a = np.asarray(self.vectors, dtype=float)
        side = max(grid.width, grid.height)
        for length in np.linalg.norm(a, axis=1):
            if not _SHORTEST * side <= length <= _LONGEST * side:
                raise ValueError(
                    f"A lattice vector of {length:g} m does not fit a frame of {side:g} m; give "
                    f"the vectors in metres, {_SHORTEST * side:g} to {_LONGEST * side:g} m long."
                )
        turned = grid.to_frame(a + (grid.center_x, grid.center_y))
        reciprocal: FloatArray = np.asarray(np.linalg.inv(turned / grid.width).T, dtype=np.float64)
        return folded_part(grid, PROFILES[kernel], reciprocal, self.error, (0.45, factor))

    def describe(self) -> dict[str, Any]:
        """Return what a document has to hold, as a dict that JSON can hold."""
        vectors = [list(vector) for vector in self.vectors]
        return {"structure": "lattice", "vectors": vectors, "error": self.error}

    def to_json(self) -> dict[str, Any]:
        """Return everything, as a dict that JSON can hold."""
        return self.describe()


@dataclass(frozen=True, eq=False)
class Topograph:
    """The survey image as a feature: equal topography, equal spectrum.

    The features are the height and its averages over wider and wider surroundings.

    Attributes
    ----------
    image : ndarray, shape (ny, nx)
        Height at the candidates, any unit; row 0 is the bottom row.

    Raises
    ------
    ValueError
        If it is not a finite image.
    """

    image: npt.NDArray[np.float64] = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "image", _image("The topograph", self.image, 2))

    @cached_property
    def digest(self) -> str:
        """Checksum of the image (SHA-256)."""
        return _digest(self.image)

    def features(self) -> FloatArray:
        """Features of mean 0 and variance 1: shape (F, ny, nx)."""
        from scipy.ndimage import gaussian_filter

        size = min(self.image.shape)
        maps = []
        below = self.image
        for width in (0.0, 0.03, 0.08):
            smooth = gaussian_filter(below, width * size, mode="nearest") if width else below
            maps.append(smooth)
        stack = np.array(maps)
        stack = np.concatenate([stack[:-1] - stack[1:], stack[-1:]])
        stack -= stack.mean(axis=(1, 2), keepdims=True)
        spread = stack.std(axis=(1, 2))
        keep = spread > 1e-3 * max(float(spread.max()), np.finfo(float).tiny)
        return np.asarray(stack[keep] / spread[keep, None, None])

    def part(self, grid: Grid, kernel: str, length: float, factor: float) -> Part:
        """Return the covariance on a frame.

        Raises
        ------
        ValueError
            If the image does not have the grid's shape or has no contrast.
        """
        _require_shape("The topograph", self.image, grid)
        features = self.features()
        if not len(features):
            raise ValueError("The topograph is the same everywhere; leave out the structure.")
        return feature_part(grid, PROFILES[kernel], features, (1.0, factor))

    def describe(self) -> dict[str, Any]:
        """Return what a document has to hold: the checksum stands for the image."""
        return {"structure": "topograph", "sha256": self.digest}

    def to_json(self) -> dict[str, Any]:
        """Return everything, as a dict that JSON can hold."""
        return self.describe() | {"image": encode(self.image)}


@dataclass(frozen=True, eq=False)
class Library:
    """Maps of defects of the same class, measured before or simulated, as prior.

    Attributes
    ----------
    maps : ndarray, shape (K, ny, nx)
        Maps at the candidates, with the defect where it is expected in the new frame; any unit.
        The level of a map (its median) does not count.
    components : int
        How many components at most are kept.

    Raises
    ------
    ValueError
        If they are not finite images, all are flat, or no component is to be kept.
    """

    maps: npt.NDArray[np.float64] = field(repr=False)
    components: int = 40

    def __post_init__(self) -> None:
        maps = _image("The library", self.maps, 3)
        object.__setattr__(self, "maps", maps)
        require_count("components", self.components, 1)
        if not np.ptp(maps, axis=(1, 2)).max() > 0:
            raise ValueError("All maps of the library are flat; leave out the structure.")

    @cached_property
    def digest(self) -> str:
        """Checksum of the maps (SHA-256)."""
        return _digest(self.maps)

    @cached_property
    def basis(self) -> FloatArray:
        """Components weighted with the roots of their variances: shape (R, ny, nx)."""
        levelled = self.maps - np.median(self.maps, axis=(1, 2), keepdims=True)
        flat = levelled.reshape(len(levelled), -1)
        flat = flat / np.sqrt(np.mean(flat * flat))
        _, sizes, vectors = np.linalg.svd(flat, full_matrices=False)
        keep = min(self.components, int(np.sum(sizes > 1e-3 * sizes[0])))
        weighted = vectors[:keep] * (sizes[:keep, None] / np.sqrt(len(flat)))
        return weighted.reshape(keep, *self.maps.shape[1:])

    def part(self, grid: Grid, kernel: str, length: float, factor: float) -> Part:
        """Return the covariance on a frame.

        Raises
        ------
        ValueError
            If the maps do not have the grid's shape.
        """
        _require_shape("Each map of the library", self.maps[0], grid)
        return library_part(grid, self.basis)

    def describe(self) -> dict[str, Any]:
        """Return what a document has to hold: the checksum stands for the maps."""
        return {"structure": "library", "sha256": self.digest, "components": self.components}

    def to_json(self) -> dict[str, Any]:
        """Return everything, as a dict that JSON can hold."""
        return self.describe() | {"maps": encode(self.maps)}


Structure = Symmetry | Lattice | Topograph | Library


def images_of(structure: Structure | None) -> FloatArray | None:
    """Image (ny, nx) or maps (K, ny, nx) that a structure is made of; None if of none."""
    if isinstance(structure, Topograph):
        return structure.image
    return structure.maps if isinstance(structure, Library) else None


def structure_from_json(state: Mapping[str, Any], images: npt.ArrayLike | None = None) -> Structure:
    """Undo `to_json`, or `describe` with the image or the maps given again.

    What a structure has a default for may be left out.

    Parameters
    ----------
    state : mapping
        What was returned.
    images : array_like, optional
        The topograph (ny, nx) or the maps of the library (K, ny, nx).

    Raises
    ------
    ValueError
        If a key is unknown or missing, if an image is needed and not given, or if the image is
        another.
    """
    kind = state.get("structure")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"No structure {kind!r}; there are {', '.join(_KINDS)}.")
    made = _KINDS[kind]
    names = [entry.name for entry in fields(made)]
    # Documents hold the checksum of images, and the hyperparameters of a structure in use.
    unknown = set(state) - {*names, "structure", "hyperparameters"}
    if made in (Topograph, Library):
        unknown -= {"sha256"}
    if unknown:
        raise ValueError(
            f"A {kind} has no {', '.join(sorted(map(repr, unknown)))}; it has {', '.join(names)}."
        )
    given = {name: state[name] for name in names if name in state}
    first = names[0]
    if made in (Topograph, Library):
        if first in given:
            given[first] = _decoded(kind, given[first])
        elif images is not None:
            given[first] = images
        else:
            raise ValueError(
                f"The structure {kind!r} is named by its checksum only; give the image or the "
                "maps that the run had."
            )
    elif made is Lattice and first not in given:
        raise ValueError(f"A {kind} needs {first!r}: ((ax, ay), (bx, by)) in metres.")
    found = made(**given)
    if isinstance(found, Topograph | Library) and state.get("sha256", found.digest) != found.digest:
        raise ValueError(f"The {kind} given is not the one that the run had.")
    return found


_KINDS: dict[str, type[Structure]] = {
    "symmetry": Symmetry,
    "lattice": Lattice,
    "topograph": Topograph,
    "library": Library,
}


def _decoded(kind: str, given: Any) -> Any:
    """Array of a document; an array as it is."""
    if not isinstance(given, Mapping):
        return given
    try:
        return decode(given)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"The array of the {kind} is damaged ({type(error).__name__}: {error})."
        ) from error


def _vector(what: str, given: Any) -> tuple[float, float]:
    return require_pair(what, given, "two finite numbers in metres")


def _image(what: str, array: Any, dimensions: int) -> FloatArray:
    try:
        image = np.array(array, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(
            f"{what} is {array!r:.100}; give an array of numbers with {dimensions} dimensions."
        ) from None
    if image.ndim != dimensions or 0 in image.shape:
        raise ValueError(f"{what} has shape {image.shape}; it needs {dimensions} dimensions.")
    if not np.isfinite(image).all():
        raise ValueError(f"{what} has pixels that are not finite; fill them first.")
    image.flags.writeable = False
    return image


def _require_shape(what: str, image: FloatArray, grid: Grid) -> None:
    if image.shape != (grid.ny, grid.nx):
        raise ValueError(
            f"{what} has shape {image.shape} and the grid ({grid.ny}, {grid.nx}); give it at the "
            "candidates."
        )


def _digest(array: FloatArray) -> str:
    shape = json.dumps(list(array.shape)).encode()
    return hashlib.sha256(shape + np.ascontiguousarray(array, dtype="<f8").tobytes()).hexdigest()
