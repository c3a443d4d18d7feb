import pytest

from selfee_cli.bench.synthetic import shape_for, write_pair
from selfee_cli.weights.checkpoint import open_checkpoint
from selfee_cli.weights.delta_plan import plan_delta
from selfee_cli.weights.identity import is_delta


@pytest.mark.parametrize("gigabytes", [0.002, 0.02, 0.3, 1.0, 1.7, 12, 40])
def test_a_shape_takes_about_the_size_asked_for(gigabytes):
    shape = shape_for(gigabytes * 1e9)
    assert shape.layers >= 2
    assert 0.7 * gigabytes * 1e9 < shape.input_bytes <= 1.001 * gigabytes * 1e9


def test_a_large_shape_is_llamas():
    shape = shape_for(40e9)
    assert (shape.hidden, shape.mlp, shape.vocabulary) == (4096, 11_008, 32_000)
    assert shape_for(0).parameters == shape_for(1e6).parameters, "there is a smallest"


def test_the_pair_is_a_base_and_its_delta(tmp_path):
    shape = shape_for(0.002e9)
    told = []
    base, delta = write_pair(tmp_path, shape, told.append)
    assert sum(told) == shape.input_bytes
    with open_checkpoint(base) as one, open_checkpoint(delta) as two:
        assert (is_delta(one), is_delta(two)) == (False, True)
        assert one.parameters == shape.parameters
        assert one.nbytes + two.nbytes == shape.input_bytes
        rows = {name: two.tensors[name].rows - info.rows for name, info in one.tensors.items()}
        values = two.read("lm_head.weight")
    assert {name for name, more in rows.items() if more} == {
        "model.embed_tokens.weight",
        "lm_head.weight",
    }
    assert set(rows.values()) == {0, 1}
    assert 0.001 < values.std() < 0.003
    plan = plan_delta(base, delta)
    assert sum(info.nbytes for info in plan.tensors) == shape.output_bytes
