"""How well a model predicts recorded chains: what quantising and stretching cost it.

Perplexity is over the tokens that a model wrote (turns and headers), each given all before it.
Agreement is the share of them for which the likeliest token is the one of the first form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfee_cli.errors import SelfeeError, UsageError
from selfee_cli.protocol.prompt import render_prompt

if TYPE_CHECKING:
    from selfee_cli.engine.base import Engine
    from selfee_cli.engine.tokenizer import Tokenizer
    from selfee_cli.protocol.chain import Chain

_CHUNK = 256  # tokens whose logits are held at once


@dataclass(frozen=True, kw_only=True)
class Form:
    """A way to load a model; ``context`` None is as trained."""

    quant: str = "none"
    context: int | None = None
    stretch: bool = True

    @property
    def title(self) -> str:
        """What a reader calls it."""
        if self.context is None:
            return "as loaded" if self.quant == "none" else self.quant
        return f"context {self.context}, {'stretched' if self.stretch else 'not stretched'}"


@dataclass(kw_only=True)
class Loss:
    """Summed over tokens, in nats."""

    tokens: int = 0
    nats: float = 0.0

    @property
    def perplexity(self) -> float | None:
        """``exp`` of the mean; None where there are no tokens."""
        return math.exp(min(self.nats / self.tokens, 700.0)) if self.tokens else None


@dataclass(kw_only=True)
class Score:
    """What one form came to."""

    form: Form
    weight_bytes: int
    within: Loss = field(default_factory=Loss)
    """At positions that the model was trained for."""
    beyond: Loss = field(default_factory=Loss)
    likeliest: list[int] = field(default_factory=list)
    """The likeliest token in place of each that was counted."""
    agreement: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            **vars(self.form),
            "weight_bytes": self.weight_bytes,
            "tokens": self.within.tokens,
            "perplexity": self.within.perplexity,
            "agreement": self.agreement,
            "tokens_beyond": self.beyond.tokens,
            "perplexity_beyond": self.beyond.perplexity,
        }


Text = tuple[list[int], int]
"""Ids, and how many at the beginning are not counted."""


def measure(
    path: Path,
    chains: Sequence[Chain],
    *,
    device: str,
    dtype: str,
    quants: Sequence[str],
    context: int | None,
    say: Callable[[str], None] = lambda _: None,
) -> list[Score]:
    """Load ``path`` in one form after another and score ``chains`` by each.

    Args:
        path: Directory of a LLaMA.
        chains: Recorded; what does not fit into the context is left out.
        device: As ``--device``.
        dtype: As ``--dtype``.
        quants: Quantisations to compare with the model as it is.
        context: Tokens, more than trained: measures chains joined to this length as well, with
            positions stretched and not.
        say: Is told which form is under way.
    """
    from selfee_cli.engine.loading import LoadOptions, load_model
    from selfee_cli.engine.placement import release_memory
    from selfee_cli.engine.quant import check_quant
    from selfee_cli.engine.rope import RopeConfig
    from selfee_cli.weights.checkpoint import open_checkpoint

    for quant in quants:
        check_quant(quant)
    with open_checkpoint(path) as checkpoint:
        trained = RopeConfig.parse(checkpoint.config, 2).trained_length
    forms = [Form(), *(Form(quant=quant) for quant in quants)]
    texts = _texts(path, chains, trained, context)
    if context is not None:
        forms += [Form(context=context, stretch=stretch) for stretch in (False, True)]
    scores: list[Score] = []
    for form in forms:
        say(f"{form.title}: reading {len(chains)} chains")
        options = LoadOptions(
            engine="native",
            device=device,
            dtype=dtype,
            quant=form.quant,
            context_length=form.context,
            stretch=form.stretch,
        )
        model = load_model(path, options)
        score = score_texts(model.engine, form, texts[form.context], trained)
        if form.context is None and scores:
            same = sum(a == b for a, b in zip(score.likeliest, scores[0].likeliest, strict=True))
            score.agreement = same / len(score.likeliest)
        scores.append(score)
        del model
        release_memory()  # the next one needs it
    return scores


def _texts(
    path: Path, chains: Sequence[Chain], trained: int, context: int | None
) -> dict[int | None, list[Text]]:
    """Return what is read by the context of a form, all of it known before a model is loaded."""
    from selfee_cli.engine.tokenizer import load_tokenizer

    if context is not None and context <= trained:
        raise UsageError(
            f"--context {context} is within the {trained} of this model",
            hint=f"{trained + 1} or more shows what stretching costs",
        )
    tokenizer = load_tokenizer(path)
    texts: dict[int | None, list[Text]] = {None: list(texts_of(chains, tokenizer, trained))}
    if not texts[None]:
        raise SelfeeError(
            f"no chain fits into the context of {trained} tokens",
            hint="give shorter chains, or a model that was trained for more",
        )
    if context is not None:
        texts[context] = list(joined_texts(chains, tokenizer, context))
        if not texts[context]:
            raise SelfeeError(
                f"all chains together have fewer tokens than --context {context}",
                hint="give more chains, or a shorter --context",
            )
    return texts


def texts_of(chains: Iterable[Chain], tokenizer: Tokenizer, limit: int) -> Iterable[Text]:
    """Give each chain that fits, its prompt not counted."""
    for chain in chains:
        prompt = tokenizer.encode_prompt(render_prompt(chain.instruction, input=chain.input))
        ids = [*prompt, *tokenizer.encode_continuation(chain.raw)]
        if len(ids) <= limit:
            yield ids, len(prompt)


def joined_texts(chains: Iterable[Chain], tokenizer: Tokenizer, length: int) -> Iterable[Text]:
    """Give texts of ``length`` tokens, made of chains one after the other."""
    ids: list[int] = []
    for chain in chains:
        prompt = tokenizer.encode_prompt(render_prompt(chain.instruction, input=chain.input))
        ids += [*prompt, *tokenizer.encode_continuation(chain.raw)]
        while len(ids) >= length:
            yield ids[:length], 1
            ids = ids[length:]


def score_texts(
    engine: Engine,
    form: Form,
    texts: Iterable[Text],
    trained: int,
) -> Score:
    """Read ``texts`` and sum up how well each token was foreseen."""
    import torch

    score = Score(form=form, weight_bytes=engine.weight_bytes)
    for ids, skip in texts:
        engine.truncate(0)
        for start in range(0, len(ids) - 1, _CHUNK):
            read = ids[start : min(start + _CHUNK, len(ids) - 1)]
            logits = engine.forward(read, last=len(read)).float()  # of the tokens that follow
            wanted = torch.tensor(ids[start + 1 : start + 1 + len(read)], device=logits.device)
            losses = torch.nn.functional.cross_entropy(logits, wanted, reduction="none").tolist()
            likeliest = logits.argmax(-1).tolist()
            for at, (loss, best) in enumerate(zip(losses, likeliest, strict=True), start + 1):
                if at >= skip:
                    part = score.within if at < trained else score.beyond
                    part.tokens += 1
                    part.nats += loss
                    score.likeliest.append(best)
    return score
