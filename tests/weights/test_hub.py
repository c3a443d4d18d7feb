"""Downloads from a small Hub on this machine, each in a process of its own: the settings of
huggingface_hub are read when it is imported."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from cli import selfee
from hub_server import Repo, files_of, serving

from selfee_cli.errors import NotFoundError
from selfee_cli.weights.hub import looks_like_repo, resolve
from selfee_cli.weights.hub_files import file_sets, weights_below

WEIGHTS = bytes(range(256)) * 64
CHECKPOINT = {"config.json": b"{}", "tokenizer.model": b"t", "model.safetensors": WEIGHTS}
TWICE = CHECKPOINT | {"pytorch_model.bin": WEIGHTS[::-1]}
RUN = """
import json, sys
from selfee_cli.errors import SelfeeError
from selfee_cli.weights.hub import resolve
quiet = "--quiet" in sys.argv
if "--small-disk" in sys.argv:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))
def say(text):
    print(text, file=sys.stderr)
for value in (word for word in sys.argv[1:] if not word.startswith("--")):
    try:
        answer = {"path": str(resolve(value, say=say, quiet=quiet))}
    except SelfeeError as error:
        answer = {"error": error.message, "hint": error.hint, "code": error.exit_code}
    print(json.dumps(answer))
"""


@dataclass
class Outcome:
    said: str
    path: Path | None = None
    error: str = ""
    hint: str = ""
    code: int = 0


@dataclass
class Client:
    """A user's machine: its cache and what its environment says."""

    home: Path

    def environment(self, endpoint: str, **more: str) -> dict[str, str]:
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("HF_", "HUGGING"))}
        own = {"HF_HOME": str(self.home), "HF_ENDPOINT": endpoint, "NO_PROXY": "*"}
        return kept | own | {"SELFEE_HOME": str(self.home / "selfee")} | more

    def resolve(self, endpoint: str, *words: str, **environment: str) -> Outcome:
        (outcome,) = self.resolve_all(endpoint, *words, **environment)
        return outcome

    def resolve_all(self, endpoint: str, *words: str, **environment: str) -> list[Outcome]:
        """Resolve every word that is no flag, in one process."""
        done = subprocess.run(
            [sys.executable, "-c", RUN, *words],
            env=self.environment(endpoint, **environment),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        outcomes = []
        for line in done.stdout.splitlines():
            answer = json.loads(line)
            path = Path(answer.pop("path")) if "path" in answer else None
            outcomes.append(Outcome(said=done.stderr, path=path, **answer))
        return outcomes


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path / "hf")


def names(outcome: Outcome) -> list[str]:
    assert outcome.path is not None, outcome
    return sorted(path.name for path in outcome.path.iterdir())


# What is a repository


@pytest.mark.parametrize(
    ("value", "is_repo"),
    [
        ("kaist-ai/selfee-7b-delta", True),
        ("kaist-ai/selfee-7b-delta@main", True),
        ("kaist-ai/selfee-7b-delta@refs/pr/1", True),
        ("a/b.c_d-e", True),
        ("tiny", False),
        ("a/b/c", False),
        ("/a/b", False),
        ("./a", False),
        ("../a", False),
        ("~/a", False),
        ("a/", False),
        ("a/b@", False),
        ("a/b@../c", False),
        ("a/b c", False),
        (r"a\b", False),
        ("", False),
    ],
)
def test_what_looks_like_a_repository(value: str, is_repo: bool) -> None:
    assert looks_like_repo(value) is is_repo


def test_a_path_that_exists_always_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert not looks_like_repo("org/model")
    assert resolve("org/model") == Path("org/model")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/org") == tmp_path / "org"


def test_what_is_neither_is_not_found() -> None:
    with pytest.raises(NotFoundError, match=r"there is no \./nowhere"):
        resolve("./nowhere")


# Which files


def test_one_layout_and_no_scripts() -> None:
    listing = [
        ".gitattributes", "README.md", "LICENSE", "LICENSE.txt", "license.py", "Notice",
        "config.json", "tokenizer.model", "modeling_llama.py", "chat_template.py",
        "training_args.bin", "optimizer.pt", "model.fp16.safetensors", "adapter_model.safetensors",
        "model.gguf", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
        "model.safetensors.index.json", "pytorch_model-00001-of-00001.bin",
        "pytorch_model.bin.index.json", "consolidated.00.pth", "params.json",
        "original/consolidated.00.pth", "original/params.json", "onnx/model.safetensors",
    ]  # fmt: skip
    sets = file_sets(listing)
    assert [one.weights for one in sets] == [
        (
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
        ),
        ("pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"),
        ("consolidated.00.pth", "params.json"),
    ]
    sidecars = {"README.md", "LICENSE", "LICENSE.txt", "Notice", "config.json", "tokenizer.model"}
    assert all(set(one.sidecars) == sidecars for one in sets)


