"""The correction beside a delta: what is written, how it is applied, what of it is refused."""

import numpy as np
import pytest
import torch
from makers import SMALL, oracle, random_tensors, raw, write_checkpoint
from safetensors import safe_open
from safetensors.numpy import save_file

from selfee_cli.errors import MismatchError, SelfeeError
from selfee_cli.weights import corrections as corrections_module
from selfee_cli.weights.checkpoint import open_checkpoint
from selfee_cli.weights.corrections import CORRECTION_NAME, CorrectionWriter, open_correction
from selfee_cli.weights.delta import apply_delta, plan_delta
from selfee_cli.weights.dtypes import DType
from selfee_cli.weights.recompute import recompute
from selfee_cli.weights.storage import TensorInfo

UP, HEAD = "model.layers.1.mlp.up_proj.weight", "lm_head.weight"
SIZE = SMALL.mlp * SMALL.hidden


def infos(dtype=DType.F16):
    return [
        TensorInfo(name=UP, dtype=dtype, shape=(SMALL.mlp, SMALL.hidden)),
        TensorInfo(name=HEAD, dtype=dtype, shape=(SMALL.vocabulary + 1, SMALL.hidden)),
    ]


def corrections(seed=1):
    """Indices and halves for two tensors: a dense stretch, a gap, both ends."""
    generator = np.random.default_rng(seed)
    found = {}
    for info in infos():
        some = generator.choice(info.size, 300, replace=False)
        index = np.unique([0, *range(40, 80), *some, info.size - 1])
        found[info.name] = index, generator.integers(0, 0x7C00, index.size).astype(np.uint16)
    return found


def write(directory, dtype=DType.F16, found=None):
    directory.mkdir(exist_ok=True)
    with CorrectionWriter(directory, dtype, infos(dtype)) as writer:
        for name, (index, values) in (found or corrections()).items():
            for part in (slice(None, 7), slice(7, None)):
                writer.add(name, index[part], values[part])
        return writer.finish()


def test_other_readers_see_what_was_written(tmp_path):
    found = corrections()
    written = write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [CORRECTION_NAME]
    assert written.size == (tmp_path / CORRECTION_NAME).stat().st_size
    with safe_open(tmp_path / CORRECTION_NAME, "pt") as file:
        assert file.metadata()["dtype"] == "float16"
        assert set(file.keys()) == {
            f"{name}.{kind}" for name in found for kind in ("index", "value")
        }
        for name, (index, values) in found.items():
            assert torch.equal(file.get_tensor(f"{name}.index").long(), torch.from_numpy(index))
            np.testing.assert_array_equal(raw(file.get_tensor(f"{name}.value")), values)


def test_nothing_to_correct_is_no_file(tmp_path):
    with CorrectionWriter(tmp_path, DType.F16, infos()) as writer:
        assert writer.finish() is None
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_no_spill(tmp_path):
    with pytest.raises(ZeroDivisionError), CorrectionWriter(tmp_path, DType.F16, infos()) as writer:
        writer.add(UP, *corrections()[UP])
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("block", [1, 3, 1 << 14])
@pytest.mark.parametrize("chunk", [1, 37, 10_000])
def test_chunks_and_blocks_do_not_show(tmp_path, monkeypatch, block, chunk):
    monkeypatch.setattr(corrections_module, "_BLOCK", block)
    write(tmp_path)
    with open_correction(tmp_path, infos()) as correction:
        for info in infos():
            wanted = np.arange(info.size).astype(np.uint16)
            out = wanted.copy()
            index, values = corrections()[info.name]
            wanted[index] = values
            correction.begin(info)
            for first in range(0, info.size, chunk):
                correction.patch(first, out[first : first + chunk])
            np.testing.assert_array_equal(out, wanted)


def test_another_type_is_left_alone_and_told(tmp_path):
    write(tmp_path)
    with open_correction(tmp_path, infos()) as correction:
        out = np.zeros(SIZE, np.uint16)
        correction.begin(infos(DType.BF16)[0])
        correction.patch(0, out)
        assert not out.any()
        assert correction.note(DType.F16) is None
        assert "holds for float16, this is bfloat16" in correction.note(DType.BF16)


def test_no_file_corrects_nothing(tmp_path):
    with open_correction(tmp_path, infos()) as correction:
        out = np.zeros(SIZE, np.uint16)
        correction.begin(infos()[0])
        correction.patch(0, out)
        assert not out.any() and correction.note(DType.F16) is None


# Beside a real delta.


@pytest.fixture
def pair(tmp_path):
    base = random_tensors(SMALL, seed=1)
    delta = random_tensors(SMALL, seed=2, delta=True, rows_more=1, dtype="float32")
    write_checkpoint(tmp_path / "base", base, SMALL, "safetensors")
    write_checkpoint(tmp_path / "delta", delta, SMALL, "safetensors", rows_more=1)
    return base, delta


def apply(tmp_path, dtype=DType.F16):
    plan = plan_delta(tmp_path / "base", tmp_path / "delta", dtype=dtype)
    return plan, apply_delta(plan, tmp_path / "out")


def test_it_is_not_taken_for_weights(pair, tmp_path):
    write(tmp_path / "delta")
    with open_checkpoint(tmp_path / "delta") as delta:
        assert delta.tensors.keys() == pair[1].keys()
        assert [path.name for path in delta.files] == ["model.safetensors"]


