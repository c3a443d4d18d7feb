"""Train the small model from nothing: ``python -m selfee_cli.tiny.train --out DIR``.

Everything is generated; nothing is downloaded. ``DIR/work`` holds the state, saved at each
stage's end and now and then within, from which the same command goes on. ``DIR/base``,
``DIR/delta`` and ``DIR/tuned`` are written at every save once the base model is done.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from selfee_cli.tiny import evaluate, export, recipe, tasks
from selfee_cli.tiny.chains import Own
from selfee_cli.tiny.decode import write_chains
from selfee_cli.tiny.network import Encoded, gradients, new_model, twin
from selfee_cli.tiny.optimizer import MuonAdamW
from selfee_cli.tiny.recipe import Shape, Stage
from selfee_cli.tiny.stages import STAGES
from selfee_cli.tiny.tasks import Part, Task
from selfee_cli.tiny.vocabulary import Vocabulary, train_vocabulary
from selfee_cli.tiny.written import Plan

POOL = 600
MINUTES = 91.0
"""What the recipe's tokens take on two CPU cores."""

_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "4294967296"}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a run is told: see the command's help."""

    out: Path
    minutes: float = MINUTES
    limit: float | None = None
    seed: int = 0
    save_every: float = 1.5
    check: int = 10
    own_answers: int = 1000
    own_chains: int = 200
    pool: int = POOL
    threads: int = 2


