"""The directory in which a result is made: whose it is, what is kept of it, how it appears."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from selfee_cli.errors import MismatchError, ResourceError, SelfeeError, UsageError
from selfee_cli.weights.disk import (
    check_target,
    staging_of,
    sync_directory,
    write_text,
)
from selfee_cli.weights.journal import (
    JOURNAL_NAME,
    FinishedShard,
    Journal,
    check_other_work,
    holds_finished,
)
from selfee_cli.weights.manifest import MANIFEST_NAME
from selfee_cli.weights.staging import staged_directory

SHARD = "model.safetensors"


def finish_shard(journal: Journal) -> None:
    file = write_text(journal.directory / SHARD, "weights")
    journal.add(FinishedShard(file=file, tensors={}))


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_the_current_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for target in (Path(), tmp_path / "here"):
        with pytest.raises(UsageError, match="is the current directory") as caught:
            check_target(target)
        assert str(target / "weights") in str(caught.value.hint)
    check_target(Path("weights"))


def test_a_mount_point_is_refused(tmp_path: Path) -> None:
    """An empty disk as the target, as a container has it: nothing can be renamed to it."""
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to("out")
    script = (
        "import sys\nfrom pathlib import Path\nfrom selfee_cli.errors import UsageError\n"
        "from selfee_cli.weights.disk import check_target\n"
        "try: check_target(Path(sys.argv[1]))\n"
        "except UsageError as error: print(error, error.hint, sep='\\n')"
    )
    mounted = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    mounted += ['mount -t tmpfs none "$0" && shift 0 && exec "$@"', str(tmp_path / "out")]
    if not shutil.which("unshare") or subprocess.run([*mounted, "true"], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    for name in ("out", "link"):
        command = [*mounted, sys.executable, "-c", script, str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "is where a disk is mounted" in done.stdout
        assert f"inside it, such as {tmp_path / name / 'weights'}" in done.stdout


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), ResourceError("full"), SelfeeError("unreadable"), OSError(5, "EIO")],
    ids=lambda error: type(error).__name__,
)
def test_finished_work_outlives_what_fails_at_the_last_moment(
    tmp_path: Path, error: BaseException
) -> None:
    target = tmp_path / "out"
    with pytest.raises(type(error)), staged_directory(target, "work") as journal:
        finish_shard(journal)
        raise error
    with staged_directory(target, "work") as journal:
        assert list(journal.finished) == [SHARD]
    assert names(target) == [SHARD]
    assert names(tmp_path) == ["out"]


def test_wrong_inputs_leave_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(MismatchError),
        staged_directory(tmp_path / "deep" / "out", "work") as journal,
    ):
        finish_shard(journal)
        raise MismatchError("an input is damaged")
    assert names(tmp_path) == []


def test_a_target_that_fills_while_it_is_made_costs_nothing(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    with (
        pytest.raises(SelfeeError, match=r"cannot write to .*out: Directory not empty"),
        staged_directory(target, "work") as journal,
    ):
        finish_shard(journal)
        (target / "letter.txt").write_text("mine")
    assert names(target) == ["letter.txt"]
    (target / "letter.txt").unlink()
    with staged_directory(target, "work") as journal:
        assert list(journal.finished) == [SHARD]
    assert names(target) == [SHARD]


def test_a_kill_between_journal_and_rename_is_known_as_a_runs(tmp_path: Path) -> None:
    target = tmp_path / "out"
    staging = staging_of(target)
    staging.mkdir()
    for name in (SHARD, MANIFEST_NAME):
        (staging / name).write_text("of the run that was killed")
    with staged_directory(target, "work") as journal:
        assert names(staging) == [JOURNAL_NAME]
        finish_shard(journal)
    assert (target / SHARD).read_text() == "weights"


def test_a_directory_with_other_files_is_not_touched(tmp_path: Path) -> None:
    staging = staging_of(tmp_path / "out")
    staging.mkdir()
    (staging / "thesis.txt").write_text("years")
    with (
        pytest.raises(UsageError, match="holds other files"),
        staged_directory(tmp_path / "out", "work"),
    ):
        pytest.fail("the work has begun")
    assert (staging / "thesis.txt").read_text() == "years"


def test_finished_work_of_other_options_is_asked_for(tmp_path: Path) -> None:
    target = tmp_path / "out"
    staging = staging_of(target)
    check_other_work(staging, "work")
    with pytest.raises(KeyboardInterrupt), staged_directory(target, "work") as journal:
        finish_shard(journal)
        raise KeyboardInterrupt
    check_other_work(staging, "work")
    with pytest.raises(UsageError, match="other options or inputs: 1 file"):
        check_other_work(staging, "other work")
    assert holds_finished(staging)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")
def test_a_file_system_that_syncs_no_directories_is_no_error() -> None:
    sync_directory(Path("/proc/self"))
