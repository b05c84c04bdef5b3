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
        If it is neither, or a key is unknown, missing or out of range.
    """
    from bluesky_gpsts.surrogate import Structure, structure_from_json

    if given is None or isinstance(given, Structure):
        return given
    if not isinstance(given, Mapping):
        raise ValueError(
            f"structure is {given!r}; give a structure of bluesky_gpsts.surrogate or what its "
            "to_json returns, such as {'structure': 'symmetry', 'kind': 'C3', 'center': [0, 0]}"
        )
    return structure_from_json(given)


def known_prior(given: Any) -> Any:
    """Return the `bluesky_gpsts.surrogate.Prior` that an argument of a plan describes.

    Parameters
    ----------
    given : mapping, Prior or None
        Fields of the prior, the prior itself, or None for its defaults.

    Raises
    ------
    ValueError
        If it is neither, or a field is unknown or out of range.
    """
    from bluesky_gpsts.surrogate import Prior

    if given is None or isinstance(given, Prior):
        return given or Prior()
    names = [field.name for field in fields(Prior)]
    if not isinstance(given, Mapping):
        raise ValueError(
            f"prior is {given!r}; give a bluesky_gpsts.surrogate.Prior, or a dict with some of "
            f"{', '.join(names)}"
        )
    for name in given:
        if name not in names:
            raise ValueError(f"the prior has no {name!r}; it has {', '.join(names)}")
    return Prior(**given)
