import importlib.util
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_folder_of_code_is_found_as_a_package() -> None:
    assert project()["tool"]["setuptools"]["packages"]["find"]["include"] == ["cloud_assets", "cloud_assets.*"]
    folders = {module.parent for module in (ROOT / "cloud_assets").rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders)


def test_the_folder_of_the_tracking_server_does_not_shadow_mlflow() -> None:
    assert not (ROOT / "mlflow" / "__init__.py").exists()
    specification = importlib.util.find_spec("mlflow")
    assert specification is not None
    assert specification.origin is not None
    assert ROOT / "mlflow" not in Path(specification.origin).parents


def test_every_dependency_has_an_exact_version_in_the_constraints() -> None:
    exact = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    settings = project()["project"]
    groups = [settings["dependencies"], *settings["optional-dependencies"].values()]
    wanted = {
        requirement.split("[")[0].split("=")[0].split("<")[0].split(">")[0].strip().lower().replace("_", "-")
        for group in groups
        for requirement in group
    } - {"cloud-assets"}
    assert wanted <= exact


def test_addresses_of_postgresql_name_their_driver() -> None:
    # SQLAlchemy 2.1 takes postgresql:// for psycopg 3; what Dagster, MLflow and Optuna are installed with is psycopg2.
    texts = {
        ROOT / "mlflow" / "start_server.sh",
        *ROOT.glob("*.yaml"),
        ROOT / "README.md",
        *(ROOT / "docs").rglob("*.md"),
    }
    texts |= {file for file in (ROOT / "cloud_assets").rglob("*") if file.suffix in (".py", ".yaml")}
    assert [file for file in texts if "postgresql://" in file.read_text()] == []
