"""Tab completion, as bash, zsh and fish get it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pexpect
import pytest
import typer
from cli import no_defect
from typer.main import get_command

BIN = Path(sys.executable).parent
COMMANDS = {"ask", "chat", "config", "apply-delta", "bench"}
LINES = [
    ("selfee ap", {"apply-delta"}),
    ("selfee bench de", {"delta", "decode"}),
    ("selfee ask --min", {"--min-revisions"}),
    ("selfee bench decode --tok", {"--tokens"}),
    ("selfee ask --show ", {"final", "chain", "diff"}),
    ("selfee ask --feedback ", {"full", "line", "hidden"}),
    ("selfee show --feedback l", {"line"}),
    ("selfee ask --quant int", {"int8", "int4"}),
    ("selfee ask --engine ", {"auto", "native", "transformers"}),
    ("selfee ask --dtype ", {"auto", "float16", "bfloat16", "float32"}),
    ("selfee ask --device c", {"cpu", "cuda", "cuda:0"}),
    ("selfee ask --no-l", {"--no-lookup"}),
    ("selfee config min", {"min-revisions"}),
    ("selfee show chain", set()),  # left to the shell, which completes files
]


def needs(shell: str) -> str:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    return path


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An own home, with a file of settings that is wrong: completing does not read it."""
    (tmp_path / "config.toml").write_text("not TOML")
    (tmp_path / "chains.jsonl").touch()
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    home = {name: str(tmp_path) for name in ("HOME", "ZDOTDIR", "SELFEE_HOME")}
    home["XDG_CONFIG_HOME"] = str(tmp_path / ".config")
    return {**os.environ, **home, "PATH": path, "TERM": "dumb"}


def run(environment: dict[str, str], *command: str) -> str:
    done = subprocess.run(
        command,
        env=environment,
        cwd=environment["HOME"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    no_defect(done.stderr)
    return done.stdout


BASH = """
eval "$(selfee --show-completion)"
complete -p selfee >/dev/null || exit 1
while IFS= read -r line; do
    read -ra COMP_WORDS <<<"$line"
    [[ $line == *" " ]] && COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
    _selfee_completion selfee
    echo "${COMPREPLY[*]}"
done <<<"$LINES_TO_COMPLETE"
"""


def test_bash(environment: dict[str, str]) -> None:
    lines = "\n".join(["selfee ", *(line for line, _ in LINES)])
    printed = run(environment | {"LINES_TO_COMPLETE": lines}, needs("bash"), "-c", BASH)
    first, *found = [set(line.split()) for line in printed.splitlines()]
    assert first >= COMMANDS
    assert dict(zip([line for line, _ in LINES], found, strict=True)) == dict(LINES)


FISH = """
selfee --show-completion | source
for line in $LINES_TO_COMPLETE
    complete -C $line
    echo =
end
"""


def test_fish(environment: dict[str, str]) -> None:
    fish = needs("fish")
    lines = ["selfee ", *(line for line, _ in LINES)]
    setting = "set LINES_TO_COMPLETE " + " ".join(f"'{line}'" for line in lines)
    *parts, end = run(environment, fish, "-c", setting + FISH).split("=\n")
    assert end == ""
    first, *found = [{line.split("\t")[0] for line in part.splitlines()} for part in parts]
    assert first >= COMMANDS
    expected = {line: words or {"chains.jsonl"} for line, words in LINES}
    assert dict(zip([line for line, _ in LINES], found, strict=True)) == expected


@pytest.fixture
def zsh(environment: dict[str, str]):
    """An interactive zsh with completion on."""
    child = pexpect.spawn(
        needs("zsh"),
        ["-f", "-i"],
        env=environment,
        cwd=environment["HOME"],
        encoding="utf-8",
        dimensions=(50, 150),
        timeout=30,
    )
    child.sendline("PS1='READY''> '; autoload -Uz compinit; compinit -u -d $HOME/dump")
    child.expect("READY> ")
    child.sendline('eval "$(selfee --show-completion)"')
    child.expect("READY> ")
    yield child
    child.close(force=True)


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("selfee apply", "selfee apply-delta "),
        ("selfee bench dec", "selfee bench decode "),
        ("selfee ask --min", "selfee ask --min-revisions "),
        ("selfee ask --show d", "selfee ask --show diff "),
        ("selfee config tem", "selfee config temperature "),
        ("selfee show ch", "selfee show chains.jsonl "),
    ],
)
def test_zsh(zsh: pexpect.spawn, typed: str, completed: str) -> None:
    zsh.send(typed + "\t")
    zsh.expect_exact(completed)


@pytest.mark.parametrize("command", ["ask", "chat", "show", "apply-delta", "bench decode"])
def test_zsh_shows_every_flag_with_its_help(zsh: pexpect.spawn, command: str) -> None:
    zsh.send(f"selfee {command} --\t")
    zsh.expect_exact(f"READY> selfee {command} --")
    shown = {}
    for flags, help in re.findall(r"^(--.*?) +-- (.*?) *\r?$", zsh.before, re.MULTILINE):
        shown |= dict.fromkeys(flags.split(), help)
    assert "No talk, only data and errors." in shown.values()
    assert shown == flags_of(command)


def flags_of(command: str) -> dict[str, str]:
    """Every long flag of a command with its help, in which Typer's script drops apostrophes."""
    module = command.replace("-", "_").replace(" ", "_")
    function = getattr(import_module(f"selfee_cli.commands.{module}"), module.split("bench_")[-1])
    alone = typer.Typer(add_completion=False)
    alone.command()(function)
    options = [each for each in get_command(alone).params if each.param_type_name == "option"]
    found = {
        flag: option.help.replace("'", "")
        for option in options
        for flag in [*option.opts, *option.secondary_opts]
        if flag.startswith("--")
    }
    return found | {"--help": "Show this message and exit."}


INSTALLED = {
    "bash": ("bash", "--rcfile", ".bashrc", "-ic", "complete -p selfee"),
    "zsh": ("zsh", "-ic", "print $_comps[selfee]"),
    "fish": ("fish", "-c", "complete -C 'selfee ap'"),
}


@pytest.mark.parametrize(
    ("shell", "told"),
    [("bash", "-F _selfee_completion selfee"), ("zsh", "_selfee"), ("fish", "apply-delta\t")],
)
def test_installing(environment: dict[str, str], shell: str, told: str) -> None:
    path = needs(shell)
    printed = run(environment, path, "-c", "selfee --install-completion; true")
    assert f"{shell} completion installed" in printed
    assert told in run(environment, path, *INSTALLED[shell][1:])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("line", ["selfee ask --", "selfee bench decode --quant "])
def test_completing_imports_nothing_heavy(
    environment: dict[str, str], shell: str, line: str
) -> None:
    code = (
        "import sys; sys.argv = ['selfee']\n"
        "from selfee_cli.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'transformers', 'numpy', 'prompt_toolkit', 'pydantic', 'tomllib'}\n"
        "print('imported', sorted(heavy & set(sys.modules)))"
    )
    words = line.split(" ")
    protocol = {
        "_SELFEE_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    printed = run(environment | protocol, sys.executable, "-c", code)
    assert ("--temperature" if line.endswith("--") else "int4") in printed
    assert printed.splitlines()[-1] == "imported []"


def test_help_tells_of_it(environment: dict[str, str]) -> None:
    assert "`selfee --install-completion`" in run(environment, str(BIN / "selfee"), "--help")
