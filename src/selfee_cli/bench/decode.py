"""How fast a model writes on this machine, beside what memory allows and transformers' generate.

Writing one token at a time reads every weight once a token. So the limit is the memory's
bandwidth over the bytes of the weights; only several tokens a pass go beyond it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from selfee_cli.protocol.grammar import TurnId, TurnKind

if TYPE_CHECKING:
    import torch

    from selfee_cli.engine.base import Engine
    from selfee_cli.engine.session import Session

PROMPT = 64
"""Tokens that are read before those that are timed."""
_PROBE = {"cpu": 256 << 20, "cuda": 4 << 30, "mps": 1 << 30}  # bytes, beyond any cache


@dataclass(frozen=True, kw_only=True)
class LookupSpeed:
    """A chain written with drafts and without, in tokens a second."""

    question: str
    tokens: int
    with_lookup: float
    without: float
    tokens_per_pass: float
    later_with: float
    """From the second revision on."""
    later_without: float


@dataclass(frozen=True, kw_only=True)
class DecodeFigures:
    """What was measured of one model."""

    model: str
    parameters: int
    engine: str
    dtype: str
    device: str
    threads: int
    quant: str
    form: str
    """Both, for people."""
    weight_bytes: int
    """Read for a token."""
    bandwidth: float
    """Bytes a second that this device reads, as measured."""
    plain: float
    """Tokens a second, one a pass, greedy."""
    peer: float | None = None
    """The same of transformers' ``generate``."""
    lookup: LookupSpeed | None = None

    @property
    def limit(self) -> float:
        """Tokens a second at the bandwidth."""
        return self.bandwidth / self.weight_bytes

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        lookup = None if self.lookup is None else vars(self.lookup)
        return {
            "schema": "selfee.bench-decode/1",
            **vars(self),
            "lookup": lookup,
            "limit": self.limit,
            "share_of_limit": self.plain / self.limit,
            "ratio_to_peer": self.plain / self.peer if self.peer else None,
        }


def measure_model(
    session: Session, *, tokens: int, rounds: int, question: str, peer: bool
) -> DecodeFigures:
    """Measure a loaded model: plain, with lookup on one chain, and its peer."""
    from selfee_cli.engine.device import pick_device

    engine, path = session.model.engine, session.model.path
    device = pick_device(engine.device.partition("+")[0])
    plain = plain_speed(engine, tokens, rounds)
    lookup = lookup_speed(session, question, revisions=3)
    peer_tokens = None
    if peer:
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        logging.disable_progress_bar()

        def load() -> Any:
            dtype = getattr(torch, engine.dtype)
            model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
            return model.to(device).eval()

        peer_tokens = peer_speed(load, tokens, rounds)
    return _figures(engine, path.name, bandwidth(device), plain, peer_tokens, lookup)


def measure_random(
    name: str,
    *,
    device: str,
    dtype: str,
    quant: str,
    context: int | None,
    tokens: int,
    rounds: int,
    peer: bool,
) -> DecodeFigures:
    """Measure a network of a true shape with random weights, and its peer."""
    from selfee_cli.bench.random_weights import load_random, random_peer
    from selfee_cli.engine.device import pick_device

    engine = load_random(name, device=device, dtype=dtype, quant=quant, context=context)
    plain = plain_speed(engine, tokens, rounds)
    reads = bandwidth(pick_device(engine.device))
    figures = _figures(engine, f"random {name}", reads, plain, None, None)
    del engine  # the peer needs its memory
    if not peer:
        return figures
    speed = peer_speed(lambda: random_peer(name, figures.device, figures.dtype), tokens, rounds)
    return replace(figures, peer=speed)


