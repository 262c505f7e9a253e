from __future__ import annotations

import stat
from pathlib import Path

import pytest

from dashboard.jobs.spool import Spool, new_job_id
from ser_engine.errors import ConfigError

DAY = 1_795_363_200.0  # 2026-11-22


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_nobody_else_can_read_it(tmp_path: Path):
    root = tmp_path / "a" / "b"
    spool = Spool(root)
    job_id = new_job_id()
    folder = spool.make_folder(spool.folder_of(job_id, DAY))
    assert folder == root / "2026-11-22" / job_id
    assert [mode(path) for path in (root, root / "uploads", folder, folder.parent)] == [0o700] * 4
    spool.close()


def test_it_has_one_name_for_as_long_as_it_is_there(tmp_path: Path):
    first = Spool(tmp_path)
    first.close()
    second = Spool(tmp_path)
    assert second.owner == first.owner
    second.close()
    other = Spool(tmp_path / "other")
    assert other.owner != first.owner
    other.close()


def test_a_running_server_has_it_for_itself(tmp_path: Path):
    spool = Spool(tmp_path)
    with pytest.raises(ConfigError, match="which a running server uses"):
        Spool(tmp_path)
    spool.close()
    spool.close()
    Spool(tmp_path).close()


def test_a_folder_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"dashboard\.analyse\.dir"):
        Spool(tmp_path / "file" / "x")


def test_a_temporary_one_goes_with_all_it_holds():
    spool = Spool()
    upload = spool.upload(new_job_id())
    upload.write_bytes(b"x")
    spool.close()
    assert not upload.parent.parent.exists()


def test_what_is_there_is_listed_and_removed(tmp_path: Path):
    spool = Spool(tmp_path)
    first, second = sorted([new_job_id(), new_job_id()])
    for job_id in (first, second):
        spool.upload(job_id).write_bytes(b"x")
        folder = spool.make_folder(spool.folder_of(job_id, DAY))
        (folder / "result.json").write_bytes(b"12345")
    (tmp_path / "notes.txt").write_text("not ours")
    assert spool.uploads() == [first, second]
    assert list(spool.folders()) == [(f"2026-11-22/{one}", one) for one in (first, second)]
    assert spool.size_bytes(f"2026-11-22/{first}") == 5
    for job_id in (first, second, first):
        spool.remove_upload(job_id)
        spool.remove_folder(f"2026-11-22/{job_id}")
    assert spool.uploads() == []
    assert not (tmp_path / "2026-11-22").exists()
    assert (tmp_path / "notes.txt").exists()
    spool.close()


def test_a_folder_is_made_anew(tmp_path: Path):
    spool = Spool(tmp_path)
    name = spool.folder_of(new_job_id(), DAY)
    (spool.make_folder(name) / "half").write_bytes(b"x")
    assert list(spool.make_folder(name).iterdir()) == []
    spool.close()


@pytest.mark.parametrize("name", ["..", "../../etc/passwd", "", "a/b", "x" * 17, "x" * 15 + "."])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str):
    spool = Spool(tmp_path)
    with pytest.raises(ValueError, match=r"expected|not of a job"):
        spool.upload(name)
    with pytest.raises(ValueError, match=r"expected|not of a job"):
        spool.folder(name)
    with pytest.raises(ValueError, match=r"expected|not of a job"):
        spool.folder(f"2026-11-22/{name}")
    spool.close()