def test_reconstruction_and_its_check_apply_it(pair, tmp_path):
    write(tmp_path / "delta")
    plan, result = apply(tmp_path)
    assert not any(CORRECTION_NAME in note for note in result.notes)
    wanted = {
        name: raw(tensor).reshape(-1).copy() for name, tensor in oracle(*pair, "float16").items()
    }
    for name, (index, values) in corrections().items():
        wanted[name][index] = values
    with open_checkpoint(tmp_path / "out") as made:
        for name, values in wanted.items():
            np.testing.assert_array_equal(made.read(name).reshape(-1), values, err_msg=name)
    assert not list(recompute(plan, tmp_path / "out"))
    (tmp_path / "delta" / CORRECTION_NAME).unlink()
    assert [fault.tensor for fault in recompute(plan, tmp_path / "out")] == [UP, HEAD]


def test_for_another_type_it_is_not_applied(pair, tmp_path):
    write(tmp_path / "delta")
    plan, result = apply(tmp_path, DType.F32)
    assert f"{CORRECTION_NAME} was not applied" in result.notes[-1]
    with open_checkpoint(tmp_path / "out") as made:
        for name, tensor in oracle(*pair, "float32").items():
            np.testing.assert_array_equal(made.read(name), raw(tensor))
    assert not list(recompute(plan, tmp_path / "out"))


HALF = np.ones(3, np.float16)


def index(*values, dtype=np.uint32):
    return np.array(values, dtype)


DAMAGES = {
    "descending": ({f"{UP}.index": index(5, 4, 9), f"{UP}.value": HALF}, "do not ascend"),
    "twice": ({f"{UP}.index": index(4, 4, 9), f"{UP}.value": HALF}, "do not ascend"),
    "negative": (
        {f"{UP}.index": index(-1, 4, 9, dtype=np.int64), f"{UP}.value": HALF}, "do not ascend",
    ),
    "so far down that the difference wraps": (
        {f"{UP}.index": index(9 * 10**18, -9 * 10**18, 4, dtype=np.int64), f"{UP}.value": HALF},
        "do not ascend",
    ),
    "beyond": ({f"{UP}.index": index(0, 4, SIZE), f"{UP}.value": HALF}, f"index {SIZE:,} of"),
    "fewer values": ({f"{UP}.index": index(0, 4), f"{UP}.value": HALF}, "not as many"),
    "no values": ({f"{UP}.index": index(0, 4, 9)}, "not as many"),
    "no indices": ({f"{UP}.value": HALF}, "not as many"),
    "a matrix": ({f"{UP}.index": index(0, 4, 9)[None], f"{UP}.value": HALF[None]}, "not as many"),
    "unknown tensor": ({"x.index": index(0, 4, 9), "x.value": HALF}, "corrects 'x'"),
    "neither": ({f"{UP}.weight": HALF}, "neither index nor value"),
    "short indices": (
        {f"{UP}.index": index(0, 4, 9, dtype=np.uint16), f"{UP}.value": HALF}, "U16 and F16",
    ),
    "wide values": (
        {f"{UP}.index": index(0, 4, 9), f"{UP}.value": np.ones(3, np.float32)}, "U32 and F32",
    ),
    "not finite": (
        {f"{UP}.index": index(0, 4, 9), f"{UP}.value": np.array([1, np.nan, 1], np.float16)},
        "not finite",
    ),
}  # fmt: skip
GOOD = {f"{UP}.index": index(0, 4, 9, dtype=np.int64), f"{UP}.value": HALF}
ABOUT = {"format": "selfee.correction/1", "dtype": "float16"}


def refused(tmp_path, kind, words):
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(kind) as caught:
        apply(tmp_path)
    assert words in caught.value.message and "\n" not in caught.value.message
    assert caught.value.message.startswith(str(tmp_path / "delta" / CORRECTION_NAME))
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_one_error_before_work(pair, tmp_path, damage):
    tensors, words = DAMAGES[damage]
    save_file(tensors, tmp_path / "delta" / CORRECTION_NAME, metadata=ABOUT)
    refused(tmp_path, MismatchError, words)
    with pytest.raises(MismatchError):
        list(recompute(plan_delta(tmp_path / "base", tmp_path / "delta"), tmp_path / "base"))


def test_damage_in_a_later_block_is_found(pair, tmp_path, monkeypatch):
    monkeypatch.setattr(corrections_module, "_BLOCK", 2)
    tensors = {f"{UP}.index": index(3, 7, 7, 9), f"{UP}.value": np.ones(4, np.float16)}
    save_file(tensors, tmp_path / "delta" / CORRECTION_NAME, metadata=ABOUT)
    refused(tmp_path, MismatchError, "do not ascend")


@pytest.mark.parametrize(
    ("about", "words"),
    [
        (None, "its format is None"),
        ({**ABOUT, "format": "pt"}, "its format is 'pt'"),
        ({**ABOUT, "dtype": "int8"}, "holds for 'int8'"),
        ({**ABOUT, "dtype": "bfloat16"}, "I64 and F16"),
    ],
)
def test_what_it_says_of_itself_must_be_sound(pair, tmp_path, about, words):
    save_file(GOOD, tmp_path / "delta" / CORRECTION_NAME, metadata=about)
    refused(tmp_path, MismatchError, words)


def test_indices_of_64_bits_are_read(pair, tmp_path):
    save_file(GOOD, tmp_path / "delta" / CORRECTION_NAME, metadata=ABOUT)
    apply(tmp_path)
    with open_checkpoint(tmp_path / "out") as made:
        assert set(made.read(UP).reshape(-1)[[0, 4, 9]]) == {0x3C00}


@pytest.mark.parametrize("keep", [0, 4, 40, -1])
def test_a_file_cut_short(pair, tmp_path, keep):
    path = tmp_path / "delta" / CORRECTION_NAME
    write(tmp_path / "delta")
    path.write_bytes(path.read_bytes()[:keep])
    refused(tmp_path, SelfeeError, "whole")
