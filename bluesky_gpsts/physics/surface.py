"""What a surface is to the rest of the package: a separable density of states and a height.

    rho(x, y, E) = sum_k A_k(x, y) g_k(E),   k < K, K small.

The lateral amplitudes A_k carry the position, the spectra g_k the energy, so that a map needs
no spectrum and a spectrum no map.
"""

from typing import Protocol, Self, runtime_checkable

from .constants import FloatArray


@runtime_checkable
class Surface(Protocol):
    """A sample surface in its own frame (the sample frame, without drift).

    Amplitudes and spectra are never negative, and at least one amplitude times its spectrum
    is positive at every energy: the current then always has the sign of the bias.
    """

    @property
    def name(self) -> str:
        """Name in the registry of surfaces."""
        ...

    @property
    def work_function(self) -> float:
        """Mean work function of sample and tip (eV)."""
        ...

    @property
    def bias_limits(self) -> tuple[float, float]:
        """Lowest and highest bias (V) at which the model holds."""
        ...

    @property
    def sweep(self) -> tuple[float, float]:
        """Usual start and end of a bias sweep (V)."""
        ...

    @property
    def window(self) -> tuple[float, float]:
        """Bias window (V) whose integrated dI/dV shows what is of interest."""
        ...

    @property
    def imaging(self) -> tuple[float, float]:
        """Usual bias (V) and current setpoint (A) for images and before spectra."""
        ...

    @property
    def clean(self) -> FloatArray:
        """Amplitudes (K,) of the surface far from defects, averaged over the lattice."""
        ...

    def components(self, x: FloatArray, y: FloatArray, blur: float = 0.0) -> FloatArray:
        """Amplitudes A_k (n, K) at positions (n,) in m, seen by a tip of width `blur` (m)."""
        ...

    def spectra(self, energy: FloatArray) -> FloatArray:
        """Spectra g_k (K, m) at energies (m,) in eV relative to the sample's Fermi level."""
        ...

    def height(self, x: FloatArray, y: FloatArray, blur: float = 0.0) -> FloatArray:
        """Geometric height (n,) in m, positive towards the tip."""
        ...


@runtime_checkable
class Metal(Surface, Protocol):
    """A metal: its atoms stick to a tip that touches it, and what the tip loses stays on it."""

    def bare(self, x: float, y: float, radius: float) -> bool:
        """Whether there is neither step nor adsorbate within `radius` (m) of a position (m)."""
        ...

    def marked(self, x: float, y: float, height: float, radius: float) -> Self:
        """Return the surface with a heap of `height` and `radius` (m) at a position (m)."""
        ...
