"""The files of deploy/ agree with each other, with the settings and with the versions that the tests ran with."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from cloud_assets.settings import PREFIX, Settings
from cloud_assets.version import __version__

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file())
KUSTOMIZATIONS = sorted(path.parent for path in KUBERNETES.rglob("kustomization.yaml"))
GUIDE = ROOT / "docs" / "how_to" / "cluster.md"
IS_SECRET = re.compile(r"PASSWORD|SECRET|ACCESS_KEY|TOKEN$|POSTGRES_URL")


def variables(path: Path) -> dict[str, str]:
    """Of a file of lines NAME=value."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def documents(path: Path) -> list[Any]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one is not None]


def containers(node: Any) -> Iterator[dict[str, Any]]:
    """Everything that has an image and a name, however deep it lies."""
    if isinstance(node, list):
        for one in node:
            yield from containers(one)
    elif isinstance(node, dict):
        if isinstance(node.get("image"), str) and "name" in node:
            yield node
        for one in node.values():
            yield from containers(one)


def test_every_file_parses() -> None:
    kinds = {path.suffix for path in FILES}
    assert {".yaml", ".example", ".env", ".sql"} <= kinds
    for path in FILES:
        if path.suffix == ".yaml":
            assert documents(path), path
        elif path.suffix in (".env", ".example"):
            assert variables(path), path


def test_every_variable_is_a_setting_or_explained() -> None:
    settings = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    explained = GUIDE.read_text() + (DEPLOY / "cluster.env.example").read_text()
    own = {f"{PREFIX}IMAGE"}  # of Compose alone
    stored = variables(KUBERNETES / "secrets.env.example")
    for path in FILES:
        for name in set(re.findall(rf"\b{PREFIX}[A-Z_]+\b", path.read_text())):
            assert name in settings | own, f"{path.name} names {name}"
        given = set(variables(path)) if path.suffix in (".env", ".example") else set()
        if path.suffix == ".yaml":
            given = {one["name"] for box in containers(documents(path)) for one in box.get("env", ())}
        if path.name == "compose.yaml":
            given = {name for one in documents(path)[0]["services"].values() for name in one.get("environment", ())}
        for name in given:
            assert name in explained or name in stored, f"{path.name} gives {name}, which no page explains"


def test_ray_waits_for_a_free_node_as_long_as_dagster() -> None:
    """Else its job ends while Dagster goes on waiting for it."""
    (instance,) = documents(DEPLOY / "dagster.cluster.yaml")
    patience = str(instance["run_monitoring"]["start_timeout_seconds"])
    for path in (DEPLOY / "cluster.env.example", KUBERNETES / "base" / "environment.env"):
        assert variables(path)["RAY_JOB_START_TIMEOUT_SECONDS"] == patience, path


def test_kubernetes_gives_the_same_environment_as_the_other_ways() -> None:
    everywhere = set(variables(DEPLOY / "cluster.env.example"))
    there = set(variables(KUBERNETES / "base" / "environment.env"))
    secrets = {name for name in everywhere if IS_SECRET.search(name)}
    # Of Dagster's chart; KubeRay gives the token itself, not a file.
    others = {"DAGSTER_HOME", "DAGSTER_POSTGRES_URL", "RAY_AUTH_TOKEN_PATH"}
    assert there == everywhere - secrets - others
    (cluster,) = documents(KUBERNETES / "base" / "ray-cluster.yaml")
    for box in containers(cluster):
        given = {one["name"] for one in box["env"]}
        assert given == secrets - others | {"DAGSTER_PG_PASSWORD"}, box["name"]
        assert box["envFrom"] == [{"configMapRef": {"name": "cloud-assets-environment"}}]


def test_secrets_are_references() -> None:
    stored = set(variables(KUBERNETES / "secrets.env.example"))
    for path in KUBERNETES.rglob("*.yaml"):
        text = path.read_text()
        assert set(re.findall(r"name: cloud-assets-secrets, key: ([\w-]+)", text)) <= stored
        for box in containers(documents(path)):
            for one in box.get("env", ()):
                if IS_SECRET.search(one["name"]):
                    assert "secretKeyRef" in one["valueFrom"], f"{path.name}: {one['name']}"
    ignored = (DEPLOY / ".gitignore").read_text().split()
    assert {"cluster.env", "ray_token", "secrets.env"} <= set(ignored)


def test_no_run_takes_the_environment_along() -> None:
    """Ray's list of jobs shows its values to everybody."""
    launcher = documents(DEPLOY / "dagster.cluster.yaml")[0]["run_launcher"]
    assert "env_vars" not in launcher["config"]["ray"]


