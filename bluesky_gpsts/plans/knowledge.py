"""What is known before the first spectrum, as a plan's argument: plain data, or the object."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

__all__ = ["known_prior", "known_structure"]


def known_structure(given: Any) -> Any:
    """Return the structure that an argument of a plan describes.

    Parameters
    ----------
    given : mapping, object or None
        What ``to_json`` of a structure of `bluesky_gpsts.surrogate` returns, with only the keys
        that are not left at their defaults, or the structure itself.

    Raises
    ------
    ValueError
        If it is neither, or damaged.
    """
    from bluesky_gpsts.surrogate import Structure, structure_from_json

    if given is None or isinstance(given, Structure):
        return given
    if not isinstance(given, Mapping):
        raise ValueError(
            f"structure is {given!r}; give a structure of bluesky_gpsts.surrogate or what its "
            "to_json returns, such as {'structure': 'symmetry', 'kind': 'C3', 'center': [0, 0]}"
        )
    return structure_from_json({**_DEFAULTS.get(str(given.get("structure")), {}), **given})


_DEFAULTS: dict[str, dict[str, Any]] = {
    "symmetry": {"kind": "C3", "center": None, "mirror": False, "center_error": None},
    "lattice": {"error": 0.02},
    "library": {"components": 40},
}


def known_prior(given: Mapping[str, Any] | None) -> Any:
    """Return the `bluesky_gpsts.surrogate.Prior` with the given fields.

    Raises
    ------
    ValueError
        If a field is unknown or not a number above zero.
    """
    from bluesky_gpsts.surrogate import Prior

    names = [field.name for field in fields(Prior)]
    for name, value in (given or {}).items():
        if name not in names:
            raise ValueError(f"the prior has no {name!r}; it has {', '.join(names)}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ValueError(f"{name} of the prior is {value!r}; give a number above zero")
    return Prior(**(given or {}))
