"""When the drift is checked, and how."""

from dataclasses import dataclass

from bluesky_gpsts.plans.checks import require_count, require_positive

__all__ = ["DriftChecks"]

_SMALLEST = 0.5e-9


@dataclass(frozen=True)
class DriftChecks:
    """When the drift is checked, and how.

    Attributes
    ----------
    every : int
        Spectra from one check to the next; 10 in Thomas et al., npj Comput. Mater. 8, 99 (2022).
    limit : float
        A check comes earlier if the predicted position is less certain than this, in pixels of
        the image (one standard deviation).
    pixels : int
        Pixels and lines of the image; a multiple of 16.
    line_time : float
        Seconds for a line, forward and again backward.
    size : float
        Side (m) of the imaged square, about the middle of the scan frame; 0 images the scan frame
        itself. Take one in which there is more than a lattice.
    feature : bool
        Compare a patch around the most distinctive feature, instead of the whole image.
    method : str
        "phase", or "block-matching" as in the paper; see `bluesky_gpsts.images.register`.
    retries : int
        Further images where a check fails, before a larger frame is imaged.
    compensate : bool
        Let the controller follow the drift between the checks. It is switched off again if the
        residual does not shrink.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    every: int = 10
    limit: float = 0.5
    pixels: int = 64
    line_time: float = 0.3
    size: float = 0.0
    feature: bool = False
    method: str = "phase"
    retries: int = 1
    compensate: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be carried out."""
        require_count("drift: every", self.every, 1)
        require_positive("drift: limit", self.limit, "pixels")
        require_count("drift: pixels", self.pixels, 32, 1024)
        if self.pixels % 16:
            raise ValueError(f"drift: pixels must be a multiple of 16, not {self.pixels}")
        require_positive("drift: line_time", self.line_time, "s")
        require_positive("drift: size", self.size, "m", or_zero=True)
        if 0.0 < self.size < _SMALLEST:
            raise ValueError(f"drift: size is {self.size!r} m; give 0 or at least {_SMALLEST:g} m")
        if self.method not in ("phase", "block-matching"):
            raise ValueError(
                f"drift: no method {self.method!r}; choose 'phase' or 'block-matching'"
            )
        require_count("drift: retries", self.retries, 0, 10)
        for name in ("feature", "compensate"):
            if not isinstance(getattr(self, name), bool):
                given = getattr(self, name)
                raise ValueError(f"drift: {name} must be True or False, not {given!r}")
