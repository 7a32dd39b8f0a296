"""One cluster for all tests here: ``pytest -m cluster cloud_assets_tests/cluster``, an hour on two cores."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from cloud_assets_tests.cluster.demo import results_of_a_laptop
from cloud_assets_tests.cluster.machines import Cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """PostgreSQL, S3 server, two Ray nodes, daemon."""
    for module in ("dagster_ray", "dagster_postgres", "dagster_aws", "moto"):
        pytest.importorskip(module, reason="the extra `cluster` is not installed")
    if shutil.which("initdb") is None and not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        pytest.skip("PostgreSQL is not installed")
    cluster = Cluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def instance(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """The instance of the cluster, as a process of it sees it."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.get() as instance:
        yield instance


@pytest.fixture(scope="session")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the demonstration makes in one process, with everything in a folder."""
    return results_of_a_laptop(tmp_path_factory.mktemp("laptop"))
