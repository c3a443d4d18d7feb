"""A checkpoint by the name of a Hugging Face repository.

Download, cache, resume and progress are ``huggingface_hub``'s own, with its settings: ``HF_TOKEN``,
``HF_HOME``, ``HF_ENDPOINT``, ``HF_HUB_OFFLINE``. What is decided here is which files are fetched,
what the user is told before, and which copy is good enough where there is no network.
"""

from __future__ import annotations

import glob
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from selfee_cli.errors import NotFoundError, ResourceError
from selfee_cli.folders import make_private
from selfee_cli.paths import expanded
from selfee_cli.settings import cache_dir
from selfee_cli.weights.disk import check_space
from selfee_cli.weights.hub_errors import UnreachableError, hub_errors
from selfee_cli.weights.hub_files import (
    FileSet,
    file_sets,
    other_weights,
    weights_below,
    with_all_shards,
)
from selfee_cli.weights.hub_progress import library_talk, no_bars, stoppable_bars

__all__ = ["looks_like_repo", "resolve"]

_PART = r"[A-Za-z0-9_][\w.-]{0,95}"
_REPO = re.compile(rf"({_PART}/{_PART})(?:@((?!.*\.\.)\w[\w./-]{{0,199}}))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True)
class _Repo:
    name: str
    """``owner/name``."""
    revision: str
    """Branch, tag or commit."""

    def at(self, commit: str) -> str:
        return f"{self.name} at {commit[:7]}"


@dataclass(frozen=True, kw_only=True)
class _Copy:
    """What the cache has of a revision."""

    folder: Path
    files: FileSet
    missing: tuple[str, ...]
    """Files that are needed and not there."""


def looks_like_repo(value: str) -> bool:
    """Whether ``value`` is ``owner/name`` or ``owner/name@revision``, and no path that exists."""
    return _REPO.fullmatch(value) is not None and not Path(value).exists()


def resolve(
    value: str, *, say: Callable[[str], None] = lambda _: None, quiet: bool = False
) -> Path:
    """Give the directory of a checkpoint that is named by a path or by a Hub repository.

    A path that exists always wins. A repository's files are downloaded to the Hub's cache first,
    one layout of weights only; without a network the copy that is there is used.

    Args:
        value: A path, ``owner/name`` or ``owner/name@revision``.
        say: Told in one line what is about to be downloaded, or which copy is used.
        quiet: No progress bars, and no remarks of the library's own.

    Raises:
        NotFoundError: no such directory, home directory, repository, revision or weights; or not
            on this machine, and the Hub is out of reach.
        UsageError: a name that no repository can have.
        ResourceError: the files do not fit on the disk.
        SelfeeError: gated, refused, or the connection broke off.
        Interrupted: by Ctrl-C.
    """
    path = expanded(Path(value))
    if path.exists():
        return path
    match = _REPO.fullmatch(value)
    if match is None:
        raise NotFoundError(
            f"there is no {value}",
            hint="give a directory of weights, or a repository such as kaist-ai/selfee-7b-delta",
        )
    repo = _Repo(name=match[1], revision=match[2] or "main")
    with hub_errors(repo.name, repo.revision), library_talk(quiet):
        if _COMMIT.fullmatch(repo.revision):  # a commit does not change: no need to ask
            copy = _cached(repo)
            if copy is not None and not copy.missing:
                return _directory(copy.folder, copy.files)
        try:
            commit, names = _listing(repo)
        except UnreachableError as error:
            return _from_cache(repo, error, say)
        return _download(repo, commit, _choose(repo, names), say)


def _listing(repo: _Repo) -> tuple[str, list[str]]:
    """Ask the Hub for the commit of the revision and the names of its files."""
    from huggingface_hub import HfApi
    from huggingface_hub.constants import HF_HUB_ETAG_TIMEOUT

    with hub_errors(repo.name, repo.revision):
        # Without a limit of time a dead network would hold the command for ever.
        info = HfApi().model_info(repo.name, revision=repo.revision, timeout=HF_HUB_ETAG_TIMEOUT)
    return info.sha or repo.revision, [file.rfilename for file in info.siblings or ()]


def _choose(repo: _Repo, names: Sequence[str]) -> FileSet:
    sets = file_sets(names)
    if sets:
        return sets[0]
    folder = weights_below(names)
    if folder is None:
        raise NotFoundError(
            f"{repo.name} on the Hub holds no weights that selfee reads",
            hint="it needs model*.safetensors, pytorch_model*.bin or consolidated.NN.pth",
        )
    place = repo.name.rpartition("/")[2]
    raise NotFoundError(
        f"{repo.name} on the Hub holds its weights in a folder, {folder}",
        hint=f'hf download {repo.name} --include "{folder}/*" --local-dir {place}, '
        f"then give {place}/{folder}",
    )


def _download(repo: _Repo, commit: str, files: FileSet, say: Callable[[str], None]) -> Path:
    from huggingface_hub import snapshot_download

    patterns = [glob.escape(name) for name in files.names]
    with no_bars():
        # Fetches nothing; a gated repository shows here, before anything is promised.
        plan = snapshot_download(repo.name, revision=commit, allow_patterns=patterns, dry_run=True)
    wanted = [file for file in plan if file.will_download]
    if wanted:
        size = sum(file.file_size or 0 for file in wanted)
        _check_cache_space(size)
        part = f"{len(wanted)} of " if len(wanted) < len(plan) else ""
        say(f"downloading {repo.at(commit)}: {part}{len(plan)} files, {_size(size)}")
    with stoppable_bars() as bars:
        # By the revision's name, not its commit: the cache learns the name, and it works offline.
        fetched = snapshot_download(
            repo.name, revision=repo.revision, allow_patterns=patterns, tqdm_class=bars
        )
    folder = Path(fetched)
    lost = [name for name in files.needed if not (folder / name).is_file()]
    if lost:  # the branch moved between the two calls
        raise NotFoundError(f"{repo.name} has changed: no {lost[0]} any more", hint="run it again")
    return _directory(folder, files)


def _check_cache_space(size: int) -> None:
    from huggingface_hub.constants import HF_HUB_CACHE

    try:
        check_space(Path(HF_HUB_CACHE), size)
    except ResourceError as error:
        hint = "free some space, or set HF_HOME to a folder on a larger disk"
        raise ResourceError(error.message, hint=hint) from None


def _from_cache(repo: _Repo, why: UnreachableError, say: Callable[[str], None]) -> Path:
    """Give the copy that an earlier download left, where it has all that is needed."""
    copy = _cached(repo)
    if copy is None or set(copy.missing) >= set(copy.files.weights):
        raise NotFoundError(
            f"{repo.name} is no directory here and not downloaded, and {why}", hint=why.hint
        ) from why
    if copy.missing:
        count = f"{len(copy.missing)} of {len(copy.files.needed)} files missing"
        how = "unset HF_HUB_OFFLINE" if why.offline else "connect"
        raise NotFoundError(
            f"the copy of {repo.at(copy.folder.name)} here is incomplete, {count} "
            f"({copy.missing[0]}), and {why}",
            hint=f"{how} and run it again: finished files are kept",
        ) from why
    say(f"{why}: using the copy of {repo.at(copy.folder.name)} that is here")
    return _directory(copy.folder, copy.files)


def _cached(repo: _Repo) -> _Copy | None:
    """Give the best that the cache has; None where it has nothing, or no weights at all."""
    from huggingface_hub import get_cached_repo_tree, snapshot_download
    from huggingface_hub.errors import CachedRepoTreeNotFoundError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repo.name, revision=repo.revision, local_files_only=True))
    except LocalEntryNotFoundError as error:
        # Of all files of the repository some are missing, as they should: not all were asked for.
        partial = getattr(error, "snapshot_path", None)
        if partial is None:
            return None
        folder = Path(partial)
    present = {path.name for path in folder.iterdir() if path.is_file()}
    try:
        listed = {file.path for file in get_cached_repo_tree(repo.name, revision=folder.name)}
    except CachedRepoTreeNotFoundError:  # an older version made the copy
        listed = with_all_shards(present)
    copies = [
        _Copy(
            folder=folder,
            files=files,
            missing=tuple(name for name in files.needed if name not in present),
        )
        for files in file_sets(listed)
    ]
    # Another program may have fetched another layout than the one preferred here.
    return min(copies, key=lambda copy: len(copy.missing) / len(copy.files.needed), default=None)


def _directory(folder: Path, files: FileSet) -> Path:
    """Give a directory in which no reader meets any other weights than ``files``.

    That is the cache's own, unless someone fetched the weights there in a second layout: then a
    folder of links to the ones that count.
    """
    if not other_weights((path.name for path in folder.iterdir()), files.names):
        return folder
    digest = hashlib.sha256("\n".join([str(folder), *files.names]).encode()).hexdigest()
    view = cache_dir() / "hub" / f"{folder.parent.parent.name}-{folder.name[:7]}-{digest[:8]}"
    make_private(view)
    for name in files.names:
        if (folder / name).is_file() and not (view / name).exists():
            (view / name).unlink(missing_ok=True)  # a link to a cache that was emptied since
            (view / name).symlink_to(folder / name)
    return view


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
