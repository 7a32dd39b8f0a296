"""Resources: the folders of data and results, and MLflow."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import dagster as dg
from filelock import FileLock
from pydantic import Field

from cloud_assets.datasets.dataset import Dataset
from cloud_assets.datasets.samples import SYNTHETIC_MARKER
from cloud_assets.orchestration.common.io_manager import AssetFolders, is_local
from cloud_assets.scenes.product_record import RECORD_FILE
from cloud_assets.settings import settings

if TYPE_CHECKING:
    from upath import UPath

    from cloud_assets.inference.bundle import ModelBundle
    from cloud_assets.tracking import Tracker

Source = Literal["auto", "sample"]


class Folders(dg.ConfigurableResource["Folders"]):
    """Where raw data come from and where results go. Empty values follow the environment at the time of the run."""

    data: str = Field(
        default="", description="Folder of the raw data sets. Empty: CLOUD_ASSETS_DATA, else the embedded sample."
    )
    home: str = Field(
        default="", description="Where results go: a folder or an object store. Empty: CLOUD_ASSETS_HOME, else data."
    )
    inbox: str = Field(
        default="", description="Folder that scenes are dropped into. Empty: CLOUD_ASSETS_INBOX, else inbox at home."
    )

    @property
    def results(self) -> "UPath":
        """Where results go; absolute."""
        from upath import UPath

        place = UPath(self.home or settings().home)
        return place.absolute() if is_local(place) else place

    @property
    def working(self) -> Path:
        """A local folder for what outlives a run but is no asset: checkpoints, caches, the sample."""
        results = self.results
        return Path(results.path) if is_local(results) else Path("data").absolute()

    @property
    def incoming(self) -> Path:
        """The folder that scenes are dropped into."""
        given = Path(self.inbox).expanduser().absolute() if self.inbox else settings().inbox
        return given or self.working / "inbox"

    @property
    def scenes(self) -> Path:
        """Where the products of scenes are made; they are rasters, which need a file system of this machine."""
        return self.working / "scenes"

    def publish_scene(self, directory: Path) -> None:
        """Copies the products of a scene to where results go, if that is not this machine; the record comes last."""
        if is_local(self.results):
            return
        target = self.results / "scenes" / directory.name
        for file in sorted(directory.iterdir(), key=lambda file: file.name == RECORD_FILE):
            target.mkdir(parents=True, exist_ok=True)
            target.fs.put_file(str(file), (target / file.name).path)

    @property
    def training(self) -> Path:
        """Where the workspaces of trainings are."""
        return self.working / ".training"

    def workspace(self, bundle: "ModelBundle") -> Path:
        """The workspace of the training that a model comes from."""
        from cloud_assets.lifecycle.training import workspace_of

        card = bundle.card
        return workspace_of(self.training, card.task, card.variant, card.training.fingerprint)

    @property
    def _given_data(self) -> Path | None:
        return Path(self.data).expanduser().absolute() if self.data else settings().data

    def present_data(self, dataset: Dataset) -> Path:
        """The data set's own folder that the next run would read; it may not be there yet."""
        return dataset.place or (self._given_data or self.working / "sample") / dataset.folder

    def raw_data(self, dataset: Dataset, source: Source, sample_scale: float) -> Path:
        """The folder to read a data set from; makes the embedded sample if there is nothing else.

        Args:
            dataset: The data set.
            source: ``sample`` for the embedded sample whatever there is.
            sample_scale: Size of the sample relative to the embedded one.

        Returns:
            The folder that holds the data set's own.
        """
        if dataset.place is not None:
            return dataset.place
        if self._given_data and source == "auto":
            return self._given_data
        root = self.working / ("sample" if sample_scale == 1 else f"sample-{sample_scale:g}")
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{dataset.folder}.lock"):
            if not (root / dataset.folder / SYNTHETIC_MARKER).is_file():
                dataset.write_sample(root, scale=sample_scale)
        return root


class AssetStore(dg.ConfigurableIOManagerFactory[AssetFolders]):
    """Keeps each asset in its own folder of the results."""

    folders: dg.ResourceDependency[Folders]

    def create_io_manager(self, context: dg.InitResourceContext) -> AssetFolders:
        """Makes the IO manager for a run."""
        return AssetFolders(self.folders.results, self.folders.working / ".downloads")


class Tracking(dg.ConfigurableResource["Tracking"]):
    """MLflow. Credentials come from MLflow's own environment variables, never from the configuration."""

    uri: str = Field(
        default="", description="Tracking server or store. Empty: MLFLOW_TRACKING_URI, or a SQLite store in mlflow/."
    )

    def tracker(self) -> "Tracker":
        """The tracking store and registry."""
        from cloud_assets.tracking import Tracker

        return Tracker(self.uri or None)
