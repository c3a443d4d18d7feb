"""What every engine promises, whatever computes behind it."""

from __future__ import annotations

import pytest
import torch

from selfee_cli.engine.base import Engine
from selfee_cli.errors import ResourceError


class Failing(Engine):
    """Computes nothing, and fails as it is told."""

    name, context_length, vocab_size, device, dtype, parameters = "none", 8, 4, "cpu", "float32", 0

    def __init__(self) -> None:
        super().__init__()
        self.failure: Exception | None = None

    def _forward(self, ids, last):
        if self.failure is not None:
            raise self.failure
        return torch.zeros(last, self.vocab_size)

    def _truncate(self, length):
        pass


@pytest.mark.parametrize(
    "failure",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_memory_that_runs_out_is_told_and_the_engine_goes_on(failure: Exception) -> None:
    engine = Failing()
    engine.forward([1, 2])
    engine.failure = failure
    with pytest.raises(ResourceError, match="memory of cpu ran out at 3 tokens"):
        engine.forward([3])
    assert engine.ids == [1, 2]
    engine.failure = None
    engine.forward([3])
    assert engine.ids == [1, 2, 3]


def test_other_faults_are_not_taken_for_it() -> None:
    engine = Failing()
    engine.failure = RuntimeError("shapes do not match")
    with pytest.raises(RuntimeError, match="shapes do not match"):
        engine.forward([1])


@pytest.mark.parametrize("ids", [[], [4], [-1], [0] * 9])
def test_what_would_end_a_process_on_a_gpu_is_refused(ids: list[int]) -> None:
    with pytest.raises(ValueError, match=r"ids|outside"):
        Failing().forward(ids)