def plain_speed(engine: Engine, tokens: int, rounds: int) -> float:
    """Return tokens a second, greedy, one a pass, after a prompt that was read before."""
    from selfee_cli.engine.decoder import Decoder
    from selfee_cli.engine.sampling import Sampling

    def measure() -> float:
        engine.truncate(0)
        decoder = Decoder(engine, Sampling(temperature=0), list(range(5, 5 + PROMPT)))
        decoder.sample()
        began = time.perf_counter()
        for _ in range(tokens):
            decoder.sample()
        return tokens / (time.perf_counter() - began)

    measure()  # the first pass of a width is slower
    return statistics.median(measure() for _ in range(rounds))


_CHAIN = 600  # tokens at most: a model that was not tuned on chains may write on and on
_REVISION_2 = TurnId(TurnKind.REVISION, 2)


def lookup_speed(session: Session, question: str, revisions: int) -> LookupSpeed:
    """Write one greedy chain with drafts and without; the text is the same."""
    from selfee_cli.engine.options import AskOptions
    from selfee_cli.engine.session import Session
    from selfee_cli.protocol.chain import Chain, ChainEnded

    def write(lookup: bool) -> Chain:
        options = AskOptions.make(
            min_revisions=revisions,
            max_revisions=revisions,
            max_new_tokens=_CHAIN,
            temperature=0,
            lookup=lookup,
        )
        *_, last = Session(session.model).ask(question, options=options)
        assert isinstance(last, ChainEnded)
        return last.chain

    def later(chain: Chain) -> float:
        turns = [turn for turn in chain.turns if turn.id.place >= _REVISION_2.place]
        seconds = sum(turn.seconds for turn in turns)
        return sum(turn.tokens for turn in turns) / seconds if seconds else 0.0

    write(True)
    fast, slow = write(True), write(False)
    return LookupSpeed(
        question=question,
        tokens=fast.usage["completion_tokens"],
        with_lookup=fast.timing["tokens_per_second"],
        without=slow.timing["tokens_per_second"],
        tokens_per_pass=fast.usage["completion_tokens"] / fast.usage["forward_passes"],
        later_with=later(fast),
        later_without=later(slow),
    )


def peer_speed(make: Callable[[], Any], tokens: int, rounds: int) -> float:
    """Return tokens a second of ``generate`` on the model that ``make`` gives.

    On CUDA with its static cache, elsewhere with its default one, which is faster there.
    """
    import torch

    model = make()
    device = next(model.parameters()).device
    ids = torch.arange(5, 5 + PROMPT, device=device)[None]
    settings: dict[str, Any] = {
        "do_sample": False,
        "pad_token_id": 0,
        "attention_mask": torch.ones_like(ids),
    }
    if device.type == "cuda":
        settings["cache_implementation"] = "static"

    def measure(count: int) -> float:
        began = time.perf_counter()
        model.generate(ids, min_new_tokens=count, max_new_tokens=count, **settings)
        return time.perf_counter() - began

    measure(2)
    once = statistics.median(measure(1) for _ in range(rounds))  # the prompt, and a token
    whole = statistics.median(measure(tokens + 1) for _ in range(rounds))
    return tokens / max(whole - once, 1e-9)


def _figures(
    engine: Engine,
    name: str,
    read: float,
    plain: float,
    peer: float | None,
    lookup: LookupSpeed | None,
) -> DecodeFigures:
    import torch

    return DecodeFigures(
        model=name,
        parameters=engine.parameters,
        engine=engine.name,
        dtype=engine.dtype,
        quant=engine.quant,
        form=engine.form,
        device=engine.device,
        threads=torch.get_num_threads(),
        weight_bytes=engine.weight_bytes,
        bandwidth=read,
        plain=plain,
        peer=peer,
        lookup=lookup,
    )


def bandwidth(device: torch.device) -> float:
    """Return the bytes a second that a sum over a large tensor reads."""
    import torch

    data = torch.ones(_PROBE.get(device.type, 1 << 28) // 4, device=device)

    def measure() -> float:
        began = time.perf_counter()
        data.sum().item()
        return time.perf_counter() - began

    measure()
    return data.nbytes / min(measure() for _ in range(5))
