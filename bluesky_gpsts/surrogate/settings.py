"""The settings of an optimizer, checked once and kept as they were given."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy.typing as npt

from .acquisition import Acquisition, Cost
from .checks import require_between, require_count, require_flag, require_pair, require_positive
from .grid import Grid
from .kernels import get_kernel
from .scores import get_acquisition, get_cost
from .structures import Structure, structure_from_json
from .training import Prior

TRAIN_AT = (
    *(4, 6, 8, 10, 13, 16, 20, 25, 30, 36, 45, 60, 80, 100, 125, 160, 200, 250, 320, 400, 500),
    *(640, 800, 1000, 1250, 1600, 2000),
)


@dataclass(frozen=True)
class Settings:
    """Arguments of `MapOptimizer`, where they are described.

    Raises
    ------
    ValueError
        If one is not among those allowed.
    """

    grid: Grid
    parameters: tuple[str, str]
    outcome: str
    kernel: str
    acquisition: str | Acquisition
    n_initial: int
    seed: int
    train_at: tuple[int, ...]
    relative_noise: float
    prior: Prior
    max_points: int | None
    target_std: float | None
    min_points: int
    structure: Structure | None = None
    cost: str | Cost | None = None
    target_range: tuple[float, float] | None = None
    target_correlation: float | None = None
    background: bool = True
    components: int = 0

    def __post_init__(self) -> None:
        names = self.parameters
        if len(names) != 2 or names[0] == names[1]:
            raise ValueError(f"parameters is {names!r}; give two different names.")
        if not isinstance(self.grid, Grid):
            raise ValueError(f"grid is {self.grid!r}; give a Grid.")
        if not isinstance(self.prior, Prior):
            raise ValueError(f"prior is {self.prior!r}; give a Prior, such as Prior(length=0.1).")
        if self.structure is not None and not isinstance(self.structure, Structure):
            raise ValueError(
                f"structure is {self.structure!r}; give a Symmetry, Lattice, Topograph or Library "
                "(structure_from_json makes one of a dict)."
            )
        require_count("n_initial", self.n_initial, 1)
        require_count("seed", self.seed, 0)
        require_count("components", self.components, 0)
        require_count("min_points", self.min_points, 1)
        require_flag("background", self.background)
        if self.max_points is not None:
            require_count("max_points", self.max_points, 1)
        for count in self.train_at:
            require_count("train_at", count, 1)
        require_positive("relative_noise", self.relative_noise)
        if self.target_std is not None:
            require_positive("target_std", self.target_std)
        get_kernel(self.kernel)
        get_acquisition(self.acquisition)
        if self.cost is not None:
            get_cost(self.cost)
        if self.target_range is not None:
            wanted = "(low, high) in the unit of the outcome, the lower one first"
            low, high = require_pair("target_range", self.target_range, wanted)
            if low >= high:
                raise ValueError(f"target_range is {self.target_range!r}; give {wanted}.")
            object.__setattr__(self, "target_range", (low, high))
        elif self.acquisition == "target probability":
            raise ValueError(
                "The acquisition function 'target probability' needs target_range=(low, high) in "
                "the unit of the outcome."
            )
        if self.target_correlation is not None:
            require_between("target_correlation", self.target_correlation, 0.0, 1.0)

    @property
    def acquisition_name(self) -> str:
        """Name of the acquisition function, for documents."""
        if isinstance(self.acquisition, str):
            return self.acquisition
        return getattr(self.acquisition, "__name__", type(self.acquisition).__name__)

    def describe(self) -> dict[str, Any]:
        """Return what a document has to hold: checksums stand for images."""
        plain = self.to_json()
        plain["structure"] = None if self.structure is None else self.structure.describe()
        return plain

    def to_json(self) -> dict[str, Any]:
        """Return a dict that JSON can hold; a callable is there by its name only."""
        plain = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        plain["grid"] = self.grid.to_metadata()
        plain["prior"] = asdict(self.prior)
        plain["acquisition"] = self.acquisition_name
        if callable(self.cost):
            plain["cost"] = getattr(self.cost, "__name__", type(self.cost).__name__)
        plain["structure"] = None if self.structure is None else self.structure.to_json()
        return plain

    @classmethod
    def from_json(
        cls,
        state: Mapping[str, Any],
        acquisition: Acquisition | None = None,
        cost: Cost | None = None,
        images: npt.ArrayLike | None = None,
    ) -> "Settings":
        """Undo `to_json`, or `describe` with the images of the structure given again.

        A callable has to be given again.
        """
        values = dict(state)
        values["grid"] = Grid.from_metadata(state["grid"])
        values["prior"] = Prior(**state["prior"])
        values["parameters"] = tuple(state["parameters"])
        values["train_at"] = tuple(state["train_at"])
        if acquisition is not None:
            values["acquisition"] = acquisition
        if cost is not None:
            values["cost"] = cost
        if values.get("structure") is not None:
            values["structure"] = structure_from_json(values["structure"], images)
        return cls(**values)
