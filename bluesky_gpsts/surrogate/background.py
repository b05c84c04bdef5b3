"""Work in a thread of its own, whose result is asked for later."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from .threads import single_thread

T = TypeVar("T")


class Job(Generic[T]):
    """A function that runs in the background.

    Parameters
    ----------
    work : callable
        Called once, without arguments; must not touch what others change meanwhile.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._result: T | None = None
        self._error: BaseException | None = None
        # A daemon: a session that ends does not wait for hyperparameters nobody will use.
        self._thread = threading.Thread(target=self._run, name="surrogate-training", daemon=True)
        self._thread.start()

    def result(self) -> T:
        """Wait for the result; raises what the function raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]

    def _run(self) -> None:
        try:
            with single_thread():
                self._result = self._work()
        except BaseException as error:  # noqa: BLE001 - raised again by result()
            self._error = error
