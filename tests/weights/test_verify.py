import hashlib
import io
import json
import random
import shutil

import pytest
import torch
from makers import SMALL, random_tensors, write_checkpoint, write_hf

from selfee_cli.errors import MismatchError, NotFoundError, SelfeeError, UsageError
from selfee_cli.weights.checkpoint import open_checkpoint
from selfee_cli.weights.checksums import files_to_sum, sums_of
from selfee_cli.weights.delta import apply_delta, plan_delta
from selfee_cli.weights.dtypes import DType
from selfee_cli.weights.fingerprint import sampled_fingerprint
from selfee_cli.weights.inspect import inspect
from selfee_cli.weights.recompute import recompute
from selfee_cli.weights.releases import ReleasedFile, known_release, presumed_release
from selfee_cli.weights.safetensors_file import read_safetensors_header
from selfee_cli.weights.storage import DataFile
from selfee_cli.weights.verify import expectation, verify


@pytest.fixture
def made(tmp_path):
    base = random_tensors(SMALL, seed=1)
    delta = random_tensors(SMALL, seed=2, delta=True, rows_more=1, dtype="float32")
    write_checkpoint(tmp_path / "base", base, SMALL, "meta")
    write_checkpoint(tmp_path / "delta", delta, SMALL, "bin", rows_more=1)
    plan = plan_delta(tmp_path / "base", tmp_path / "delta", shard_size=20_000)
    return apply_delta(plan, tmp_path / "out").path


