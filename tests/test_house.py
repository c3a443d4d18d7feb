"""The house rules that a machine can hold: which way imports run, and what `--help` costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "selfee_cli"
LEAVES = {"errors", "folders", "paths", "settings", "__init__"}
MAY_IMPORT = {
    "protocol": set(),
    "weights": set(),
    "engine": {"protocol", "weights"},
    "tiny": {"protocol", "weights", "engine"},
    "chat": {"protocol"},
    "ui": {"protocol", "weights", "engine", "chat"},
    "bench": {"weights", "engine", "protocol"},
    "api": {"tiny", "engine", "weights"},
    "commands": {"protocol", "weights", "engine", "tiny", "ui", "chat", "bench", "api"},
    "cli": {"commands", "ui"},
    "__main__": {"cli"},
    "__init__": {"api", "engine", "protocol"},
    "errors": set(),
    "folders": set(),
    "paths": set(),
    "settings": set(),
}
ONLY_IN = {
    "torch": {"engine", "tiny", "bench"},
    "transformers": {"engine", "tiny", "bench"},
    "rich": {"ui"},
    "prompt_toolkit": {"ui"},
    "typer": {"commands", "cli"},
    "sentencepiece": {"engine", "tiny", "weights"},
    "huggingface_hub": {"weights"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at the top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
            if node.module == "selfee_cli":
                found.update(f"selfee_cli.{alias.name}" for alias in node.names)
    return found


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    here = room(path)
    for name in imports(path):
        top, *rest = name.split(".")
        if top == "selfee_cli" and rest:
            there = rest[0]
            if not (PACKAGE / there).is_dir() and not (PACKAGE / f"{there}.py").is_file():
                continue  # a name of the package itself, such as __version__
            assert there == here or there in MAY_IMPORT[here] | LEAVES, f"{here} imports {name}"
        elif top in ONLY_IN:
            assert here in ONLY_IN[top], f"{here} imports {name}"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['selfee', '--help']\n"
        "from selfee_cli.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'transformers', 'numpy', 'rich', 'prompt_toolkit', 'pydantic'}\n"
        "commands = {m for m in sys.modules if m.startswith('selfee_cli.commands')}\n"
        "print(sorted(heavy & set(sys.modules) | commands), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "apply-delta" in done.stdout
    assert done.stderr.strip() == "[]"


def test_the_package_imports_lazily() -> None:
    code = "import sys, selfee_cli; print('torch' in sys.modules, hasattr(selfee_cli, 'load'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
