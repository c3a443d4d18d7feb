"""Stream a chain's events through selfee's public API.

python examples/stream_chain.py "What is 47 + 85?" --min-revisions 1
python examples/stream_chain.py "Plan a weekend." --model selfee-7b
"""

from __future__ import annotations

import argparse

import selfee_cli


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("question")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--min-revisions", type=int, default=0)
    parser.add_argument("--seed", type=int)
    arguments = parser.parse_args()

    session = selfee_cli.load(arguments.model)
    options = selfee_cli.AskOptions.make(min_revisions=arguments.min_revisions, seed=arguments.seed)
    for event in session.ask(arguments.question, options=options):
        match event:
            case selfee_cli.TurnStarted(id):
                print(f"[{id.title}] ", end="")
            case selfee_cli.TextDelta(_, text):
                print(text, end="", flush=True)
            case selfee_cli.TurnEnded(turn):
                print(f"  ({turn.tokens} tokens)")
            case selfee_cli.ChainEnded(chain):
                revisions = f"{chain.revisions} revision{'s' * (chain.revisions != 1)}"
                print(f"\nfinal, after {revisions}: {chain.final}")


if __name__ == "__main__":
    main()
