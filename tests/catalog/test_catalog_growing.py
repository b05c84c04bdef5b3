"""Arrays that Tiled cannot read at the moment at which they are asked for."""

from typing import Any

import httpx
import numpy as np
import pytest

from bluesky_gpsts.catalog import read


class Growing:
    """An array that fails as Tiled does while it is written, so many times."""

    def __init__(self, failures: int, status: int = 500) -> None:
        self.failures, self.status = failures, status

    def read(self) -> Any:
        if self.failures:
            self.failures -= 1
            request = httpx.Request("GET", "http://127.0.0.1/array")
            response = httpx.Response(self.status, request=request)
            raise httpx.HTTPStatusError("it grows", request=request, response=response)
        return np.arange(3)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "_PAUSE", 0.0)


def test_it_is_asked_for_again() -> None:
    np.testing.assert_array_equal(read._array({"a": Growing(3)}, "a"), np.arange(3))


@pytest.mark.parametrize(("failures", "status"), [(99, 500), (1, 403)])
def test_what_does_not_pass_is_told(failures: int, status: int) -> None:
    with pytest.raises(httpx.HTTPStatusError):
        read._array({"a": Growing(failures, status)}, "a")
