"""Where tasks of one's own are described: one YAML file each."""

from pathlib import Path

from cloud_assets.settings import settings


def tasks_folder() -> Path | None:
    """The folder of the files; None where results lie in an object store and no folder is named."""
    found = settings()
    if found.tasks is not None:
        return found.tasks
    return None if "://" in found.home else Path(found.home).expanduser().absolute() / "tasks"


def task_files() -> list[Path]:
    """The files, in the order of their names."""
    folder = tasks_folder()
    return sorted(folder.glob("*.yaml")) if folder is not None and folder.is_dir() else []
