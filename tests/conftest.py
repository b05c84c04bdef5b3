"""Fixtures that every test package shares."""

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real measurements, which lies beside the project and is not part of it."""
    if not SHARED_DATA.is_dir():
        pytest.fail(f"The real measurements are not at {SHARED_DATA}; put the folder there.")
    return SHARED_DATA
