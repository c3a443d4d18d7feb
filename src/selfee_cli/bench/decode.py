"""How fast a model writes on this machine, beside what memory allows and transformers' generate.

Writing one token at a time reads every weight once a token. So the limit is the memory's
bandwidth over the bytes of the weights; only several tokens a pass go beyond it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfee_cli.bench.bandwidth import bandwidth
from selfee_cli.errors import SelfeeError, UsageError
from selfee_cli.protocol.grammar import TurnId, TurnKind

if TYPE_CHECKING:
    from selfee_cli.engine.base import Engine
    from selfee_cli.engine.session import Session

PROMPT = 64
"""Tokens that are read before those that are timed."""


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
    """Bytes a second that this device reads, as measured; 0 where there was no room to."""
    plain: float
    """Tokens a second, one a pass, greedy."""
    peer: float | None = None
    """The same of transformers' ``generate``."""
    peer_fits: bool | None = None
    """Whether there was memory for it; None where it was not asked for, or cannot be loaded."""
    peer_failure: str | None = None
    """Why it cannot be loaded."""
    lookup: LookupSpeed | None = None

    @property
    def first_device(self) -> str:
        """The device, or the first where the model lies on several."""
        return self.device.partition("+")[0]

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
            "share_of_limit": self.plain / self.limit if self.limit else None,
            "ratio_to_peer": self.plain / self.peer if self.peer else None,
        }


def measure_model(
    load: Callable[[], Session], *, tokens: int, rounds: int, question: str, peer: bool
) -> DecodeFigures:
    """Measure the model that ``load`` gives: plain, with lookup on one chain, and its peer.

    It is loaded here so that nobody holds it when the peer needs its memory.

    Raises:
        UsageError: so many tokens exceed the model's context.
    """

    def measure() -> tuple[Path, DecodeFigures]:
        session = load()
        engine, path = session.model.engine, session.model.path
        _check_room(engine, tokens)
        figures = _figures(engine, path.name, plain_speed(engine, tokens, rounds))
        return path, replace(figures, lookup=lookup_speed(session, question, revisions=3))

    path, figures = measure()
    return _beside(figures, (lambda: _load_peer(path, figures)) if peer else None, tokens, rounds)


def _load_peer(path: Path, figures: DecodeFigures) -> Any:
    import torch

    from selfee_cli.engine.hf import load_network

    return load_network(path, torch.device(figures.first_device), getattr(torch, figures.dtype))


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
    """Measure a network of a true shape with random weights, and its peer.

    Raises:
        UsageError: so many tokens exceed the context.
    """
    from selfee_cli.bench.random_weights import load_random, random_peer

    def measure() -> DecodeFigures:
        engine = load_random(name, device=device, dtype=dtype, quant=quant, context=context)
        _check_room(engine, tokens)
        return _figures(engine, f"random {name}", plain_speed(engine, tokens, rounds))

    figures = measure()

    def make() -> Any:
        return random_peer(name, figures.first_device, figures.dtype)

    return _beside(figures, make if peer else None, tokens, rounds)


def _beside(
    figures: DecodeFigures, make_peer: Callable[[], Any] | None, tokens: int, rounds: int
) -> DecodeFigures:
    """Add what is measured beside a model, in the memory that it had."""
    import torch

    from selfee_cli.engine.base import is_out_of_memory
    from selfee_cli.engine.placement import release_memory

    release_memory()
    figures = replace(figures, bandwidth=bandwidth(torch.device(figures.first_device)))
    if make_peer is None:
        return figures
    try:
        return replace(figures, peer=peer_speed(make_peer, tokens, rounds), peer_fits=True)
    except SelfeeError as error:
        return replace(figures, peer_failure=error.message)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return replace(figures, peer_fits=False)


def _check_room(engine: Engine, tokens: int) -> None:
    """Refuse to time more tokens than there is context for, before anything is measured."""
    room = engine.context_length - PROMPT
    if tokens > room:
        raise UsageError(
            f"--tokens {tokens} after a prompt of {PROMPT} exceed the context of "
            f"{engine.context_length}",
            hint=f"--tokens {room} is the most",
        )


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

    def median(count: int) -> float:
        measure(count)  # a static cache is made for one length, and compiled passes with it
        return statistics.median(measure(count) for _ in range(rounds))

    whole, once = median(tokens + 1), median(1)  # the prompt and a token are in both
    return tokens / max(whole - once, 1e-9)


def _figures(engine: Engine, name: str, plain: float) -> DecodeFigures:
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
        bandwidth=0.0,
        plain=plain,
    )
