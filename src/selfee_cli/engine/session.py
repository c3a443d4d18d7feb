"""A conversation with a model: one chain a question, the history kept as the model saw it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache

from selfee_cli.engine.decoder import Decoder
from selfee_cli.engine.loading import LoadedModel
from selfee_cli.engine.lookup import Drafter, LookupMemory
from selfee_cli.engine.options import AskOptions
from selfee_cli.errors import SelfeeError, UsageError
from selfee_cli.protocol.chain import (
    Chain,
    ChainEnded,
    Event,
    HistoryDropped,
    TokenIds,
    Turn,
    text_before,
)
from selfee_cli.protocol.driver import ChainDriver
from selfee_cli.protocol.grammar import TurnId
from selfee_cli.protocol.prompt import Exchange, render_prompt
from selfee_cli.protocol.text import well_formed

# The oldest exchange is dropped where a prompt leaves less than this for a chain.
_LEAST_ROOM = 64


class Session:
    """A model and the exchanges so far. One chain at a time; models may be shared by sessions."""

    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self.history: list[Exchange] = []
        self._memory = LookupMemory()
        self._headers = cache(self._header_ids)

    def ask(
        self,
        instruction: str,
        *,
        input: str | None = None,
        options: AskOptions | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        finishing: Callable[[], bool] = lambda: False,
    ) -> Iterator[Event]:
        """Write one chain and yield its events as they happen; then remember its final answer.

        ``cancelled`` is asked before every token and between the layers of a long pass; once it
        says yes the chain ends there. Where ``finishing`` says yes it ends with the turn that is
        being written. A chain with nothing complete in it is not remembered.

        Raises:
            UsageError: the question is empty or longer than the context.
            SelfeeError: the model computed values that are not numbers.
        """
        instruction, input = well_formed(instruction), input and well_formed(input)
        if not instruction.strip():
            raise UsageError("the question is empty")
        return self._write(instruction, input, (), options, cancelled, finishing)

    def extend(
        self,
        turns: Sequence[Turn],
        *,
        instruction: str,
        input: str | None = None,
        options: AskOptions | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        finishing: Callable[[], bool] = lambda: False,
    ) -> Iterator[Event]:
        """Write on after ``turns``, the complete turns of a chain about ``instruction``.

        The chain's exchange must not be in ``history`` (any more); the model sees the prompt, the
        text of the turns and the header that is due. Only new turns have events; the chain that
        ends has them all. Otherwise as :meth:`ask`.

        Raises:
            UsageError: there is no room after the turns.
            SelfeeError: the model computed values that are not numbers.
        """
        instruction, input = well_formed(instruction), input and well_formed(input)
        return self._write(instruction, input, turns, options, cancelled, finishing)

    def _write(
        self,
        instruction: str,
        input: str | None,
        turns: Sequence[Turn],
        options: AskOptions | None,
        cancelled: Callable[[], bool],
        finishing: Callable[[], bool],
    ) -> Iterator[Event]:
        options = options or AskOptions.make()
        begun = self.model.tokenizer.encode_continuation(text_before(turns)) if turns else []
        question, dropped = self._prompt(instruction, input, len(begun))
        drafter = None
        if options.lookup:
            drafter = Drafter(question, self._headers, self._memory.ids)
            for id in begun:
                drafter.append(id)
        prompt = question + begun
        engine = self.model.engine
        decoder = Decoder(engine, options.sampling, prompt, drafter=drafter)
        if dropped:
            del self.history[:dropped]
            yield HistoryDropped(dropped)
        driver = ChainDriver(
            decoder,
            self.model.tokenizer,
            options.policy,
            beginning=turns,
            max_new_tokens=options.max_new_tokens,
            cancelled=cancelled,
            finishing=finishing,
        )
        engine.cancelled = cancelled
        try:
            for event in driver.run(decoder.sample):
                if isinstance(event, ChainEnded):
                    chain = replace(event.chain, instruction=instruction, input=input)
                    chain = self._with_figures(chain, prompt, decoder, options)
                    self._remember(chain)
                    event = ChainEnded(chain)
                yield event
        finally:
            engine.cancelled = lambda: False

    def _header_ids(self, turn: TurnId) -> list[int]:
        try:
            return self.model.tokenizer.encode_continuation(turn.header)
        except SelfeeError:  # drafts do without; where the chain needs it, it is told
            return []

    def _prompt(self, instruction: str, input: str | None, begun: int) -> tuple[list[int], int]:
        """The prompt's ids, and how many of the oldest exchanges it leaves out in order to fit.

        ``begun`` ids of a chain follow it.
        """
        room = self.model.engine.context_length - _LEAST_ROOM - begun
        dropped = 0
        while True:
            text = render_prompt(instruction, input=input, history=self.history[dropped:])
            ids = self.model.tokenizer.encode_prompt(text)
            if len(ids) <= room or dropped == len(self.history):
                return ids, dropped
            dropped += 1

    def _remember(self, chain: Chain) -> None:
        self._memory.remember(chain.token_ids.generated if chain.token_ids else ())
        if chain.final_turn.complete:
            exchange = Exchange(
                instruction=chain.instruction, input=chain.input, answer=chain.final.strip()
            )
            self.history.append(exchange)

    def _with_figures(
        self, chain: Chain, prompt: list[int], decoder: Decoder, options: AskOptions
    ) -> Chain:
        stats, ids = decoder.stats, chain.token_ids
        assert ids is not None
        seconds = stats.decode_seconds
        timing = {
            "load_seconds": self.model.load_seconds,
            "prefill_seconds": stats.prefill_seconds,
            "decode_seconds": seconds,
            "tokens_per_second": len(ids.generated) / seconds if seconds else 0.0,
        }
        usage = {
            "prompt_tokens": len(prompt),
            "completion_tokens": len(ids.generated),
            "forward_passes": stats.forward_passes,
            "drafted_tokens": stats.drafted_tokens,
            "accepted_tokens": stats.accepted_tokens,
        }
        revisions = {
            "min_revisions": options.policy.minimum,
            "max_revisions": options.policy.maximum,
        }
        return replace(
            chain,
            token_ids=TokenIds(prompt=prompt, generated=ids.generated, forced=ids.forced),
            usage=usage,
            timing=timing,
            sampling=options.sampling.to_json() | revisions,
            model=self.model.to_json(),
        )
