import os
import time

import numpy as np
import pytest

from cloud_assets.errors import InvalidScene
from cloud_assets.scenes.batch import look_into, scene_path
from cloud_assets_tests.imagery.layouts import write_landsat, write_safe
from cloud_assets_tests.scenes.fakes import write_geotiff

PIXELS = np.ones((4, 8, 8), np.uint16)


def test_a_scene_is_ready_when_it_has_stopped_growing(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"first half")
    first = look_into(tmp_path, None)
    assert first.ready == ()
    with path.open("ab") as stream:
        stream.write(b" second half")
    second = look_into(tmp_path, first.cursor)
    assert second.ready == (), "it grew between the looks"
    third = look_into(tmp_path, second.cursor)
    assert third.ready == ("a.tif",)
    fourth = look_into(tmp_path, third.cursor)
    assert fourth.ready == (), "handed out once"


def test_a_scene_that_is_replaced_is_ready_again(tmp_path):
    path = write_geotiff(tmp_path / "a.tif", PIXELS)
    cursor = look_into(tmp_path, look_into(tmp_path, None).cursor).cursor
    os.utime(path, ns=(time.time_ns(), time.time_ns() + 10**9))
    changed = look_into(tmp_path, cursor)
    assert changed.ready == ()
    assert look_into(tmp_path, changed.cursor).ready == ("a.tif",)


def test_a_scene_that_is_taken_away_and_put_back_is_ready_again(tmp_path):
    path = write_geotiff(tmp_path / "a.tif", PIXELS)
    content = path.read_bytes()
    cursor = look_into(tmp_path, look_into(tmp_path, None).cursor).cursor
    path.unlink()
    away = look_into(tmp_path, cursor)
    assert away.states == {}
    cursor = away.cursor
    path.write_bytes(content)
    cursor = look_into(tmp_path, cursor).cursor
    assert look_into(tmp_path, cursor).ready == ("a.tif",)


def test_scenes_of_all_layouts_are_seen_and_nothing_else(tmp_path):
    write_geotiff(tmp_path / "a.tif", PIXELS)
    safe = write_safe(tmp_path, {"B04": np.ones((12, 12))})
    landsat = write_landsat(tmp_path, {"B4": np.ones((12, 12))})
    (tmp_path / "b.zip").write_bytes(b"PK")
    (tmp_path / "notes.txt").write_text("no scene")
    (tmp_path / ".hidden.tif").write_text("no scene")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.tif").symlink_to("/etc/passwd")
    found = look_into(tmp_path, look_into(tmp_path, None).cursor)
    assert set(found.ready) == {"a.tif", "b.zip", safe.name, landsat.name}


def test_a_folder_is_ready_when_its_last_file_has_come(tmp_path):
    safe = write_safe(tmp_path, {"B04": np.ones((12, 12))})
    first = look_into(tmp_path, None)
    (safe / "GRANULE" / "late.jp2").write_bytes(b"late")
    second = look_into(tmp_path, first.cursor)
    assert second.ready == ()
    assert look_into(tmp_path, second.cursor).ready == (safe.name,)


def test_a_look_ends_in_time_and_the_next_goes_on(tmp_path):
    names = [f"{index:03}.tif" for index in range(20)]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    little = look_into(tmp_path, None, seconds=-1)
    assert not little.is_complete
    assert len(little.states) == 1
    first = look_into(tmp_path, little.cursor)
    assert first.is_complete
    assert first.ready == ()
    assert look_into(tmp_path, first.cursor).ready == tuple(names)


def test_time_that_runs_out_loses_nothing(tmp_path):
    for name in ("a.tif", "b.tif"):
        (tmp_path / name).write_bytes(b"x")
    cursor = look_into(tmp_path, None).cursor
    interrupted = look_into(tmp_path, cursor, seconds=-1)
    assert look_into(tmp_path, interrupted.cursor).ready == ("a.tif", "b.tif")


@pytest.mark.parametrize("cursor", ["", "[]", '{"states": {"a.tif": 3}}', '{"states": null}'])
def test_a_strange_cursor_starts_anew(tmp_path, cursor):
    (tmp_path / "a.tif").write_bytes(b"x")
    first = look_into(tmp_path, cursor)
    assert look_into(tmp_path, first.cursor).ready == ("a.tif",)


def test_a_radar_partner_is_part_of_its_scene(tmp_path):
    write_geotiff(tmp_path / "a.tif", PIXELS)
    write_geotiff(tmp_path / "a_s1.tif", -PIXELS[:2].astype(np.float32), ("VV", "VH"), nodata=None)
    first = look_into(tmp_path, None)
    assert first.states["a.tif"][0] == 2
    assert look_into(tmp_path, first.cursor).ready == ("a.tif",)


def test_an_inbox_that_does_not_exist_is_empty(tmp_path):
    assert look_into(tmp_path / "none", None).ready == ()


@pytest.mark.parametrize("key", ["../secret.tif", "/etc/passwd", "..", ".", "folder/../../secret.tif", "inner/a.tif"])
def test_a_key_that_leads_out_is_refused(tmp_path, key):
    inbox = tmp_path / "inbox"
    (inbox / "folder").mkdir(parents=True)
    (tmp_path / "secret.tif").write_text("secret")
    with pytest.raises(InvalidScene, match="leads out of the inbox"):
        scene_path(inbox, key)


def test_a_link_out_of_the_inbox_is_refused(tmp_path):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (tmp_path / "secret.tif").write_text("secret")
    (inbox / "a.tif").symlink_to(tmp_path / "secret.tif")
    with pytest.raises(InvalidScene):
        scene_path(inbox, "a.tif")


def test_a_scene_in_the_inbox_and_one_that_is_gone(tmp_path):
    path = write_geotiff(tmp_path / "a.tif", PIXELS)
    assert scene_path(tmp_path, "a.tif") == path
    with pytest.raises(InvalidScene, match="is gone"):
        scene_path(tmp_path, "b.tif")