def test_weights_in_a_folder_are_no_weights_of_the_repository() -> None:
    listing = ["README.md", "7B/consolidated.00.pth", "7B/params.json", "tokenizer.model"]
    assert file_sets(listing) == []
    assert weights_below(listing) == "7B"


# Downloads


def test_downloads_one_layout_and_says_so(client: Client) -> None:
    repo = Repo(files=TWICE | {"run.py": b"evil", "original/params.json": b"{}"})
    with serving(model=repo) as hub:
        done = client.resolve(hub.url, "org/model")
        assert names(done) == sorted(CHECKPOINT)
        assert {n: (done.path / n).read_bytes() for n in CHECKPOINT} == CHECKPOINT
        assert hub.fetched() == sorted(CHECKPOINT)
        assert done.said == f"downloading org/model at {repo.sha[:7]}: 3 files, 0.0 MB\n"
        assert client.home in done.path.parents

        again = client.resolve(hub.url, "org/model")
        assert again.path == done.path
        assert again.said == ""
        assert hub.fetched() == sorted(CHECKPOINT)  # nothing for a second time


@pytest.mark.parametrize(
    ("weights", "beside"),
    [
        (["pytorch_model.bin"], ["consolidated.00.pth", "params.json"]),
        (["consolidated.00.pth", "consolidated.01.pth", "params.json"], ["model.gguf"]),
    ],
)
def test_other_layouts(client: Client, weights: list[str], beside: list[str]) -> None:
    files = {"config.json": b"{}"} | dict.fromkeys([*weights, *beside], WEIGHTS)
    with serving(model=Repo(files=files)) as hub:
        assert names(client.resolve(hub.url, "org/model")) == sorted(["config.json", *weights])


def test_a_newer_commit_fetches_only_what_changed(client: Client) -> None:
    with serving(model=Repo(files=CHECKPOINT)) as hub:
        old = client.resolve(hub.url, "org/model")
        new = hub.repos["org/model"] = Repo(files=CHECKPOINT | {"config.json": b'{"new": 1}'})
        hub.requests.clear()
        done = client.resolve(hub.url, "org/model")
        assert done.path != old.path
        assert hub.fetched() == ["config.json"]
        assert done.said.startswith(f"downloading org/model at {new.sha[:7]}: 1 of 3 files")


def test_a_commit_that_is_here_needs_no_question(client: Client) -> None:
    repo = Repo(files=CHECKPOINT, revisions=("main", "v1", "refs/pr/1"))
    with serving(model=repo) as hub:
        for revision in ("v1", "refs/pr/1", repo.sha):
            hub.requests.clear()
            assert client.resolve(hub.url, f"org/model@{revision}").path.name == repo.sha
        assert hub.requests == []


def test_a_broken_connection_is_resumed(client: Client) -> None:
    big = os.urandom(1 << 20) * 12  # the library writes by chunks of 10 MiB
    with serving(model=Repo(files=CHECKPOINT | {"model.safetensors": big})) as hub:
        hub.cut["model.safetensors"] = 11 << 20
        done = client.resolve(hub.url, "org/model", "--quiet")
        assert (done.path / "model.safetensors").read_bytes() == big
        assert f"bytes={10 << 20}-" in [request.range for request in hub.requests]


def test_a_private_repository_with_its_token(client: Client) -> None:
    with serving(model=Repo(files=CHECKPOINT, token="hf_right")) as hub:
        done = client.resolve(hub.url, "org/model", HF_TOKEN="hf_right")
        assert names(done) == sorted(CHECKPOINT)


def test_a_copy_with_two_layouts_is_seen_as_one(client: Client) -> None:
    with serving(model=Repo(files=TWICE)) as hub:
        done = client.resolve(hub.url, "org/model")
        (done.path / "pytorch_model.bin").write_bytes(b"as another program fetched it")
        for environment in ({}, {"HF_HUB_OFFLINE": "1"}):
            view = client.resolve(hub.url, "org/model", **environment)
            assert names(view) == sorted(CHECKPOINT)
            assert (view.path / "model.safetensors").read_bytes() == WEIGHTS
        assert (done.path / "pytorch_model.bin").exists()


def test_bars_on_a_terminal_only(client: Client) -> None:
    pexpect = pytest.importorskip("pexpect")
    script = client.home.parent / "script.py"
    script.write_text(RUN)
    with serving(model=Repo(files=CHECKPOINT)) as hub:
        for flags, bars in ([], True), (["--quiet"], False):
            shutil.rmtree(client.home, ignore_errors=True)
            shown = pexpect.run(
                " ".join([sys.executable, str(script), "org/model", *flags]),
                env=client.environment(hub.url),
            ).decode()
            assert "downloading org/model" in shown
            assert ("%|" in shown) is bars, shown