def test_the_charts_instance_is_the_one_of_the_instance_file() -> None:
    (instance,), (values,) = documents(DEPLOY / "dagster.cluster.yaml"), documents(KUBERNETES / "dagster-values.yaml")
    daemon, more = values["dagsterDaemon"], values["additionalInstanceConfig"]

    def in_snakes(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        return {re.sub(r"[A-Z]", lambda sign: f"_{sign[0].lower()}", key): in_snakes(one) for key, one in node.items()}

    coordinator = daemon["runCoordinator"]["config"]["customRunCoordinator"]
    assert {name: coordinator[name] for name in ("module", "class")} == instance["run_coordinator"]
    assert values["runLauncher"]["config"]["customRunLauncher"] == instance["run_launcher"]
    assert in_snakes(values["computeLogManager"]["config"]["s3ComputeLogManager"]) == instance["compute_logs"]["config"]
    for name, theirs in (("run_monitoring", "runMonitoring"), ("run_retries", "runRetries")):
        assert in_snakes(daemon[theirs]) == instance[name], name
    for name in ("schedules", "sensors"):
        assert in_snakes(daemon[name]) == instance[name], name
    assert in_snakes({**values["retention"], "enabled": None}) == {**instance["retention"], "enabled": None}
    for name in ("concurrency", "freshness", "nux"):
        assert more[name] == instance[name], name
    assert values["telemetry"] == instance["telemetry"]


def test_versions_are_those_of_the_constraints() -> None:
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    (cluster,) = documents(KUBERNETES / "base" / "ray-cluster.yaml")
    assert cluster["spec"]["rayVersion"] == pinned["ray"]
    named = re.findall(r"--version ([\d.]+)", (KUBERNETES / "dagster-values.yaml").read_text() + GUIDE.read_text())
    assert set(named) == {pinned["dagster"]}
    text = "\n".join(path.read_text() for path in FILES)
    assert set(re.findall(r"cloud-assets:(\d[\w.]*)", text)) == {__version__}
    assert not re.search(r"image: .*:latest", text)
    python = re.search(r"ARG PYTHON=([\d.]+)", (DEPLOY / "Dockerfile").read_text())
    assert python
    assert f"python{python[1]}" in (ROOT / ".ci" / "run").read_text() or python[1] in "3.11 3.12 3.13"


def test_the_image_runs_as_somebody_and_finds_its_programs() -> None:
    last = (DEPLOY / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    assert re.search(r"^USER (?!root)", last, re.MULTILINE)
    assert "ENV PATH=/opt/venv/bin:$PATH" in last
    assert "/etc/profile.d/" in last, "KubeRay's login shell sets PATH anew"
    assert re.search(r"apt-get install .*libexpat1 .*wget", last), "of GDAL, and of KubeRay's probes"
    for line in re.findall(
        r"^COPY (?:--chown=\w+ )?((?!--from).+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE
    ):
        *sources, _ = line.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in (DEPLOY / "Dockerfile.dockerignore").read_text()


def test_compose_listens_on_this_machine_only_and_names_what_there_is() -> None:
    (compose,) = documents(DEPLOY / "compose.yaml")
    services = compose["services"]
    assert {"webserver", "daemon", "mlflow", "postgres", "object-store", "ray-head", "ray-worker"} <= set(services)
    ends = {name for name, one in services.items() if one["restart"] == "on-failure"}
    for name, one in services.items():
        assert all(port.startswith("127.0.0.1:") for port in one.get("ports", ())), name
        assert name in ends or "healthcheck" in one, name
        for other, how in one.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other in ends else "service_healthy"
            assert how["condition"] == wanted, f"{name} -> {other}"
        named = {each.split(":")[0] for each in one.get("volumes", ()) if not each.startswith(".")}
        assert named <= set(compose["volumes"])
        assert all((DEPLOY / each.split(":")[0]).exists() for each in one.get("volumes", ()) if each.startswith("."))
        assert set(one.get("secrets", ())) <= set(compose["secrets"])
    for variable, value in variables(DEPLOY / "cluster.env.example").items():
        host = re.match(r"[\w+]+://(?:[^@/]*@)?([\w-]+):\d+", value)
        assert host is None or host[1] in {*services, "127"}, f"{variable} names {value}"


@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=lambda folder: folder.name)
def test_a_kustomization_names_its_files(folder: Path) -> None:
    (made,) = documents(folder / "kustomization.yaml")
    named = [*made["resources"], *made.get("configurations", ()), *(one["path"] for one in made.get("patches", ()))]
    named += [name for one in made.get("configMapGenerator", ()) for name in one.get("envs", ())]
    assert {name for name in named if not name.startswith("..")} | {"kustomization.yaml"} == {
        path.name for path in folder.iterdir()
    }
    assert all((folder / name).exists() for name in named)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kustomize is part of kubectl")
@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=lambda folder: folder.name)
def test_kustomize_builds_what_kubernetes_takes(folder: Path, tmp_path: Path) -> None:
    built = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=True).stdout
    objects = list(yaml.safe_load_all(built))
    (cluster,) = [one for one in objects if one["kind"] == "RayCluster"]
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    assert {box["image"].split("-cuda")[0] for box in containers(groups)} == {f"cloud-assets:{__version__}"}
    for one in objects:
        for box in containers(one):
            assert box["securityContext"]["allowPrivilegeEscalation"] is False, box["name"]
    if find_spec("kubernetes_validate") is None:
        return
    # No schema of Ray's is known offline: its pods are checked as pods.
    pods = [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ray"}, **group["template"]} for group in groups]
    (tmp_path / "objects.yaml").write_text(yaml.safe_dump_all([*(one for one in objects if one != cluster), *pods]))
    from kubernetes_validate.utils import validate

    for one in yaml.safe_load_all((tmp_path / "objects.yaml").read_text()):
        validate(one, "1.32", strict=True)


def test_compose_is_of_its_specification() -> None:
    compose_spec = pytest.importorskip("compose_spec")
    text = re.sub(r"\$\{(\w+):-([^}]*)\}", r"\2", (DEPLOY / "compose.yaml").read_text())
    text = re.sub(r"\$\{(\w+):\?[^}]*\}", "given", text)
    found = compose_spec.PyCompose.from_json(json.dumps(yaml.safe_load(text)))
    assert "ray-worker" in found.service_names()
