"""A cheap identity of a model's weights that does not depend on how they are stored.

It is the digest of names, shapes and some rows of every tensor as float16, in canonical order: the
same from safetensors, ``.bin`` and Meta's files and for every shard size. Rows are evenly spaced,
first and last among them, so any training changes it; a change of a few rows may not. To prove
every bit, use :mod:`~selfee_cli.weights.verify`.
"""

from __future__ import annotations

import hashlib

import numpy as np

from selfee_cli.weights.checkpoint import Checkpoint
from selfee_cli.weights.conversion import from_float32, to_float32
from selfee_cli.weights.dtypes import DType

_ROWS = 4  # of a matrix
_WHOLE = 65_536  # elements up to which a tensor is taken whole


def sampled_fingerprint(checkpoint: Checkpoint) -> str:
    """Give ``"sha256:..."`` over names, shapes and sampled rows, rounded to float16."""
    digest = hashlib.sha256(b"selfee.fingerprint/1\n")
    for name in sorted(checkpoint.tensors):
        info = checkpoint.tensors[name]
        digest.update(f"{name} {'x'.join(map(str, info.shape))}\n".encode())
        if info.size <= _WHOLE:
            ranges = [(0, info.rows)]
        else:
            rows = {step * (info.rows - 1) // (_ROWS - 1) for step in range(_ROWS)}
            ranges = [(row, row + 1) for row in sorted(rows)]
        for start, stop in ranges:
            raw = checkpoint.read_rows(name, start, stop)
            if info.dtype is not DType.F16:
                raw = from_float32(to_float32(raw, info.dtype), DType.F16)
            digest.update(np.ascontiguousarray(raw).tobytes())
    return f"sha256:{digest.hexdigest()}"