def flip(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def shard_of(path, name):
    index = json.loads((path / "model.safetensors.index.json").read_text())
    return path / index["weight_map"][name]


def span_of(file, name):
    with DataFile(file) as data:
        return read_safetensors_header(data)[name]


def test_a_good_result_has_no_fault(made):
    assert list(verify(made)) == []
    assert expectation(made).authority == "manifest"


@pytest.mark.parametrize("name", ["lm_head.weight", "model.layers.1.mlp.up_proj.weight"])
def test_a_flipped_bit_is_named_by_tensor(made, name):
    shard = shard_of(made, name)
    span = span_of(shard, name)
    flip(shard, span.offset + span.nbytes // 2)
    (fault,) = verify(made)
    assert (fault.file, fault.tensor) == (shard.name, name)
    assert fault.expected != fault.found and len(fault.expected) == 8
    assert name in str(fault) and fault.expected in str(fault)


@pytest.mark.parametrize("offset", [0, 5, 30])
def test_a_flipped_bit_of_a_header_is_told(made, offset):
    shard = sorted(made.glob("model-*.safetensors"))[0]
    flip(shard, offset)
    faults = list(verify(made))
    assert faults and all(fault.file == shard.name for fault in faults)


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.model", "model.safetensors.index.json", "SHA256SUMS"]
)
def test_a_flipped_bit_of_any_other_file_is_told(made, name):
    flip(made / name, 4)
    faults = list(verify(made))
    assert name in [fault.file for fault in faults]


def test_a_flipped_bit_of_the_manifest_is_told(made):
    manifest = made / "selfee-manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"float16"', '"float15"', 1))
    (fault,) = verify(made)
    assert "selfee-manifest.json" in str(fault)
    manifest.write_text(text[:-20])
    (fault,) = verify(made)
    assert fault.file == "selfee-manifest.json" and len(fault.expected) == 64
    (made / "SHA256SUMS").unlink()
    with pytest.raises(MismatchError, match="selfee-manifest"):
        list(verify(made))


def test_one_flipped_bit_anywhere_is_told_with_its_file(made):
    rng = random.Random(11)
    files = sorted(path for path in made.iterdir())
    for _ in range(200):
        path = rng.choice(files)
        whole = path.read_bytes()
        at, bit = rng.randrange(len(whole)), rng.randrange(8)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        faults = list(verify(made))
        assert path.name in [fault.file for fault in faults], (path.name, at, bit, faults)
        path.write_bytes(whole)
    assert list(verify(made)) == []


def test_any_extra_file_is_told(made):
    (made / ".cache").mkdir()
    (made / "chat_template.jinja").write_text("x")
    (fault,) = verify(made)
    assert fault.file == "chat_template.jinja" and "does not know" in fault.reason


def test_missing_extra_renamed_and_truncated_files(made):
    shards = sorted(made.glob("model-*.safetensors"))
    shutil.copy(shards[0], made / "model-00009-of-00009.safetensors")
    assert [fault.file for fault in verify(made)] == ["model-00009-of-00009.safetensors"]
    (made / "model-00009-of-00009.safetensors").unlink()
    content = shards[1].read_bytes()
    shards[1].write_bytes(content[:-10])
    (fault,) = verify(made)
    assert fault.file == shards[1].name and "truncated" in fault.reason
    shards[1].unlink()
    (fault,) = verify(made)
    assert fault.file == shards[1].name and "missing" in fault.reason


def test_a_manifest_that_names_files_elsewhere(made):
    manifest = made / "selfee-manifest.json"
    manifest.write_text(manifest.read_text().replace('"config.json"', '"../config.json"'))
    (made / "SHA256SUMS").unlink()
    with pytest.raises(SelfeeError, match="no file beside it"):
        expectation(made)


def test_recomputing(made, tmp_path):
    plan = plan_delta(tmp_path / "base", tmp_path / "delta", dtype=DType.F32)
    assert list(recompute(plan, made)) == []
    name = "model.layers.0.self_attn.q_proj.weight"
    span = span_of(shard_of(made, name), name)
    flip(shard_of(made, name), span.offset + 100)
    (fault,) = recompute(plan, made)
    assert (fault.file, fault.tensor) == (shard_of(made, name).name, name)
    assert "1 of 1,024 elements" in fault.reason
    with_base = list(recompute(plan, tmp_path / "base"))
    assert any("the shape is" in fault.reason for fault in with_base)


def test_sums(tmp_path):
    path = write_checkpoint(tmp_path / "m", random_tensors(SMALL, seed=1), SMALL, "bin")
    with pytest.raises(NotFoundError) as caught:
        expectation(path)
    assert "selfee checksum" in caught.value.hint
    (path / "SHA256SUMS").write_text(sums_of(files_to_sum(path)))
    assert list(verify(path)) == []
    flip(path / "pytorch_model.bin", 3000)
    (fault,) = verify(path)
    assert fault.file == "pytorch_model.bin" and fault.tensor is None


def test_sums_that_point_elsewhere(tmp_path):
    path = write_checkpoint(tmp_path / "m", random_tensors(SMALL, seed=1), SMALL, "bin")
    (path / "SHA256SUMS").write_text("0" * 64 + "  ../x\n")
    with pytest.raises(SelfeeError, match="no file beside it"):
        expectation(path)


def test_a_checklist_is_of_md5sum(tmp_path):
    path = write_checkpoint(tmp_path / "m", random_tensors(SMALL, seed=1), SMALL, "meta")
    names = ["consolidated.00.pth", "params.json"]
    lines = [f"{hashlib.md5((path / n).read_bytes()).hexdigest()}  {n}\n" for n in names]
    (path / "checklist.chk").write_text("".join(lines))
    assert list(verify(path)) == []
    flip(path / "params.json", 2)
    (fault,) = verify(path)
    assert fault.file == "params.json" and len(fault.found) == 32


def released(release, file):
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return ReleasedFile(release=release, name=file.name, sha256=digest)


def release(monkeypatch, tmp_path, files):
    monkeypatch.setattr("selfee_cli.weights.releases.RELEASES", tuple(files))
    monkeypatch.setattr("selfee_cli.weights.verify.RELEASES", tuple(files))
    monkeypatch.setenv("SELFEE_HOME", str(tmp_path / "home"))


def test_known_releases(tmp_path, monkeypatch):
    path = write_checkpoint(tmp_path / "m", random_tensors(SMALL, seed=1), SMALL, "meta", shards=2)
    (path / "tokenizer.model").unlink()
    with pytest.raises(NotFoundError, match="no file of a known release"):
        list(verify(path))
    release(monkeypatch, tmp_path, [released("a release", file) for file in path.iterdir()])
    with open_checkpoint(path) as checkpoint:
        fingerprint = sampled_fingerprint(checkpoint)
    assert known_release(fingerprint) is None
    assert presumed_release(path) == "a release"
    assert list(verify(path)) == []
    assert known_release(fingerprint) == "a release"
    flip(path / "consolidated.01.pth", 3000)
    (fault,) = verify(path)
    assert fault.file == "consolidated.01.pth" and "a release" in fault.reason
    (path / "consolidated.01.pth").unlink()
    (fault,) = verify(path)
    assert "missing from a release" in fault.reason


def test_weights_without_a_known_digest_are_not_called_right(tmp_path, monkeypatch, streams):
    from selfee_cli.commands.verify import verify as verify_command

    tensors = random_tensors(SMALL, seed=1)
    path = write_checkpoint(tmp_path / "m", tensors, SMALL, "bin", shards=3)
    *known, last = sorted(path.glob("*.bin"))
    release(monkeypatch, tmp_path, [released("a release", file) for file in known])
    with open_checkpoint(path) as checkpoint:
        fingerprint = sampled_fingerprint(checkpoint)
    (path / "tokenizer.model").unlink()
    assert list(verify(path)) == []
    assert expectation(path).unchecked == (last.name,)
    assert known_release(fingerprint) is None
    verify_command(path)
    told = streams.taken()[1]
    assert f"{last.name} was not checked" in told and f"{path} is right as far as is known" in told
    verify_command(path, as_json=True)
    assert json.loads(streams.taken()[0])["unchecked"] == [last.name]
    release(monkeypatch, tmp_path, [released("a release", file) for file in (*known, last)])
    verify_command(path)
    assert f"{path} is right: 3 files as in the known releases" in streams.taken()[1]
    assert known_release(fingerprint) == "a release"  # the index needs no digest


def test_weights_of_another_release_do_not_belong(tmp_path, monkeypatch):
    path = write_checkpoint(tmp_path / "m", random_tensors(SMALL, seed=1), SMALL, "meta", shards=2)
    (path / "tokenizer.model").unlink()
    first, second, params = (
        path / n for n in ("consolidated.00.pth", "consolidated.01.pth", "params.json")
    )
    files = [released("one", first), released("one", params), released("another", second)]
    release(monkeypatch, tmp_path, files)
    (fault,) = verify(path)
    assert (fault.file, fault.reason) == (second.name, "one has no such file")


def test_inspect(made, tmp_path):
    found = inspect(made)
    assert (found.format, found.architecture) == ("safetensors", "LlamaForCausalLM")
    assert found.vocabulary == SMALL.vocabulary + 1
    assert (found.layers, found.hidden, found.context) == (2, 32, 2048)
    assert found.dtypes == {"float16": found.parameters}
    assert found.bytes == 2 * found.parameters
    assert found.shards == len(list(made.glob("model-*.safetensors")))
    assert found.provenance["made_from"]["base"]["name"] == "base"
    assert found.chat_ready
    json.dumps(found.to_json())
    delta = inspect(tmp_path / "delta")
    assert not delta.chat_ready and "apply-delta" in delta.why_not
    assert inspect(tmp_path / "base").provenance is None
    (made / "tokenizer.model").unlink()
    assert "tokenizer" in inspect(made).why_not


# The commands.


class Streams:
    def __init__(self):
        self.out, self.err = io.StringIO(), io.StringIO()

    def taken(self):
        out, err = self.out.getvalue(), self.err.getvalue()
        for stream in (self.out, self.err):
            stream.seek(0)
            stream.truncate()
        return out, err


@pytest.fixture
def streams(monkeypatch):
    from selfee_cli.ui.console import console

    streams = Streams()
    monkeypatch.setattr(console, "out", streams.out)
    monkeypatch.setattr(console, "err", streams.err)
    return streams


def test_commands_tell_faults_and_codes(made, tmp_path, streams):
    from selfee_cli.commands.checksum import checksum
    from selfee_cli.commands.inspect import inspect as inspect_command
    from selfee_cli.commands.verify import verify as verify_command
    from selfee_cli.errors import MismatchError

    verify_command(made, base=str(tmp_path / "base"), delta=str(tmp_path / "delta"))
    assert "bit for bit" in streams.taken()[1]
    with pytest.raises(UsageError):
        verify_command(made, base=str(tmp_path / "base"))
    flip(made / "config.json", 3)
    with pytest.raises(MismatchError):
        verify_command(made)
    assert streams.taken()[0].startswith("config.json: the digest differs")
    with pytest.raises(MismatchError):
        verify_command(made, as_json=True)
    report = json.loads(streams.taken()[0])
    assert not report["ok"] and report["faults"][0]["file"] == "config.json"

    checksum(tmp_path / "base", "-")
    printed = streams.taken()[0]
    checksum(tmp_path / "base")
    assert (tmp_path / "base" / "SHA256SUMS").read_text() == printed
    with pytest.raises(UsageError):
        checksum(tmp_path / "base")
    with pytest.raises(NotFoundError):
        checksum(tmp_path / "nowhere")
    verify_command(tmp_path / "base")
    streams.taken()

    inspect_command(tmp_path / "delta")
    assert "not ready: it is a delta" in streams.taken()[0]
    inspect_command(tmp_path / "base", as_json=True)
    assert json.loads(streams.taken()[0])["format"] == "meta"


def test_apply_delta_command(made, tmp_path, streams):
    from selfee_cli.commands.apply_delta import apply_delta as command
    from selfee_cli.commands.apply_delta import parse_size

    pair = {"base": str(tmp_path / "base"), "delta": str(tmp_path / "delta")}
    command(**pair, out=tmp_path / "new", dtype="bfloat16", shard_size="10KB", as_json=True)
    out, err = streams.taken()
    assert json.loads(out)["manifest"]["dtype"] == "bfloat16"
    assert "GB/s" in err and "selfee ask --model" in err
    for options in ({"dtype": "int8"}, {"shard_size": "5 apples"}, {"shard_size": "0"}):
        with pytest.raises(UsageError):
            command(**pair, out=tmp_path / "other", **options)
    with pytest.raises(NotFoundError) as caught:
        command(base="kaist-ai/nothing", delta=pair["delta"], out=tmp_path / "other")
    assert "hf download" in caught.value.hint
    sizes = [parse_size(text) for text in ("5GB", "500mb", "2GiB", "1.5k", "10")]
    assert sizes == [5 * 10**9, 5 * 10**8, 2**31, 1500, 10]


def test_a_result_whose_weights_are_gone(made):
    for shard in made.glob("model-*.safetensors"):
        shard.unlink()
    assert all("missing" in fault.reason for fault in verify(made))


def test_weights_in_float64_are_no_surprise(tmp_path):
    write_hf(tmp_path, {"a": torch.ones(2, dtype=torch.float64)}, "safetensors")
    with pytest.raises(SelfeeError, match="F64"):
        inspect(tmp_path)


def test_names_that_everyone_uses_do_not_keep_from_recomputing(made, tmp_path, streams):
    from safetensors.torch import load_file

    from selfee_cli.commands.verify import verify as verify_command

    tensors = {}
    for shard in made.glob("*.safetensors"):
        tensors |= load_file(shard)
    path = tmp_path / "old"
    write_hf(path, tensors, "bin", shards=2)
    assert (path / "pytorch_model-00001-of-00002.bin").exists()
    with pytest.raises(NotFoundError, match="no file of a known release"):
        verify_command(path)
    pair = {"base": str(tmp_path / "base"), "delta": str(tmp_path / "delta")}
    verify_command(path, **pair)
    assert f"{path} is right: {len(tensors)} tensors are base + delta" in streams.taken()[1]
    tensors["lm_head.weight"][3, 3] += 1
    write_hf(path, tensors, "bin", shards=2)
    with pytest.raises(MismatchError):
        verify_command(path, **pair, as_json=True)
    report = json.loads(streams.taken()[0])
    assert report["checked"] == [f"{len(tensors)} tensors against base + delta: 1 fault"]
    with pytest.raises(NotFoundError, match="there is no"):
        verify_command(tmp_path / "nowhere", **pair)
