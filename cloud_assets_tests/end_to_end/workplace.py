"""A workplace as a user has one: a folder, the real command line, and nothing inherited from the environment."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.instance import InstanceRef

DAGSTER = str(Path(sys.executable).with_name("dagster"))


@dataclass(frozen=True)
class Workplace:
    """A folder that commands are started in."""

    folder: Path
    environment: Mapping[str, str]

    def start(self, command: Sequence[str]) -> subprocess.Popen[str]:
        """Starts a command; what it prints goes to ``log.txt``."""
        with (self.folder / "log.txt").open("w") as log:
            return subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=log, stderr=subprocess.STDOUT, text=True
            )

    def printed(self) -> str:
        """What the last command printed."""
        return (self.folder / "log.txt").read_text()

    def run(self, command: Sequence[str]) -> str:
        """Runs a command to its end and returns what it printed."""
        code = self.start(command).wait(timeout=580)
        assert code == 0, self.printed()
        return self.printed()

    def job(self, name: str, config: str) -> list[str]:
        """The command that executes a job with a configuration."""
        (self.folder / "config.yaml").write_text(config)
        return [DAGSTER, "job", "execute", "-m", "cloud_assets.definitions", "-j", name, "-c", "config.yaml"]

    def materialisation(self, *key: str) -> Any:
        """An asset's latest materialisation, as the instance that the UI shows knows it."""
        with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(self.folder / ".dagster"))) as instance:
            event = instance.get_latest_materialization_event(dg.AssetKey(list(key)))
        assert event is not None
        return event.asset_materialization

    def data_version(self, *key: str) -> str:
        """An asset's latest data version."""
        return str(self.materialisation(*key).tags["dagster/data_version"])
