"""Every error that a user of Cloud Assets can meet.

Each says what is wrong, where (file, band, sample) and what to do about it. All derive from
:class:`CloudAssetsError`, so a caller can catch the whole family; each also derives from the builtin exception that it
specialises.
"""

from collections.abc import Mapping, Sequence


class CloudAssetsError(Exception):
    """Base class of all errors that Cloud Assets raises on purpose."""


class DataFolderMissing(CloudAssetsError, FileNotFoundError):
    """A data set was not found where it was expected."""


class InvalidRaster(CloudAssetsError, ValueError):
    """A raster file is truncated, is no raster, or has the wrong shape or data type."""


class InvalidRecipe(CloudAssetsError, ValueError):
    """A configuration value makes no sense, alone or together with another."""


class TooManySkipped(CloudAssetsError, ValueError):
    """More items of a data set were unusable than the stated tolerance allows.

    Args:
        what: The data set or step that skipped them.
        skipped: One "item: reason" line an unusable item.
        total: How many items were looked at.
        tolerance: The share of ``total`` that may be skipped.
    """

    def __init__(self, what: str, skipped: Sequence[str], total: int, tolerance: float) -> None:
        shown = "\n  ".join(skipped[:20])
        more = f"\n  … and {len(skipped) - 20} more" if len(skipped) > 20 else ""
        super().__init__(
            f"{what}: {len(skipped)} of {total} items are unusable, more than the tolerated share of {tolerance:.1%}:\n"
            f"  {shown}{more}\nMend or remove these files, or raise max_skipped_fraction if you can do without them."
        )


# Patches


class MixedPatches(CloudAssetsError, ValueError):
    """Scenes of one data set differ in what one array of patches cannot hold: data type, instrument, size."""


class NoPatchesLeft(CloudAssetsError, ValueError):
    """Every patch was dropped because it holds too few valid pixels, or there was no scene to begin with."""


class DamagedStore(CloudAssetsError, ValueError):
    """A patch store's or a split's folder is incomplete, or its parts do not belong together."""


class StorageFull(CloudAssetsError, OSError):
    """The disk ran full while patches were written; nothing half-written is left behind."""


class SimulationFailed(CloudAssetsError, RuntimeError):
    """A process that simulates patches ended before it had made all of them."""


class TooFewGroups(CloudAssetsError, ValueError):
    """There are fewer groups (scenes, regions) than splits that must not share one.

    Args:
        column: The index column that names the groups.
        found: How many groups there are.
        needed: How many the splits asked for need at least.
    """

    def __init__(self, column: str, found: int, needed: int) -> None:
        super().__init__(
            f"the patches come from {found} different values of {column!r}, but {needed} splits that share none need "
            f"at least {needed}: add scenes, set a fraction to 0, or group by a finer column of the index (for example "
            "by='scene_id')."
        )


# Evaluation


class InvalidEvaluation(CloudAssetsError, ValueError):
    """An evaluation or comparison cannot be read, or holds numbers that are none."""


class IncomparableEvaluations(CloudAssetsError, ValueError):
    """Evaluations were put side by side that were not made on the same test split or lack the gate's metric."""


class NothingToEvaluate(CloudAssetsError, ValueError):
    """A split has no patch, no labelled pixel, or lacks the bands that the model reads."""


# Data sets


class UnknownBand(CloudAssetsError, KeyError):
    """A band name that an instrument does not have.

    Args:
        name: The name that was asked for.
        instrument: Where it was looked up.
        known: The names that exist there.
    """

    def __init__(self, name: str, instrument: str, known: Sequence[str]) -> None:
        super().__init__(f"{instrument} has no band {name!r}. It has: {', '.join(known)}.")

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show the message in quotes


class AbsentBand(CloudAssetsError, ValueError):
    """A band that the instrument has but this data set or scene does not hold."""


class UnknownLabelCode(CloudAssetsError, ValueError):
    """A truth raster holds a code that its data set's legend does not explain."""


class MixedDataTypes(InvalidRaster):
    """Files of one data set that must agree in data type do not."""


class IncompleteDataSet(CloudAssetsError, ValueError):
    """A part of a data set, or a list that comes with it, is missing or cut off."""


class TooFewImages(CloudAssetsError, ValueError):
    """Fewer usable images than learning needs."""


class SourceUnreachable(CloudAssetsError, ConnectionError):
    """A public data set cannot be downloaded: no network, or the server refuses."""


class UnsafeArchive(CloudAssetsError, ValueError):
    """An archive holds a member that would be written outside its folder, or is no plain file."""


class DamagedArchive(CloudAssetsError, ValueError):
    """An archive is truncated or is no archive."""


# Models and training


class InvalidModel(CloudAssetsError, ValueError):
    """A model bundle is incomplete, damaged, of another version, or its parts do not belong together."""


class WeightsUnavailable(CloudAssetsError, RuntimeError):
    """Pretrained weights were asked for and cannot be obtained; training never starts without them instead."""


class WrongWeights(CloudAssetsError, ValueError):
    """Weights belong to another architecture, or learnt from other bands or another scale."""


class NothingToLearn(CloudAssetsError, ValueError):
    """A split holds no patch, or no labelled pixel, that training or validation could use."""