# Without a network


def test_offline_uses_the_copy_that_is_here(client: Client) -> None:
    repo = Repo(files=TWICE)
    with serving(model=repo) as hub:
        done = client.resolve(hub.url, "org/model")
        hub.requests.clear()
        offline = client.resolve(hub.url, "org/model", HF_HUB_OFFLINE="1")
        assert hub.requests == []
    gone = client.resolve(hub.url, "org/model")
    assert offline.path == gone.path == done.path
    copy = f"using the copy of org/model at {repo.sha[:7]} that is here\n"
    assert offline.said == f"HF_HUB_OFFLINE is set: {copy}"
    assert gone.said.startswith(f"{hub.url} cannot be reached (")
    assert gone.said.endswith(copy)
    assert gone.said.count("\n") == 1


def test_a_hub_in_trouble_uses_the_copy_that_is_here(client: Client) -> None:
    with serving(model=Repo(files=CHECKPOINT)) as hub:
        done = client.resolve(hub.url, "org/model")
        for hub.status in (429, 503):
            copy, failed = client.resolve_all(hub.url, "org/model", "org/other")
            assert copy.path == done.path
            assert failed.code == 4
            assert hub.url in failed.error


def test_a_login_page_in_between(client: Client) -> None:
    with serving() as hub:
        hub.page = b"<html>Welcome to the hotel</html>"
        failed = client.resolve(hub.url, "org/model")
        assert "does not answer as the Hub does" in failed.error
        assert "login page" in failed.hint


def test_nothing_here_and_no_network(client: Client) -> None:
    offline = client.resolve("http://127.0.0.1:9", "org/model", HF_HUB_OFFLINE="1")
    assert offline.code == 4
    assert offline.error == (
        "org/model is no directory here and not downloaded, and HF_HUB_OFFLINE is set"
    )
    assert "unset HF_HUB_OFFLINE" in offline.hint
    assert "hf download org/model --local-dir model" in offline.hint
    unreachable = client.resolve("http://127.0.0.1:9", "org/model")
    assert unreachable.code == 4
    assert "http://127.0.0.1:9 cannot be reached" in unreachable.error
    assert "hf download org/model --local-dir model" in unreachable.hint
    assert offline.said == unreachable.said == ""


SHARDS = {f"model-0000{n}-of-00003.safetensors": WEIGHTS[n:] for n in (1, 2, 3)}


@pytest.mark.parametrize("listed", [True, False], ids=["listing", "no listing"])
def test_an_incomplete_copy_is_said_to_be(client: Client, listed: bool) -> None:
    files = {"config.json": b"{}", "model.safetensors.index.json": b"{}"} | SHARDS
    with serving(model=Repo(files=files)) as hub:
        done = client.resolve(hub.url, "org/model")
        (done.path / "model-00003-of-00003.safetensors").unlink()
        if not listed:  # as older versions of the library leave a cache
            shutil.rmtree(done.path.parents[1] / "trees")
        offline = client.resolve(hub.url, "org/model", HF_HUB_OFFLINE="1")
        assert offline.code == 4
        assert "incomplete, 1 of 5 files missing (model-00003-of-00003" in offline.error
        assert offline.hint.startswith("unset HF_HUB_OFFLINE and run it again")
        assert client.resolve(hub.url, "org/model").path == done.path
        assert names(done) == sorted(files)


def test_a_copy_without_weights_is_none(client: Client) -> None:
    with serving(model=Repo(files=CHECKPOINT)) as hub:
        done = client.resolve(hub.url, "org/model")
        (done.path / "model.safetensors").unlink()
        offline = client.resolve(hub.url, "org/model", HF_HUB_OFFLINE="1")
        assert offline.code == 4
        assert "not downloaded" in offline.error


def test_offline_takes_the_layout_that_is_here(client: Client) -> None:
    with serving(model=Repo(files=TWICE)) as hub:
        done = client.resolve(hub.url, "org/model")
        (done.path / "model.safetensors").unlink()
        (done.path / "pytorch_model.bin").write_bytes(WEIGHTS)
        offline = client.resolve(hub.url, "org/model", HF_HUB_OFFLINE="1")
        assert names(offline) == ["config.json", "pytorch_model.bin", "tokenizer.model"]


# Refusals

