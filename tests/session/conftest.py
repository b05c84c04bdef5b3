"""One demo for all tests that look at what it leaves behind."""

import pytest
from demo_runs import Demo, run_demo


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The main job on WS2, 60 spectra."""
    return run_demo(tmp_path_factory.mktemp("ws2") / "demo")
