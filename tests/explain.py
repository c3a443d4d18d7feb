"""Checks that one plain pass of transformers explains every token that the native engine samples.

python tests/explain.py DIR

For any LLaMA checkpoint, such as the one of `make smollm2`: greedy and sampled chains, revisions
enforced and not, drafts on and off. Prints a line a chain; the exit code tells whether all held.
Where two tokens are as good as equally likely, engines that add in another order may choose
differently: such a place is counted apart.
"""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from selfee_cli.engine.loading import LoadOptions, load_model
from selfee_cli.engine.options import AskOptions
from selfee_cli.engine.sampling import sample
from selfee_cli.engine.session import Session
from selfee_cli.protocol.chain import Chain

QUESTIONS = ("How can I improve my time management skills?", "Explain 数学 in one line. 🙂")
_TIE = 1e-4  # of logits


def main() -> None:
    """Check the checkpoint named on the command line."""
    path = Path(sys.argv[1])
    oracle = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    model = load_model(path, LoadOptions(engine="native", dtype="float32"))
    wrong = 0
    for question, temperature, minimum in product(QUESTIONS, (0.0, 0.7), (0, 2)):
        chains = []
        for lookup in (True, False):
            options = AskOptions.make(
                temperature=temperature,
                seed=minimum,
                min_revisions=minimum,
                max_new_tokens=900,
                lookup=lookup,
            )
            *_, ended = Session(model).ask(question, options=options)
            chains.append(ended.chain)
        faults, ties, sampled = unexplained(oracle, chains[0], options)
        same = chains[0].token_ids == chains[1].token_ids
        wrong += faults + (not same)
        print(
            f"temperature {temperature}, at least {minimum} revisions ({chains[0].revisions} made):"
            f" {sampled} sampled, {faults} unexplained, {ties} ties;"
            f" lookup {'changes nothing' if same else 'CHANGES THE TEXT'}"
        )
    sys.exit(bool(wrong))


@torch.inference_mode()
def unexplained(oracle: torch.nn.Module, chain: Chain, options: AskOptions) -> tuple[int, ...]:
    """Return how many sampled ids the pass does not give, how many are ties, and their number."""
    ids = chain.token_ids
    assert ids is not None
    whole = torch.tensor([[*ids.prompt, *ids.generated]])
    logits = oracle(whole).logits[0, len(ids.prompt) - 1 : -1]
    expected = sample(logits, options.sampling, position=len(ids.prompt))
    forced = {at for start, end in ids.forced for at in range(start, end)}
    faults = ties = 0
    for at, id in enumerate(ids.generated):
        if at in forced or expected[at] == id:
            continue
        gap = float((logits[at, expected[at]] - logits[at, id]).abs())
        if options.sampling.temperature == 0 and gap < _TIE:
            ties += 1
        else:
            faults += 1
    return faults, ties, len(ids.generated) - len(forced)


if __name__ == "__main__":
    main()
