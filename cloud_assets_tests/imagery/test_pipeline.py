import threading
import time

import numpy as np
import pytest

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.errors import InvalidData
from cloud_assets.imagery.tiling import ArrayReader, Tiling, Window, predict_windows

TILING = Tiling.plan(150, 210, 64, 16, multiple=8)


def reader(seed: int = 0) -> ArrayReader:
    dn = np.random.default_rng(seed).integers(1, 10_000, (2, 150, 210)).astype(np.uint16)
    return ArrayReader(dn, INSTRUMENTS["landsat8_l1"])


def mean_of_bands(dn, inside):
    return {"mean": dn.mean(axis=1, keepdims=True)}


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (3, 1), (1, 3), (5, 4), (100, 2)])
def test_results_come_in_the_readers_order_whatever_the_batches_and_workers(batch_size, workers):
    class InStrips(ArrayReader):
        strip = 130

    def slower_at_first(dn, inside):
        time.sleep(0.005 if threading.current_thread().name.endswith("_0") else 0)
        return mean_of_bands(dn, inside)

    results = list(predict_windows(reader(), TILING, slower_at_first, batch_size=batch_size, workers=workers))
    expected = list(predict_windows(reader(), TILING, mean_of_bands))
    assert [result.position for result in results] == list(TILING.positions())
    for result, one in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result.outputs["mean"], one.outputs["mean"])
    in_strips = InStrips(reader()._dn, INSTRUMENTS["landsat8_l1"])
    found = [one.position for one in predict_windows(in_strips, TILING, slower_at_first, batch_size=batch_size)]
    assert found == list(TILING.positions(130)) != list(TILING.positions())


def test_windows_without_a_valid_pixel_never_reach_the_model():
    dn = np.zeros((1, 150, 210), np.uint16)
    dn[:, :40, :40] = 500
    seen = []

    def infer(batch, inside):
        assert len(inside) == len(batch)
        seen.append(len(batch))
        assert (batch > 0).any(axis=(1, 2, 3)).all()
        return {"x": batch}

    results = list(predict_windows(ArrayReader(dn, INSTRUMENTS["landsat8_l1"]), TILING, infer, batch_size=4))
    has_data = [result.valid.any() for result in results]
    assert [result.outputs is not None for result in results] == has_data
    assert sum(seen) == sum(has_data) < len(results)


class BrokenReader(ArrayReader):
    def read(self, window: Window):
        if window.row > 0:
            raise InvalidData(f"{window} cannot be read")
        return super().read(window)


def test_a_reading_error_ends_everything_and_names_the_window():
    before = threading.active_count()
    broken = BrokenReader(np.ones((1, 150, 210), np.uint16), INSTRUMENTS["landsat8_l1"])
    with pytest.raises(InvalidData, match=r"rows \d+-\d+, columns"):
        list(predict_windows(broken, TILING, mean_of_bands, batch_size=2, workers=3))
    assert threading.active_count() == before


def test_a_model_error_ends_everything():
    calls = []

    def fails_late(dn, inside):
        calls.append(1)
        if len(calls) > 3:
            raise ArithmeticError("the network failed")
        return mean_of_bands(dn, inside)

    before = threading.active_count()
    with pytest.raises(ArithmeticError, match="the network failed"):
        list(predict_windows(reader(), TILING, fails_late, workers=2))
    assert threading.active_count() == before
    assert len(calls) < len(TILING)


def test_a_caller_that_stops_early_leaves_no_thread_behind():
    before = threading.active_count()
    results = predict_windows(reader(), TILING, mean_of_bands, workers=2)
    next(results)
    results.close()
    assert threading.active_count() == before


def test_at_most_a_few_batches_are_read_ahead():
    reads = []

    class CountingReader(ArrayReader):
        def read(self, window: Window):
            reads.append(window)
            return super().read(window)

    counting = CountingReader(np.ones((1, 2000, 64), np.uint16), INSTRUMENTS["landsat8_l1"])
    tiling = Tiling.plan(2000, 64, 64, 0, multiple=8, fixed=True)
    results = predict_windows(counting, tiling, mean_of_bands, workers=2)
    most_ahead = 0
    for taken, _ in enumerate(results, start=1):
        time.sleep(0.002)
        most_ahead = max(most_ahead, len(reads) - taken)
    assert len(reads) == len(tiling) > 30
    assert most_ahead <= 4
