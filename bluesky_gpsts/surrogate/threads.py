"""One thread for the linear algebra of the surrogate."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_lock = threading.Lock()
_inside = 0
_limit: Any = None


@contextmanager
def single_thread() -> Iterator[None]:
    """Limit BLAS to one thread while the context is open.

    The matrices are small: on a control PC that is busy with other things, threads that wait for
    each other make training ten times slower. And the order of a sum, hence its last digit, then
    does not depend on the number of cores. The limit belongs to the process, so the first context
    sets it and the last to be left, in whichever thread, takes it back.
    """
    global _inside, _limit
    with _lock:
        if _inside == 0:
            _limit = _controller().limit(limits=1, user_api="blas")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _limit.restore_original_limits()


@cache
def _controller() -> Any:
    """Find the BLAS libraries once; looking for them takes longer than a suggestion."""
    # SciPy has a BLAS of its own, which the limit reaches only if it is loaded by now.
    import scipy.linalg  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
