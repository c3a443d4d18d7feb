"""Paths that users name, and what is read there."""

from __future__ import annotations

from pathlib import Path

import pytest

import selfee_cli
from selfee_cli.errors import NotFoundError, SelfeeError
from selfee_cli.paths import expanded, read_text


def test_a_home_directory_that_nobody_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded(Path("~/a")) == tmp_path / "a"
    assert expanded(Path("b/~")) == Path("b/~")
    with pytest.raises(NotFoundError, match="~nosuchuser is no home directory"):
        expanded(Path("~nosuchuser/x"))


def test_a_model_in_a_home_directory_that_nobody_knows() -> None:
    with pytest.raises(NotFoundError, match="~nosuchuser is no home directory"):
        selfee_cli.load("~nosuchuser/x")


def test_a_text_without_what_other_systems_put_in_it(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_bytes("\ufeffé\r\nb\rc\n".encode())
    assert read_text(file) == "é\nb\nc\n"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "no", tmp_path / "file" / "no", tmp_path / ("long" * 64)):
        with pytest.raises(NotFoundError, match="no file ") as told:
            read_text(path, hint="another")
        assert told.value.hint == "another"


def test_what_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"ab\xff")
    with pytest.raises(SelfeeError, match=r"cannot read .*bytes as UTF-8 text: .* position 2"):
        read_text(tmp_path / "bytes")
    with pytest.raises(SelfeeError, match=r"cannot read .*: Is a directory") as told:
        read_text(tmp_path)
    assert told.value.hint and told.value.exit_code == 1
