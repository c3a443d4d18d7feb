r"""Let the model revise a text file: its text is the input, the result goes to a new file.

    python examples/revise_file.py letter.txt --instruction "Make this letter friendlier." \
        --model selfee-7b --min-revisions 2

Nothing is overwritten: the revised text is written beside the original as `letter.revised.txt`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import selfee_cli


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--instruction", default="Improve this text.")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--min-revisions", type=int, default=1)
    parser.add_argument("--seed", type=int)
    arguments = parser.parse_args()
    out = arguments.file.with_suffix(f".revised{arguments.file.suffix}")
    if out.exists():
        parser.error(f"{out} is there already: move it away first")

    session = selfee_cli.load(arguments.model)
    options = selfee_cli.AskOptions.make(min_revisions=arguments.min_revisions, seed=arguments.seed)
    chain = None
    text = arguments.file.read_text("utf-8").strip()
    for event in session.ask(arguments.instruction, input=text, options=options):
        if isinstance(event, selfee_cli.TurnEnded) and event.turn.verdict is not None:
            print(f"{event.turn.id.title}: score {event.turn.score}, {event.turn.verdict}")
        elif isinstance(event, selfee_cli.ChainEnded):
            chain = event.chain
    assert chain is not None, "a chain always ends"
    out.write_text(chain.final.strip() + "\n", "utf-8")
    print(f"{chain.final_turn.id.title} written to {out}")


if __name__ == "__main__":
    main()
