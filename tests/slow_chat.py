"""``selfee`` with a scripted model, as fast or as slow as a test wants. A process of its own.

python tests/slow_chat.py '{"seconds": 0.05}' chat --no-save
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

BYTES = 26_000_000_000


def run(model: dict[str, Any], arguments: list[str]) -> None:
    """Run ``selfee ARGUMENTS`` with a model that is scripted.

    ``model`` may say: ``seconds`` that a token takes, ``context``, ``load_seconds``,
    ``load_error``, the pass at which ``memory`` runs out, and the one to ``hold``, ``held``
    seconds long, which may ``tell`` on standard error that it begins, and be ``deaf`` to Ctrl-C.
    """
    from selfee_cli import api, cli

    def load(path: Path, options: object, *, started: Any, progress: Any) -> Any:
        started(BYTES)
        steps = int(model.get("load_seconds", 0) / 0.05)
        for _ in range(steps):
            time.sleep(0.05)
            progress(BYTES // steps)
        if "load_error" in model:
            raise cli.explained(MemoryError())
        return _session(model)

    api.resolve_model = lambda name, **_: Path(name)
    api.load = load
    sys.argv = ["selfee", *arguments]
    cli.main()


def _session(model: dict[str, Any]) -> Any:
    from scripted_model import scripted_session

    session = scripted_session(
        context=model.get("context", 2000), seconds=model.get("seconds", 0.0)
    )
    engine = session.model.engine
    forward = engine._forward
    passes = 0

    def at_pass(ids: Any, last: int) -> Any:
        nonlocal passes
        passes += 1
        if passes == model.get("memory"):
            raise MemoryError
        engine.seconds = model.get("seconds", 0.0)
        if passes == model.get("hold"):
            if model.get("tell"):
                print("holding", file=sys.stderr, flush=True)
            engine.seconds = model.get("held", 60.0) / len(ids)
            if model.get("deaf"):
                engine._check = lambda: None
        return forward(ids, last)

    engine._forward = at_pass
    return session


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    run(json.loads(sys.argv[1]), sys.argv[2:])
