"""Checkpoints on disk: lazy readers, delta arithmetic, shard writer, digests, manifests.

numpy only: nothing here imports torch, and nothing in a file is ever executed.
"""

import os

_NAME = "OPENBLAS_NUM_THREADS"


def _import_numpy() -> None:
    """Import numpy without the threads of its BLAS.

    No matrices are multiplied here, and such threads begin by spinning, on cores that have work.
    """
    before = os.environ.get(_NAME)
    os.environ[_NAME] = "1"
    import numpy  # noqa: F401

    if before is None:
        del os.environ[_NAME]
    else:
        os.environ[_NAME] = before


_import_numpy()
