import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch

from cloud_assets.errors import BackEndUnavailable
from cloud_assets.inference import back_ends
from cloud_assets.inference.back_ends import TorchBackEnd, choose_back_end, class_probability
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.device import Parallelism, choose_precision, torch_threads
from cloud_assets.networks.shipped import SIMULATION_MODEL
from cloud_assets.networks.specifications import UNet
from cloud_assets_tests.scenes.fakes import make_bundle

SHARE = Parallelism(2, 1)


@pytest.fixture(scope="module")
def bundle():
    return make_bundle(network=UNet(width=4, depth=2))


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).uniform(0, 1, (3, 4, 96, 64)).astype(np.float32)


@pytest.fixture(scope="module")
def expected(bundle, pixels):
    with torch.inference_mode():
        return class_probability(bundle.network()(torch.from_numpy(pixels))).numpy()


def needs(name: str) -> None:
    """Skips a test without importing what it needs: OpenVINO is to be imported by the project's own code first."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")


@pytest.mark.parametrize("name", ["torch", "onnxruntime", "openvino"])
def test_each_back_end_gives_pytorchs_probabilities_at_any_size_and_count(bundle, pixels, expected, name):
    needs(name)
    back_end = choose_back_end(bundle, name, "cpu", parallelism=SHARE)
    assert back_end.name.startswith(name)
    found = class_probability(back_end(torch.from_numpy(pixels))).numpy()
    np.testing.assert_allclose(found, expected, atol=0.03)
    one = class_probability(back_end(torch.from_numpy(pixels[:1, :, :32, :48]))).numpy()
    assert one.shape == (1, 2, 32, 48)


@pytest.mark.parametrize("name", ["torch", pytest.param("onnxruntime", marks=pytest.mark.slow), "openvino"])
def test_each_back_end_takes_the_model_that_comes_with_the_package(name):
    needs(name)
    shipped = ModelBundle.open(SIMULATION_MODEL)
    assert choose_back_end(shipped, name, "cpu", parallelism=SHARE).name.startswith(name)


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_the_deepest_network_can_be_tried(name):
    needs(name)
    deep = make_bundle(network=UNet(width=1, depth=6))
    assert choose_back_end(deep, name, "cpu", parallelism=SHARE).name.startswith(name)
    assert back_ends.pixel_bytes(deep, torch.device("cpu")) > 0


def test_back_ends_are_compared_on_what_preprocessing_gives():
    preprocessing = ModelBundle.open(SIMULATION_MODEL).card.preprocessing
    probe = back_ends._probe(preprocessing)
    assert probe.shape[1] == preprocessing.channels
    assert probe.min() == 0
    assert probe.max() <= 1
    assert not probe[..., :20, :20].any()


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_calls_from_several_threads_do_not_disturb_each_other(bundle, pixels, name):
    from concurrent.futures import ThreadPoolExecutor

    needs(name)
    back_end = choose_back_end(bundle, name, "cpu", parallelism=SHARE)
    scales = np.linspace(0.1, 1, 12, dtype=np.float32)
    inputs = [torch.from_numpy(pixels[..., : 32 * (1 + place % 3)] * scale) for place, scale in enumerate(scales)]
    alone = [back_end(one) for one in inputs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(back_end, inputs))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_openvino_comes_without_its_reporter():
    needs("openvino")
    code = (
        "import sys\n"
        "from cloud_assets.inference.back_ends import import_openvino\n"
        "assert import_openvino().Core()\n"
        "assert sys.modules['openvino_telemetry'] is None\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_back_end_that_disagrees_is_not_used(bundle, monkeypatch):
    class Wrong(TorchBackEnd):
        def forward(self, pixels):
            return super().forward(pixels) + 3

    monkeypatch.setattr(back_ends, "OpenVinoBackEnd", lambda bundle, share: Wrong(bundle, "cpu"))
    with pytest.raises(BackEndUnavailable, match="disagrees with PyTorch"):
        choose_back_end(bundle, "openvino", "cpu", parallelism=SHARE)
    monkeypatch.setattr(back_ends, "onnx_back_end", lambda bundle, share: Wrong(bundle, "cpu"))
    assert choose_back_end(bundle, "auto", "cpu", parallelism=SHARE).name.startswith("torch")


@pytest.mark.parametrize("name", ["auto", "torch"])
def test_a_model_that_half_precision_is_too_coarse_for_runs_in_single(bundle, name):
    network = bundle.network()
    *_, weight, bias = network.parameters()
    with torch.no_grad():
        logits = network(torch.from_numpy(back_ends._probe(bundle.card.preprocessing)))
        bias.copy_((bias - logits.mean()) * 1e4)
        weight.mul_(1e4)
    sharp = ModelBundle(bundle.card, network.state_dict())
    back_end = choose_back_end(sharp, name, "cpu", parallelism=SHARE, megapixels=0.1)
    assert back_end.name == "torch float32 on cpu"


def test_a_back_end_that_gives_no_number_is_not_used(bundle, monkeypatch):
    class Broken(TorchBackEnd):
        def forward(self, pixels):
            return super().forward(pixels) * np.nan

    monkeypatch.setattr(back_ends, "OpenVinoBackEnd", lambda bundle, share: Broken(bundle, "cpu"))
    with pytest.raises(BackEndUnavailable, match="disagrees"):
        choose_back_end(bundle, "openvino", "cpu", parallelism=SHARE)


def test_what_is_not_installed_is_left_out_or_named(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackEndUnavailable, match="pip install 'cloud-assets\\[openvino\\]'"):
        choose_back_end(bundle, "openvino", "cpu", parallelism=SHARE)
    with pytest.raises(BackEndUnavailable, match="pip install 'cloud-assets\\[onnx\\]'"):
        choose_back_end(bundle, "onnxruntime", "cpu", parallelism=SHARE)
    assert choose_back_end(bundle, "auto", "cpu", parallelism=SHARE).name.startswith("torch")


def test_little_work_does_not_wait_for_a_conversion(bundle, monkeypatch):
    def refuse(*_):
        raise AssertionError("converted for little work")

    monkeypatch.setattr(back_ends, "OpenVinoBackEnd", refuse)
    monkeypatch.setattr(back_ends, "onnx_back_end", refuse)
    chosen = choose_back_end(bundle, "auto", "cpu", parallelism=SHARE, megapixels=1.0)
    precision = "bfloat16" if choose_precision("auto", torch.device("cpu")) == "bf16" else "float32"
    assert chosen.name == f"torch {precision} on cpu"


def test_threads_are_shared_out_and_given_back():
    before = torch.get_num_threads()
    with torch_threads(Parallelism(2, 3).threads):
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == before
    share = Parallelism.of_machine()
    assert 1 <= share.workers <= 4
    assert share.threads >= 1
