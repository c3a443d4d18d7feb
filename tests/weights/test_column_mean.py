import numpy as np
import pytest
import torch

from selfee_cli.weights.column_mean import ColumnMean

SHAPES = [
    (32000, 64), (1000, 130), (17, 5), (1, 5), (3, 7), (18, 8), (19, 5), (33, 37), (64, 33),
    (101, 40), (256, 4096), (2000, 31), (32001, 37), (65537, 32), (31, 1000), (300, 2),
]  # fmt: skip


@pytest.mark.parametrize("rows,columns", SHAPES)
@pytest.mark.parametrize("chunk", [7, 100_000])
def test_mean_has_the_bits_of_torch(rows, columns, chunk):
    if rows * columns > 1_000_000 and chunk < 100:
        chunk = 4096 + 7
    rng = np.random.default_rng(rows + columns)
    values = (rng.standard_normal((rows, columns)) * 0.02).astype(np.float32)
    mean = ColumnMean(rows, columns)
    for start in range(0, rows, chunk):
        mean.add(values[start : start + chunk])
    wanted = torch.from_numpy(values).mean(0).numpy()
    assert (mean.mean().view(np.uint32) == wanted.view(np.uint32)).all()


def test_a_mean_of_too_few_rows_is_refused():
    with pytest.raises(ValueError):
        ColumnMean(3, 4).mean()
