"""Artefacts are written whole or not at all, whatever happens on the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.atomic import atomic_file, atomic_folder
from runtime.errors import BadInput


class Trouble(Exception):
    pass


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- files


def test_a_file_appears_once_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "file.txt"
    with atomic_file(target) as temporary:
        temporary.write_text("half")
        assert not target.exists() and temporary.parent == target.parent
        temporary.write_text("whole")
    assert target.read_text() == "whole" and names(target.parent) == ["file.txt"]


@pytest.mark.parametrize("error", [Trouble, KeyboardInterrupt, SystemExit])
def test_a_failed_file_leaves_the_old_one(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(error), atomic_file(target) as temporary:
        temporary.write_text("half")
        raise error
    assert target.read_text() == "old" and names(tmp_path) == ["file.txt"]


def test_a_file_replaces_another(tmp_path: Path) -> None:
    for text in ("one", "two"):
        with atomic_file(str(tmp_path / "file.txt")) as temporary:
            temporary.write_text(text)
    assert (tmp_path / "file.txt").read_text() == "two" and names(tmp_path) == ["file.txt"]


def test_errors_meant_for_people_pass_unchanged(tmp_path: Path) -> None:
    for write in (atomic_file, atomic_folder):
        with pytest.raises(BadInput, match=r"^row 3 is broken$"), write(tmp_path / "target"):
            raise BadInput("row 3 is broken")
    assert names(tmp_path) == []


def test_where_no_file_can_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadInput, match="cannot create folder"), atomic_file(tmp_path / "file" / "inside.txt"):
        pass
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadInput, match=r"cannot write .*folder"), atomic_file(tmp_path / "folder") as temporary:
        temporary.write_text("a file in place of a folder")
    assert names(tmp_path) == ["file", "folder"]


# --- folders


def fill(folder: Path, text: str) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "file.txt").write_text(text)


def test_a_folder_appears_once_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "folder"
    with atomic_folder(target) as temporary:
        fill(temporary, "whole")
        assert not target.exists()
    assert (target / "sub" / "file.txt").read_text() == "whole" and names(target.parent) == ["folder"]
    assert target.stat().st_mode & 0o777 == 0o755


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with atomic_folder(tmp_path / "folder") as temporary:
        fill(temporary, "whole")
    assert names(tmp_path / "folder") == ["sub"] and names(tmp_path) == ["folder"]


@pytest.mark.parametrize("error", [Trouble, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("replace", [False, True])
def test_a_failed_folder_leaves_nothing(tmp_path: Path, error: type[BaseException], replace: bool) -> None:
    target = tmp_path / "folder"
    if replace:
        target.mkdir()
        (target / "old.txt").write_text("old")
    with pytest.raises(error), atomic_folder(target, replace=replace) as temporary:
        fill(temporary, "half")
        raise error
    assert names(tmp_path) == (["folder"] if replace else [])
    assert not replace or (target / "old.txt").read_text() == "old"


def test_a_folder_in_use_is_not_touched_unless_told(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with atomic_folder(target) as temporary:
        fill(temporary, "old")
    with pytest.raises(BadInput, match="already exists"), atomic_folder(target):
        pytest.fail("no work must be done for a place that is taken")
    with atomic_folder(target, replace=True) as temporary:
        fill(temporary, "new")
        assert (target / "sub" / "file.txt").read_text() == "old"
    assert (target / "sub" / "file.txt").read_text() == "new" and names(tmp_path) == ["folder"]


def test_where_no_folder_can_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadInput, match="is a file"), atomic_folder(tmp_path / "file"):
        pass
    with pytest.raises(BadInput, match="cannot create folder"), atomic_folder(tmp_path / "file" / "inside" / "folder"):
        pass
    with pytest.raises(BadInput, match="cannot write"), atomic_folder("/proc/folder"):
        pass
    assert (tmp_path / "file").read_text() == "in the way" and names(tmp_path) == ["file"]


def test_an_old_folder_comes_back_if_the_new_one_cannot_take_its_place(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old.txt").write_text("old")
    with pytest.raises(BadInput, match="cannot write"), atomic_folder(tmp_path / "folder", replace=True) as temporary:
        temporary.rmdir()
    assert names(tmp_path) == ["folder"] and names(tmp_path / "folder") == ["old.txt"]


def test_a_folder_that_cannot_be_listed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> None:  # root may list every folder, so the refusal is made up
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(BadInput, match=r"cannot write .*: Permission denied"), atomic_folder(tmp_path):
        pass


# --- a full disk


def test_a_short_write_of_numpy_is_a_full_disk(tiny_disk: Path) -> None:
    full = r"written \(the disk is full\?\); nothing"
    with pytest.raises(BadInput, match=full), atomic_folder(tiny_disk / "folder") as path:
        np.save(path / "array.npy", np.zeros(1 << 14))
    assert names(tiny_disk) == ["ballast"]


def test_a_full_disk_leaves_nothing(tiny_disk: Path) -> None:
    with (
        pytest.raises(BadInput, match=r"file\.bin: No space left") as caught,
        atomic_file(tiny_disk / "file.bin") as path,
    ):
        path.write_bytes(bytes(1 << 16))
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(BadInput, match="folder: No space left"), atomic_folder(tiny_disk / "folder") as path:
        (path / "file.bin").write_bytes(bytes(1 << 16))
    assert names(tiny_disk) == ["ballast"]


def test_a_folder_that_cannot_be_moved_stays(tiny_disk: Path) -> None:
    """The root of a file system cannot be renamed."""
    with pytest.raises(BadInput, match="cannot write"), atomic_folder(tiny_disk, replace=True) as path:
        fill(path, "new")
    assert names(tiny_disk) == ["ballast"] and names(tiny_disk.parent) == [tiny_disk.name]
