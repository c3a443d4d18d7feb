"""Shards on a disk that takes less than they need: told in time, and nothing half done stays."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from selfee_cli.weights.dtypes import DType
from selfee_cli.weights.storage import TensorInfo
from selfee_cli.weights.writer import ShardWriter, plan_shards

INFOS = [TensorInfo(name=name, dtype=DType.F16, shape=(50, 40)) for name in "ab"]

FULL = textwrap.dedent("""
    import os, resource, sys
    from pathlib import Path
    import numpy as np
    from selfee_cli.errors import ResourceError
    from selfee_cli.weights.dtypes import DType
    from selfee_cli.weights.storage import TensorInfo
    from selfee_cli.weights.writer import ShardWriter, plan_shards

    if hasattr(os, "posix_fallocate"):
        del os.posix_fallocate  # as where a system has none
    info = TensorInfo(name="a", dtype=DType.F16, shape=(500, 400))
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
    try:
        with ShardWriter(Path(sys.argv[1]), plan_shards([info], 1 << 30)) as writer:
            writer.write("a", np.ones(info.size, np.float16).view(info.dtype.raw))
    except ResourceError as error:
        print(error)
""")


def test_a_file_that_ends_within_the_last_piece_is_told(tmp_path: Path) -> None:
    """The system takes a part of a piece without an error, and refuses the next one only."""
    pytest.importorskip("resource", reason="needs limits as Unix has them")
    done = subprocess.run(
        [sys.executable, "-c", FULL, tmp_path], capture_output=True, text=True, check=True
    )
    assert "no space left" in done.stdout
    assert not list(tmp_path.iterdir())


def test_only_finished_files_stay_after_an_interruption(tmp_path: Path) -> None:
    shards = plan_shards(INFOS, 1)
    with pytest.raises(KeyboardInterrupt), ShardWriter(tmp_path, shards) as writer:
        writer.write("a", np.zeros(INFOS[0].size, INFOS[0].dtype.raw))
        assert {path.name for path in tmp_path.iterdir()} == {shard.name for shard in shards}
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == [shards[0].name]


def test_a_file_that_was_there_is_not_removed(tmp_path: Path) -> None:
    shards = plan_shards(INFOS, 1)
    (tmp_path / shards[1].name).write_text("not ours")
    with pytest.raises(Exception, match="File exists"), ShardWriter(tmp_path, shards):
        pytest.fail("nothing is reserved")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["not ours"]
