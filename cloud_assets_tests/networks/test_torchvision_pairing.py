import subprocess
import sys

import pytest


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize("package", ["networks", "learning", "families"])
def test_torchvision_can_be_imported_once_a_package_is_that_needs_it(package: str) -> None:
    assert run(f"import cloud_assets.{package}, torchvision.transforms; print('fine')") == "fine"


def test_importing_the_package_changes_nothing_in_the_process() -> None:
    code = "import os, sys; before = dict(os.environ), list(sys.meta_path); import cloud_assets"
    assert run(f"{code}; print(before == (dict(os.environ), sys.meta_path))") == "True"


def test_the_package_alone_imports_no_torch() -> None:
    heavy = "{'torch', 'torchvision', 'lightning', 'numpy'}"
    modules = "cloud_assets, cloud_assets.networks.specifications, cloud_assets.networks.torchvision_pairing"
    assert run(f"import sys, {modules}; print({heavy} & set(sys.modules) - {{'numpy'}})") == "set()"


def test_declarations_load_no_torch() -> None:
    modules = (
        "families.segmentation.recipe",
        "learning.training_run",
        "inference.bundle",
        "inference.predictor",
    )
    imports = ", ".join(f"cloud_assets.{module}" for module in modules)
    heavy = "{'torch', 'torchvision', 'lightning', 'albumentations', 'cv2', 'segmentation_models_pytorch'}"
    assert run(f"import sys, {imports}; print({heavy} & set(sys.modules))") == "set()"


def test_an_unloadable_library_is_mended_and_a_loadable_one_left_alone() -> None:
    # A stand-in for torch counts what is done to it.
    code = """
import sys, types
import cloud_assets.networks.torchvision_pairing as pairing
declared = []
class Library:
    def __init__(self, *arguments): declared.append(arguments)
    def define(self, schema): declared.append(schema)
def load_library(path):
    if {broken}: raise OSError("undefined symbol")
sys.modules["torch"] = types.SimpleNamespace(
    ops=types.SimpleNamespace(load_library=load_library), library=types.SimpleNamespace(Library=Library))
pairing.declare_missing_operators()
pairing.declare_missing_operators()
print(len(declared))
"""
    assert run(code.replace("{broken}", "True")) == "3"
    assert run(code.replace("{broken}", "False")) == "0"
