import platform

from cloud_assets.inference.device import keep_freed_memory


def test_it_is_accepted_by_glibc_and_harmless_elsewhere() -> None:
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
