"""Fixtures of the catalog's tests: one embedded catalog for all that do not break it."""

from collections.abc import Iterator

import pytest

from bluesky_gpsts.catalog import Catalog, open_catalog


@pytest.fixture(scope="session")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    """Embedded catalog with server and deliverer, in a directory with a space in its name."""
    with open_catalog(tmp_path_factory.mktemp("catalog") / "my catalog") as opened:
        yield opened
