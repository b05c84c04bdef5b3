"""One embedded catalog with a few runs for all tests of the analysis."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from analysis_runs import (  # noqa: E402
    Documents,
    Experiment,
    Keep,
    gp_sts_run,
    survey_run,
    truth_run,
)

from bluesky_gpsts.catalog import Catalog, open_catalog  # noqa: E402


@pytest.fixture(scope="session")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    with open_catalog(tmp_path_factory.mktemp("analysis") / "catalog") as opened:
        yield opened


@pytest.fixture(scope="session")
def keep(catalog: Catalog) -> Keep:
    """Write the documents of a run by way of the journal; returns the run's uid."""

    def write(documents: Documents) -> str:
        for name, doc in documents:
            catalog.journal(name, doc)
        uid: str = documents[0][1]["uid"]
        if documents[-1][0] == "stop":
            catalog.wait_delivered(uid, 120.0)
        return uid

    return write


@pytest.fixture(scope="session")
def experiment() -> Experiment:
    return Experiment()


@pytest.fixture(scope="session")
def whole(keep: Keep, experiment: Experiment) -> str:
    """A run with survey and truth; returns its uid."""
    survey = keep(survey_run(experiment))
    documents, _ = gp_sts_run(experiment, survey)
    uid = keep(documents)
    keep(truth_run(experiment, uid))
    return uid
