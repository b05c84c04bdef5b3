"""Ophyd signals whose value lives in the controller."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from ophyd import Signal
from ophyd.status import Status

from bluesky_gpsts.devices.background import in_background
from bluesky_gpsts.devices.limits import LimitError, Limits, require_number
from bluesky_gpsts.devices.link import Link
from bluesky_gpsts.devices.settings import SETTINGS

__all__ = ["ArraySignal", "Quantity", "ReadOnly", "SettingSignal", "link_of"]


def link_of(device: Any) -> Link:
    """Connections of the microscope that `device` belongs to."""
    link: Link = device.root.link
    return link


def limits_of(device: Any) -> Limits:
    """Limits of the microscope that `device` belongs to."""
    limits: Limits = device.root.instrument_limits
    return limits


class Quantity(Signal):
    """A value with a unit and a precision, held by the device itself.

    Parameters
    ----------
    units : str
        SI unit, "" for none.
    precision : int
        Digits after the point that a table shows.
    **kwargs
        As for ``ophyd.Signal``.
    """

    def __init__(self, *, units: str = "", precision: int = 4, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.precision = precision

    def set(self, value: Any, **kwargs: Any) -> Status:
        """Keep `value`; done at once (a comparison with what was read would never end at NaN)."""
        self.put(value)
        status = Status(obj=self)
        status.set_finished()
        return status

    def describe(self) -> dict[str, Any]:
        """Data key with unit, precision and the exact type of an array."""
        described: dict[str, Any] = super().describe()
        key = described[self.name]
        key["source"] = f"nanonis:{self.name}"
        if self.units:
            key["units"] = self.units
        if key["dtype"] == "number":
            key["precision"] = self.precision
        value = self._readback
        if isinstance(value, np.ndarray):
            key["dtype_numpy"] = value.dtype.str
        return described


class ArraySignal(Quantity):
    """An array that a measurement leaves behind."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(value=np.zeros(0), **kwargs)


class ReadOnly(Quantity):
    """A value of the controller that a command reads.

    Parameters
    ----------
    command : str
        Command that reads it.
    arguments : tuple
        Its arguments.
    index : int
        Place of the value in the reply.
    """

    def __init__(
        self, *, command: str, arguments: tuple[Any, ...] = (), index: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(value=0.0, **kwargs)
        self.command = command
        self.arguments = arguments
        self.index = index

    def get(self, **kwargs: Any) -> float:
        """Value as the controller has it now."""
        value = link_of(self).main.call(self.command, *self.arguments)[self.index]
        self._readback = float(value)
        self._metadata["timestamp"] = time.time()
        return float(value)

    def put(self, value: Any, **kwargs: Any) -> None:
        """Refuse: the value can only be read."""
        raise PermissionError(f"{self.name} can only be read")


class SettingSignal(Quantity):
    """A setting of the controller, one value of a group of `settings.SETTINGS`.

    Parameters
    ----------
    group : str
        Name of the group.
    index : int
        Place of the value in the group.
    check : callable, optional
        ``check(limits, value)`` refuses a value that the instrument does not allow.
    whole : bool
        Whether the value is a whole number.
    """

    def __init__(
        self,
        *,
        group: str,
        index: int = 0,
        check: Callable[[Limits, float], Any] | None = None,
        whole: bool = False,
        **kwargs: Any,
    ) -> None:
        if whole:
            kwargs.setdefault("precision", 0)
        super().__init__(value=0.0, **kwargs)
        self.group = SETTINGS[group]
        self.index = index
        self.whole = whole
        self._check = check

    def get(self, **kwargs: Any) -> float:
        """Value as the controller has it now."""
        value = self.group.read(link_of(self).main)[self.index]
        self._readback = float(value)
        self._metadata["timestamp"] = time.time()
        return float(value)

    def set(self, value: Any, **kwargs: Any) -> Status:
        """Write the value in the background; what is out of limits is refused at once."""
        link_of(self).gate.require_writing(self.name)
        self.check_value(value)
        return in_background(self, lambda: self.put(value))

    def check_value(self, value: Any) -> None:
        """Refuse a value that is no number or out of limits, as `put` does; nothing is written.

        Raises
        ------
        LimitError
            If the instrument does not allow the value.
        """
        number = self._number(value)
        values = list(self.group.read(link_of(self).main))
        self._change(values, number)
        self._refuse(values)

    def _number(self, value: Any) -> float:
        """The value as the controller takes it; switches are numbers, too."""
        switch = self.whole and isinstance(value, bool)
        number = require_number(self.name, int(value) if switch else value)
        if self.whole and number != int(number):
            raise LimitError(f"{self.name} must be a whole number, not {value!r}")
        return int(number) if self.whole else number

    def put(self, value: Any, **kwargs: Any) -> None:
        """Write the value, and no other of its group; out of limits it is refused.

        Raises
        ------
        LimitError
            If the instrument does not allow the value; nothing was written then.
        """
        number = self._number(value)
        link = link_of(self)
        with link.writing, link.gate.planning():
            self._write(number)

    def _write(self, number: float) -> None:
        client = link_of(self).main
        values = list(self.group.read(client))
        self._change(values, number)
        self._refuse(values)
        self.group.write(client, values)
        self._confirm(number)

    def _change(self, values: list[Any], number: float) -> None:
        """Put the new value into the group."""
        values[self.index] = number

    def _refuse(self, values: list[Any]) -> None:
        """Raise LimitError if the group may not be written with `values`."""
        if self._check is not None:
            self._check(limits_of(self), values[self.index])

    def _confirm(self, number: float) -> None:
        """Read back what was written, and tell the subscribers; a dry run has written nothing."""
        if link_of(self).main.dry:
            return
        effective = self.group.read(link_of(self).main)[self.index]
        # The controller keeps 32 bits, and rounds some settings to what it can do.
        if not np.isclose(effective, number, rtol=1e-5, atol=0):
            raise LimitError(
                f"{self.name} was set to {number:g} {self.units} and the controller "
                f"made it {effective:g}; choose a value that it can keep"
            )
        old, self._readback = self._readback, float(number)
        self._metadata["timestamp"] = time.time()
        self._run_subs(
            sub_type=self.SUB_VALUE,
            old_value=old,
            value=self._readback,
            timestamp=self._metadata["timestamp"],
        )