class Training:
    """One run: the model, the optimiser and how far it has come."""

    def __init__(
        self, options: Options, shape: Shape, stages: Sequence[Stage], report: Callable[[str], None]
    ) -> None:
        self.options, self.shape, self.report = options, shape, report
        self.scale = options.minutes / MINUTES
        self.stages = stages
        self.work = options.out / "work"
        self.work.mkdir(parents=True, exist_ok=True)
        tokenizer = self.work / "tokenizer.model"
        if not tokenizer.exists():
            tokenizer.write_bytes(train_vocabulary(options.seed))
        self.vocabulary = Vocabulary.load(tokenizer)
        torch.manual_seed(options.seed)
        self.model = new_model(shape)
        self.optimizer = MuonAdamW(self.model, lanes=options.threads)
        self.lanes = [self.model, *(twin(self.model, shape) for _ in range(options.threads - 1))]
        self.pool = ThreadPoolExecutor(options.threads)
        self.at, self.pools, self.tokens, self.steps, self.seconds = 0, 0, 0, 0, 0.0
        self.all_tokens = 0
        self.own: list[Own] = []
        self.own_until = 0.0
        if (self.work / "state.pt").exists():
            self._load()

    def run(self) -> None:
        """Train what is left of the stages, saving as it goes."""
        while self.at < len(self.stages):
            stage = self.stages[self.at]
            self._stage(stage)
            if stage.name.startswith("base") and not self._next().startswith("base"):
                base = export.halve(self.model.state_dict())
                export.write_base(
                    self.options.out / "base", self.shape, base, self.vocabulary.model
                )
            self.at, self.pools, self.tokens = self.at + 1, 0, 0
            self.own_until = 0.0
            self.save()
            self.check(f"end of {stage.name}")

    def _next(self) -> str:
        return self.stages[self.at + 1].name if self.at + 1 < len(self.stages) else "end"

    def _progress(self, stage: Stage) -> float:
        """How much of a stage is done, by tokens or by the time limit's share."""
        done = self.tokens / (stage.tokens * 1e6 * self.scale)
        if self.options.limit is not None:
            before = sum(s.tokens for s in self.stages[: self.at])
            whole = sum(s.tokens for s in self.stages)
            passed = self.seconds / (self.options.limit * 60) * whole - before
            left = max(stage.tokens, 1e-9)
            done = max(done, passed / left)
        return done

    def _stage(self, stage: Stage) -> None:
        saved = self.tokens
        while (progress := self._progress(stage)) < 1:
            started = time.monotonic()
            if "own" in stage.mix and self.tokens >= self.own_until:
                self._draw_own()
                self.own_until = self.tokens + stage.redraw * 1e6 * self.scale
            losses = self._pool(stage, progress)
            self.pools += 1
            passed = time.monotonic() - started
            self.seconds += passed
            self.report(
                f"{stage.name} {self.tokens / 1e6:.2f} M ({100 * self._progress(stage):.0f}%) "
                f"step {self.steps} loss {sum(losses) / max(1, len(losses)):.4f} "
                f"pool {passed:.0f} s, {self.seconds / 60:.1f} min in all"
            )
            if self.tokens - saved >= self.options.save_every * 1e6:
                saved = self.tokens
                self.save()
                self.check(stage.name)
            if stage.until and self._reads()[stage.until[0]] >= stage.until[1]:
                break

    def _pool(self, stage: Stage, progress: float) -> list[float]:
        """Train on one pool of fresh texts; return the losses."""
        rng = random.Random(f"{self.options.seed} {stage.name} {self.pools}")
        start, end = stage.cut
        mix = replace(stage.chain, cut=start + (end - start) * min(progress, 1.0))
        texts = []
        for _ in range(self.options.pool):
            segments, final = recipe.text(rng, stage, mix, self.own)
            texts.append(self.vocabulary.weigh(segments, end=final))
        losses = []
        for batch in batches(rng, texts, stage.batch):
            progress = self._progress(stage)
            if progress >= 1:
                break
            losses.append(self._step(batch, rate_at(stage, progress)))
            self.tokens += sum(len(ids) for ids, _ in batch)
            self.all_tokens += sum(len(ids) for ids, _ in batch)
        return losses

    def _step(self, batch: Sequence[Encoded], rate: float) -> float:
        """Make one step; each lane takes every so many-th text of the batch."""
        weight = sum(sum(weights[1:]) for _, weights in batch)
        parts = [batch[lane :: len(self.lanes)] for lane in range(len(self.lanes))]
        work = [(m, part, weight) for m, part in zip(self.lanes, parts, strict=True) if part]
        losses = list(self.pool.map(lambda given: gradients(*given), work))
        for model, *_ in work[1:]:
            for total, more in zip(self.model.parameters(), model.parameters(), strict=True):
                total.grad += more.grad
                more.grad = None
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step(rate, self.pool)
        self.steps += 1
        return sum(losses)

    def _draw_own(self) -> None:
        """Let the model answer training questions; keep what can be read, for feedback on it."""
        torch.set_num_threads(self.options.threads)
        rng = random.Random(f"{self.options.seed} own {self.at} {self.pools}")
        self.own = []
        seed = rng.randrange(2**31)
        for count, enforced in ((self.options.own_answers, 0), (self.options.own_chains, 2)):
            chosen: list[Task] = []
            while len(chosen) < count:
                task = recipe.draw_task(rng, self.stages[self.at])
                if task.family != "other":
                    chosen.append(task)
            plan = Plan(enforced=enforced, at_most=enforced, temperature=0.8, seed=seed)
            questions = [task.question for task in chosen]
            written = write_chains(self.model, self.vocabulary, questions, plan)
            for task, chain in zip(chosen, written, strict=True):
                turns = []
                for answer in chain.answers:
                    items = task.read(answer)
                    if items is None:
                        break
                    turns.append(items)
                if turns:
                    self.own.append(Own(task=task, turns=tuple(turns)))
        torch.set_num_threads(1)
        wrong = sum(o.turns[0] != o.task.items for o in self.own)
        self.report(f"own answers: {len(self.own)}, wrong at first {wrong}")

    def check(self, where: str) -> None:
        """Report what a reading predicts, and how a few development questions fare, greedily."""
        if not self.options.check:
            return
        read = "; ".join(f"{name} {value:.0f}" for name, value in self._reads().items())
        self.report(f"read ({where}): {read}")
        if self.at == 0:
            return
        chosen = evaluate.draw_tasks(Part.DEVELOPMENT, self.options.check, tasks.FAMILIES)
        plan = Plan(enforced=1, at_most=1, temperature=0.0)
        tallies = evaluate.measure(self.model, self.vocabulary, chosen, plan)
        parts = [
            f"{family} {'/'.join(map(str, t.right))} miss {t.misses}/{t.judged_wrong} "
            f"alarm {t.alarms}/{t.judged_right} form {t.well_formed}"
            for family, t in tallies.items()
        ]
        self.report(f"check ({where}, of {self.options.check}): " + "; ".join(parts))

    def _reads(self) -> dict[str, float]:
        return evaluate.drilled(self.model, self.vocabulary, 40)

    def save(self) -> None:
        """Save the state and, once there is a base model, export what there is."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "counts": [self.at, self.pools, self.tokens, self.steps, self.all_tokens],
            "seconds": self.seconds,
        }
        partial = self.work / "state.pt.partial"
        torch.save(state, partial)
        partial.replace(self.work / "state.pt")
        base = self.options.out / "base"
        if (base / "model.safetensors").exists():
            tuned, delta = export.subtract(export.read_weights(base), self.model.state_dict())
            tokenizer = self.vocabulary.model
            export.write_delta(self.options.out / "delta", self.shape, delta, tokenizer)
            export.write_tuned(self.options.out / "tuned", self.shape, tuned, tokenizer)

    def _load(self) -> None:
        state = torch.load(self.work / "state.pt", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.at, self.pools, self.tokens, self.steps, self.all_tokens = state["counts"]
        self.seconds = state["seconds"]
        self.report(f"resumed at step {self.steps}")


def rate_at(stage: Stage, progress: float) -> float:
    """Return the learning rate at a point of a stage: warm-up, then a straight line."""
    start, end = stage.rate
    rate = start + (end - start) * progress
    return rate * min(1.0, (progress + 0.002) / stage.warm_up) if stage.warm_up else rate


def batches(rng: random.Random, texts: list[Encoded], size: int) -> list[list[Encoded]]:
    """Sort ``texts`` by length, cut them into batches of ``size`` padded tokens, shuffle those."""
    made: list[list[Encoded]] = []
    batch: list[Encoded] = []
    for encoded in sorted(texts, key=lambda e: len(e[0])):
        if batch and (len(batch) + 1) * len(encoded[0]) > size:
            made.append(batch)
            batch = []
        batch.append(encoded)
    made.append(batch)
    rng.shuffle(made)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``python -m selfee_cli.tiny.train``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where everything is written")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="scales all budgets")
    parser.add_argument("--limit", type=float, help="minutes after which it must be done")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    if any(name not in os.environ for name in _MALLOC):  # read by the C library at start only
        os.environ.update(_MALLOC)
        given = sys.argv[1:] if arguments is None else list(arguments)
        os.execv(sys.executable, [sys.executable, "-m", "selfee_cli.tiny.train", *given])
    torch.set_num_threads(1)  # threads share the batch, not the matrix: much faster at this size

    def report(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    chosen = Options(
        out=options.out,
        minutes=options.minutes,
        limit=options.limit,
        seed=options.seed,
        threads=options.threads,
    )
    Training(chosen, Shape(), STAGES, report).run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