REFUSING = {
    "private": Repo(files=CHECKPOINT, token="hf_right"),
    "public": Repo(files=CHECKPOINT),
    "gated": Repo(files=CHECKPOINT, gated=True),
    "gguf": Repo(files={"model.gguf": WEIGHTS}),
    "folder": Repo(files={"7B/consolidated.00.pth": WEIGHTS, "7B/params.json": b"{}"}),
    "huge": Repo(files=CHECKPOINT, claimed={"model.safetensors": 10**18}),
}
REFUSALS = [
    ("org/none", "", 4, "no directory org/none here, and the Hub has no such repository",
     "if it is private: hf auth login"),
    ("org/none", "hf_right", 4, "the Hub has no such repository", "hf auth whoami"),
    ("org/llama-7b", "", 4, "the Hub has no such", "never published on the Hub by Meta"),
    ("org/no--ne", "", 2, "org/no--ne cannot be a Hub repository", ""),
    ("org/private", "", 4, "keeps it private", "hf auth login"),
    ("org/public", "hf_wrong", 1, "does not accept your token", "hf auth login"),
    ("org/public@v9", "", 4, "org/public has no revision v9",
     "https://huggingface.co/org/public/commits/main"),
    ("org/gated", "", 1, "org/gated is gated",
     "accept its terms at https://huggingface.co/org/gated then log in: hf auth login"),
    ("org/gated", "hf_right", 1, "org/gated is gated",
     "https://huggingface.co/org/gated with the account of your token"),
    ("org/gguf", "", 4, "holds no weights", "model*.safetensors"),
    ("org/folder", "", 4, "in a folder, 7B",
     'hf download org/folder --include "7B/*" --local-dir folder, then give folder/7B'),
    ("org/huge", "", 5, "needs 1000000000.00 GB", "HF_HOME"),
]  # fmt: skip


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Outcome]:
    """What every case of REFUSALS came to, and nothing was fetched: a process a token."""
    client = Client(tmp_path_factory.mktemp("refused"))
    outcomes = {}
    with serving(**REFUSING) as hub:
        for token in ("", "hf_right", "hf_wrong"):
            values = [value for value, needed, *_ in REFUSALS if needed == token]
            environment = {"HF_TOKEN": token} if token else {}
            found = client.resolve_all(hub.url, *values, **environment)
            outcomes |= {(v, token): one for v, one in zip(values, found, strict=True)}
        assert hub.fetched() == []
    return outcomes


@pytest.mark.parametrize(("value", "token", "code", "error", "hint"), REFUSALS)
def test_refusals(
    refused: dict[tuple[str, str], Outcome],
    value: str,
    token: str,
    code: int,
    error: str,
    hint: str,
) -> None:
    done = refused[value, token]
    assert done.path is None
    assert done.code == code
    assert error in done.error
    assert "\n" not in done.error
    assert done.said == ""
    assert hint in (done.hint or "")


def test_a_cache_that_cannot_be_written(client: Client) -> None:
    client.home.mkdir()
    (client.home / "hub").write_text("a file where the cache should be")
    with serving(model=Repo(files=CHECKPOINT)) as hub:
        failed = client.resolve(hub.url, "org/model", "--quiet")
    assert failed.code == 1
    assert f"cannot store org/model in {client.home / 'hub'}" in failed.error
    assert "HF_HOME" in failed.hint


def test_a_disk_that_fills_up(client: Client) -> None:
    pytest.importorskip("resource")
    with serving(model=Repo(files=CHECKPOINT)) as hub:
        failed = client.resolve(hub.url, "org/model", "--small-disk")
        assert failed.code == 5
        assert "no space left" in failed.error
        assert client.resolve(hub.url, "org/model").path is not None


@pytest.mark.skipif(os.name != "posix", reason="another system's signals")
def test_ctrl_c_does_not_wait_for_the_file(client: Client) -> None:
    big = os.urandom(1 << 20) * 48
    with serving(model=Repo(files=CHECKPOINT | {"model.safetensors": big})) as hub:
        hub.pace = 0.04
        running = subprocess.Popen(
            [sys.executable, "-c", RUN, "org/model"],
            env=client.environment(hub.url),
            stdout=subprocess.PIPE,
            text=True,
        )
        while hub.sent < 12 << 20:
            assert running.poll() is None
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=60)
        assert json.loads(out)["code"] == 130
        assert hub.sent < len(big)
        assert not list(client.home.rglob("*.incomplete"))
        hub.pace = 0.0
        assert client.resolve(hub.url, "org/model").path is not None


# All the way


def test_asks_a_model_by_the_name_of_its_repository(client: Client) -> None:
    from selfee_cli.tiny.bundle import reconstructed

    with serving(tiny=Repo(files=files_of(reconstructed()))) as hub:
        environment = client.environment(hub.url)
        done = selfee("ask", "hi", "--model", "org/tiny", "--temperature", "0", **environment)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()
        assert "model.safetensors" in hub.fetched()
