"""Export of networks to ONNX, compared with PyTorch, also in 8-bit integers, and what runs them."""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cloud_assets.errors import BackEndUnavailable, InvalidModel
from cloud_assets.inference.bundle import CARD_FILE, ModelBundle, ModelCard
from cloud_assets.inference.export_recipe import INT8_FILE, NETWORK_FILE, ExportRecipe, ExportRecord, ExportSection


def import_onnxruntime() -> Any:
    """The module ``onnxruntime``, or :class:`BackEndUnavailable`."""
    try:
        import onnxruntime
    except ImportError as error:
        raise BackEndUnavailable("onnxruntime is not installed: pip install 'cloud-assets[onnx]'.") from error
    return onnxruntime


class OnnxNetwork(nn.Module):
    """An exported network, run by ONNX Runtime on the processor: pixels in, logits out, like the network itself.

    Raises:
        BackEndUnavailable: If ONNX Runtime is not installed or cannot run the file.
    """

    name = "onnxruntime float32 on cpu"

    def __init__(self, content: bytes, threads: int | None = None) -> None:
        super().__init__()
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # advice about the graph is not for the user
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no common base class
            raise BackEndUnavailable(f"ONNX Runtime cannot run this file: {str(error)[:300]}. Export again.") from error
        self._session = session
        self._input = session.get_inputs()[0].name

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits, float32, of pixels (N, C, H, W)."""
        answer = self._session.run(None, {self._input: pixels.float().cpu().contiguous().numpy()})
        return torch.from_numpy(answer[0]).to(pixels.device)


Pixels = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ExportedModel:
    """A model's networks as ONNX files beside its card, which names file, operator set and parity."""

    card: ModelCard  # the model's card with an :class:`ExportSection`
    network: bytes  # content of the ONNX file: preprocessed pixels in, logits out
    int8: bytes | None = None  # content of the 8-bit one

    @property
    def record(self) -> ExportRecord:
        """How the export went."""
        return ExportSection.of(self.card).export

    def with_metrics(self, metrics: dict[str, float]) -> Self:
        """The same with test metrics in its record."""
        record = self.record.model_copy(update={"metrics": metrics})
        return replace(self, card=_with_record(self.card, record))

    def runtime(self, *, int8: bool = False) -> OnnxNetwork:
        """The exported network, or the 8-bit one, to be run in place of the one that it was exported from.

        Raises:
            InvalidModel: If there is no 8-bit network.
        """
        content = self.int8 if int8 else self.network
        if content is None:
            raise InvalidModel(f"{self.card.task} was exported without an 8-bit network: do that again.")
        return OnnxNetwork(content)

    def save(self, directory: Path) -> None:
        """Writes the files into a folder."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / NETWORK_FILE).write_bytes(self.network)
        if self.int8 is not None:
            (directory / INT8_FILE).write_bytes(self.int8)
        (directory / CARD_FILE).write_text(self.card.model_dump_json(indent=2), encoding="utf-8")

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Reads what :meth:`save` wrote.

        Raises:
            InvalidModel: If a part is missing or damaged.
        """
        try:
            card = ModelCard.model_validate_json((directory / CARD_FILE).read_text(encoding="utf-8"))
            exported = cls(card, (directory / NETWORK_FILE).read_bytes())
            has_int8 = exported.record.int8_file is not None
            return replace(exported, int8=(directory / INT8_FILE).read_bytes() if has_int8 else None)
        except (OSError, ValueError, KeyError) as error:
            raise InvalidModel(f"{directory} holds no exported model ({error}). Export it again.") from error


