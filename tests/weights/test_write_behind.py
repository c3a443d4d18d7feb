import hashlib
import json

import numpy as np
import pytest

from selfee_cli.errors import ResourceError
from selfee_cli.weights import write_behind
from selfee_cli.weights.dtypes import DType
from selfee_cli.weights.storage import TensorInfo
from selfee_cli.weights.write_behind import WriteBehind
from selfee_cli.weights.writer import ShardWriter, plan_shards

INFOS = [
    TensorInfo(name="a", dtype=DType.F16, shape=(40, 16)),
    TensorInfo(name="b", dtype=DType.F32, shape=(3, 16)),
    TensorInfo(name="c", dtype=DType.F16, shape=(1, 16)),
]


def values(info):
    return np.random.default_rng(len(info.name)).integers(0, 99, info.size).astype(info.dtype.raw)


def put(pipe, info, rows=1):
    data, step = values(info), rows * info.row_size
    for start in range(0, info.size, step):
        part = data[start : start + step]
        pipe.buffer(part.size, part.dtype)[:] = part
        pipe.write(info.name, part)
    pipe.flush()


@pytest.mark.parametrize("batch", [1, 100, 1 << 20])
def test_what_is_handed_over_in_batches_is_written_whole_and_in_order(tmp_path, monkeypatch, batch):
    monkeypatch.setattr(write_behind, "BATCH", batch)
    shards = plan_shards(INFOS, 1 << 20)
    with ShardWriter(tmp_path, shards) as writer, WriteBehind(writer, 48) as pipe:
        for info in INFOS:
            put(pipe, info)
    made = (tmp_path / "model.safetensors").read_bytes()
    length = int.from_bytes(made[:8], "little")
    header = json.loads(made[8 : 8 + length])
    for info in INFOS:
        start, end = header[info.name]["data_offsets"]
        assert made[8 + length + start : 8 + length + end] == values(info).tobytes()
    assert writer.files[0].sha256 == hashlib.sha256(made).hexdigest()


def test_an_error_of_the_writer_comes_out(tmp_path, monkeypatch):
    class Full(ShardWriter):
        def write(self, name, data):
            raise ResourceError("the disk is full")

    shards = plan_shards(INFOS, 1 << 20)
    with (
        pytest.raises(ResourceError, match="full"),
        Full(tmp_path, shards) as writer,
        WriteBehind(writer, 48) as pipe,
    ):
        for info in INFOS:
            put(pipe, info)


def test_what_was_handed_over_before_an_interruption_is_kept(tmp_path):
    shards = plan_shards(INFOS, 1)
    with (
        pytest.raises(KeyboardInterrupt),
        ShardWriter(tmp_path, shards) as writer,
        WriteBehind(writer, 48) as pipe,
    ):
        put(pipe, INFOS[0])
        pipe.buffer(16, INFOS[1].dtype.raw)
        raise KeyboardInterrupt
    assert [file.name for file in writer.files] == [shards[0].name]