class WrongInput(CloudAssetsError, ValueError):
    """An array given to a model has the wrong shape or number of bands."""


class TrainingDiverged(CloudAssetsError, ArithmeticError):
    """The loss or a validation metric became infinite or not a number.

    Args:
        what: Name of the quantity.
        value: Its value.
        step: Optimisation step (from 0) at which it was met.
        epoch: Epoch (from 0) of that step.
        checkpoints: Folder that keeps the last good weights.
        has_checkpoint: Whether an epoch had been completed before.
    """

    def __init__(self, what: str, value: float, step: int, epoch: int, checkpoints: str, has_checkpoint: bool) -> None:
        self.step = step
        self.epoch = epoch
        kept = (
            f"The last good weights are kept in {checkpoints}."
            if has_checkpoint
            else "No epoch had been completed, so there are no good weights yet."
        )
        super().__init__(
            f"training diverged: {what} is {value} at step {step} (epoch {epoch}). {kept} Lower the learning rate, set "
            "gradient_clip, use precision '32', or look for extreme values among the training patches."
        )


class TrainingCollapsed(CloudAssetsError, ArithmeticError):
    """A generator makes the same picture whatever it is given, and never did otherwise."""


# Tracking and orchestration


class AssetMissing(CloudAssetsError, FileNotFoundError):
    """An asset that a step needs was never materialised in this home."""


class TrackingUnavailable(CloudAssetsError, ConnectionError):
    """The MLflow server or store does not answer; what was trained is kept on disk."""


class AlreadyTraining(CloudAssetsError, RuntimeError):
    """Another process is training the same recipe on the same data."""


class GateNotPassed(CloudAssetsError, ValueError):
    """No model is good enough to be its task's champion."""


class WaitsForApproval(CloudAssetsError, RuntimeError):
    """A task has no champion yet, and its first one has to be approved by a person."""


class DecisionPending(CloudAssetsError, RuntimeError):
    """Another process is deciding on the same task's champion, or changed it meanwhile."""


class NoSuchVersion(CloudAssetsError, LookupError):
    """A registered model has no version that could be approved, rejected or returned to."""


# Scenes


class UnknownSensor(CloudAssetsError, ValueError):
    """Nothing tells which instrument took a scene."""


class UnnamedBands(CloudAssetsError, ValueError):
    """Nothing tells which band of a raster is which, or the names do not fit the number of bands."""


class InvalidScene(CloudAssetsError, ValueError):
    """A file or folder is no scene of a known layout, or its metadata are missing, damaged or contradictory."""


class DamagedScene(InvalidRaster):
    """A window of a scene cannot be read; the message names it."""


class WrongLevel(CloudAssetsError, ValueError):
    """A scene is of another processing level (top of atmosphere, surface) than the model was trained on."""


class SceneNameTaken(CloudAssetsError, ValueError):
    """Two different scenes would write their products to the same folder."""


class SceneBusy(CloudAssetsError, RuntimeError):
    """Another process is making the products of the same scene."""


class NoModelForProduct(CloudAssetsError, ValueError):
    """A product was asked for that none of the given models can make from this scene."""


class BackEndUnavailable(CloudAssetsError, RuntimeError):
    """An inference back end is not installed, or its results differ from those of PyTorch."""


class OutsideInbox(CloudAssetsError, ValueError):
    """A path leads out of the folder that it must stay in."""


class ScenesFailed(CloudAssetsError, RuntimeError):
    """Some scenes of a batch have no products; those of the others are finished.

    Args:
        reasons: Scene -> why it failed.
        total: How many scenes the batch had.
    """

    def __init__(self, reasons: Mapping[str, str], total: int) -> None:
        lines = "\n".join(f"  {scene}: {reason}" for scene, reason in reasons.items())
        super().__init__(
            f"{len(reasons)} of {total} scenes failed; the products of the others are finished.\n{lines}\n"
            "Mend or replace these scenes in the inbox (its sensor asks for changed ones by itself), or materialise "
            "their partitions again."
        )


# Hyper-parameter studies, classification, export


class StudyMismatch(CloudAssetsError, ValueError):
    """A study of this name exists already, with another search space, metric, task or data."""


class StudyInUse(CloudAssetsError, RuntimeError):
    """Another process is running the same study in the same workspace."""


class StudyStorageUnavailable(CloudAssetsError, ConnectionError):
    """The storage of a study cannot be opened: no server, no driver, or a damaged journal."""


class StudyFailed(CloudAssetsError, RuntimeError):
    """The first trials of a study all failed: the fault lies in the recipe or the data, not in the values tried."""


class UnknownBackbone(InvalidRecipe):
    """A classifier was asked for on a backbone that timm does not know."""


class ExportMismatch(CloudAssetsError, ArithmeticError):
    """An exported model gives other answers than the model it was made from; no file is left behind."""


# The sample writer


class WouldOverwriteData(CloudAssetsError, FileExistsError):
    """A sample was to be written where there are data that are no sample."""


# Watching


class NoTrainingReference(CloudAssetsError, ValueError):
    """A model card holds no training reference, or one of another schema version: drift cannot be told."""


class InvalidReport(CloudAssetsError, ValueError):
    """A folder holds no report on drift or labels that this version can read."""
