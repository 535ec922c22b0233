"""Where files are written and read from: links, devices, pipes, folders, and no place at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from serve import files
from serve.errors import SpecError


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        files.save_text(pipe, "text\n")
        assert os.read(reader, 100) == b"text\n"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert names(tmp_path) == ["pipe"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    files.save_text(tmp_path / "link", "text\n")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "text\n"


@pytest.mark.parametrize("name", ["", "folder"])
def test_a_folder_is_no_place_for_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for write in (files.check_writable, lambda path: files.save_text(path, "text")):
        with pytest.raises(SpecError, match="cannot be written: is a folder, not a file"):
            write(Path(name))
    assert names(tmp_path) == ["folder"]


def test_below_a_file_there_is_no_place(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpecError, match="is a file, not a folder"):
        files.check_writable(tmp_path / "file" / "sub" / "r.yaml")


def test_folders_that_are_not_there_yet_are_made(tmp_path: Path) -> None:
    files.check_writable(tmp_path / "new" / "sub" / "r.yaml")
    assert names(tmp_path) == []


def test_a_pipe_that_nobody_writes_into_is_empty(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(SpecError, match="is empty"):
        files.read(tmp_path / "pipe.yaml")


def test_a_device_has_no_hash() -> None:
    with pytest.raises(SpecError, match="is a device or a pipe, not a file"):
        files.sha256(Path("/dev/zero"))


def test_what_is_read_is_not_written_over(tmp_path: Path) -> None:
    read, link, other = tmp_path / "a.yaml", tmp_path / "link.yaml", tmp_path / "b.yaml"
    read.write_text("x: 1")
    link.symlink_to(read)
    for output in (read, link, tmp_path / "." / "a.yaml"):
        with pytest.raises(SpecError, match="is what is read; write to another file"):
            files.check_writable(output, other, read)
    files.check_writable(other, read)
    assert read.read_text() == "x: 1"


def test_nor_is_what_that_names(tmp_path: Path) -> None:
    """A scenario names a profile, which names its samples; files may name each other in a circle."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "s.yaml").write_text("deployment: {models: {m: {profile: sub/p.yaml}}}\nback: s.yaml\n")
    (tmp_path / "sub" / "p.yaml").write_text("samples: {file: p.parquet}\nfrom: ../s.yaml\n")
    (tmp_path / "sub" / "p.parquet").write_text("raw")
    for output in ("sub/p.yaml", "sub/p.parquet"):
        with pytest.raises(SpecError, match="is what is read"):
            files.check_writable(tmp_path / output, tmp_path / "s.yaml")
    files.check_writable(tmp_path / "sub" / "new.yaml", tmp_path / "s.yaml")