def export(bundle: ModelBundle, recipe: ExportRecipe, inputs: Pixels, calibration: Pixels) -> ExportedModel:
    """Exports a model's network and proves that the export gives the same answers.

    ``inputs`` (N, C, H, W) are preprocessed pixels to compare on, ``calibration`` those for the 8-bit network.

    Raises:
        BackEndUnavailable: If the ONNX libraries are not installed, or cannot take the network.
        InvalidModel: If the exported network gives other answers.
    """
    network = bundle.network()
    content = to_onnx(network, inputs[:1], recipe.opset)
    exported = OnnxNetwork(content, threads=1)
    expected, found = _logits(network, inputs), _logits(exported, inputs)
    difference = float(abs(expected - found).max())
    if not difference <= recipe.tolerance * max(1.0, float(abs(expected).max())):
        raise InvalidModel(
            f"{bundle.card.task}/{bundle.card.variant}: the exported network differs from the trained one by up to "
            f"{difference:.3g} on {len(inputs)} inputs. Try another opset, or report the backbone to the ONNX exporter."
        )
    small, of_small = None, {}
    if recipe.int8:
        small = to_int8(content, calibration)
        quantised = OnnxNetwork(small, threads=1)
        rough = _logits(quantised, inputs)
        of_small = {
            "int8_file": INT8_FILE,
            "int8_bytes": len(small),
            "int8_max_difference": float(abs(expected - rough).max()),
            "int8_agreement": float((expected.argmax(axis=1) == rough.argmax(axis=1)).mean()),
            "calibration_inputs": len(calibration),
            "int8_milliseconds": _milliseconds(quantised, inputs),
        }
    record = ExportRecord(
        opset=recipe.opset,
        input_name="pixels",
        input_shape=("patches", *inputs.shape[1:]),
        inputs_compared=len(inputs),
        max_difference=difference,
        bytes=len(content),
        milliseconds=_milliseconds(exported, inputs),
        **of_small,
    )
    return ExportedModel(_with_record(bundle.card, record), content, small)


def to_onnx(network: nn.Module, example: Pixels, opset: int, *, any_size: bool = False) -> bytes:
    """An ONNX file of a network for any number of pictures of the example's size (1, C, H, W), or of any size.

    Raises:
        BackEndUnavailable: If the exporter is not installed or cannot take the network.
    """
    # Two pictures: the exporter would take a count of one for a constant.
    pictures = torch.from_numpy(np.concatenate([example, example]))
    sides = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC} if any_size else {}
    try:
        program = torch.onnx.export(
            network.eval(),
            (pictures,),
            dynamo=True,
            verbose=False,
            opset_version=opset,
            input_names=["pixels"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("patches"), **sides},),
        )
    except (ImportError, torch.onnx.OnnxExporterError) as error:
        raise BackEndUnavailable(
            f"the network cannot be exported to ONNX ({str(error)[:500]}). Install 'cloud-assets[onnx]'."
        ) from error
    content: bytes = program.model_proto.SerializeToString()  # type: ignore[union-attr]
    return content


def to_int8(content: bytes, calibration: Pixels) -> bytes:
    """The ONNX file in 8-bit integers, its ranges measured on preprocessed pixels (M, C, H, W): static quantisation.

    Raises:
        BackEndUnavailable: If ONNX Runtime's quantisation is not installed.
    """
    try:
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise BackEndUnavailable("8-bit networks need ONNX: pip install 'cloud-assets[onnx]'.") from error

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._pictures: Iterator[dict[str, Pixels]] = ({"pixels": picture[None]} for picture in calibration)

        def get_next(self) -> dict[str, Pixels] | None:
            return next(self._pictures, None)

    with tempfile.TemporaryDirectory() as temporary:
        source, prepared, target = (Path(temporary) / name for name in ("whole.onnx", "prepared.onnx", "int8.onnx"))
        source.write_bytes(content)
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            target,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return target.read_bytes()


def _with_record(card: ModelCard, record: ExportRecord) -> ModelCard:
    return card.model_copy(update={"details": card.details | ExportSection(export=record).details()})


def _logits(network: nn.Module, inputs: Pixels) -> npt.NDArray[np.float32]:
    with torch.inference_mode():
        return np.concatenate([network(torch.from_numpy(picture[None])).numpy() for picture in inputs])


def _milliseconds(network: nn.Module, inputs: Pixels) -> float:
    """Median time of one input."""
    picture = torch.from_numpy(inputs[:1])
    times = []
    with torch.inference_mode():
        for _ in range(5):
            started = time.perf_counter()
            network(picture)
            times.append(time.perf_counter() - started)
    return round(1000 * float(np.median(times)), 3)
