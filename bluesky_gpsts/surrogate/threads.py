"""One thread for the linear algebra of the surrogate."""

from contextlib import AbstractContextManager


def single_thread() -> AbstractContextManager[object]:
    """Limit BLAS to one thread while the context is open.

    The matrices are small: on a control PC that is busy with other things, threads that wait for
    each other make training ten times slower. And the order of a sum, hence its last digit, then
    does not depend on the number of cores.
    """
    # SciPy has a BLAS of its own, which the limit reaches only if it is loaded by now.
    import scipy.linalg  # noqa: F401
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1, user_api="blas")
