"""The gradient of a step is the same however its documents are computed.

Over micro-batches and accumulation, packing, and processes with whole models or pieces.
"""

import itertools
import json

import pytest
from safetensors.torch import load_file

import sharded_worker
from test_ranks import start

pytestmark = pytest.mark.usefixtures("one_thread")  # as in the processes

# Documents a row (of 8) and rows a micro-batch; processes each take a half of the rows.
PACKINGS = (1, 2, 4)
MICRO_BATCHES = (1, 2, 3, 8)
GRIDS = {
    "copies": {},
    "fsdp": {"shard": 2},
    "tensor": {"tensor": 2},
    "context": {"context": 2},
}
# Largest difference of any entry of a gradient, as a share of the largest entry of all.
# Measured: 2e-7 with whole models and shards, 5e-7 with products spread. The second step
# has the rounding of the first update as well.
TOLERANCE = 1e-5


def combinations():
    for per_row, micro in itertools.product(PACKINGS, MICRO_BATCHES):
        if micro == 1 or micro < 2 * 8 // per_row:
            yield f"{per_row}-{micro}", {"per_row": per_row, "micro_batch_rows": micro}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """One process, a document a row, all rows at once."""
    folder = tmp_path_factory.mktemp("reference")
    return sharded_worker.gradients(folder, parallel={}, per_row=1, micro_batch_rows=8)


def largest_difference(found, expected):
    """Of two steps' gradients, as a share of the largest entry."""
    worst = 0.0
    for step, other in zip(found, expected, strict=True):
        assert step.keys() == other.keys()
        largest = max(float(x.abs().max()) for x in other.values())
        for name, x in other.items():
            worst = max(worst, float((step[name] - x).abs().max()) / largest)
    return worst


def gathered(tensors):
    """By case, then step, then parameter, of `case/step/parameter`."""
    found = {}
    for key, tensor in tensors.items():
        name, step, parameter = key.split("/")
        found.setdefault(name, [{}, {}])[int(step)][parameter] = tensor
    return found


def test_gradients_do_not_depend_on_micro_batches_and_packing(reference, tmp_path):
    worst = {
        name: largest_difference(
            sharded_worker.gradients(tmp_path / name, parallel={}, **settings),
            reference,
        )
        for name, settings in combinations()
    }
    assert len(worst) >= 9
    assert max(worst.values()) < TOLERANCE, json.dumps(worst, indent=1)


def test_gradients_do_not_depend_on_processes_and_where_the_model_is(
    reference, tmp_path
):
    cases = {
        f"{grid}-{name}": {"parallel": parallel, **settings}
        for grid, parallel in GRIDS.items()
        for name, settings in combinations()
    }
    start(sharded_worker.all_gradients, 2, tmp_path, cases)
    found = gathered(load_file(tmp_path / "gradients.safetensors"))
    worst = {name: largest_difference(found[name], reference) for name in cases}
    assert max(worst.values()) < TOLERANCE, json.dumps(worst, indent=1)


@pytest.mark.parametrize("grid", ["context", "context of fsdp"])
def test_a_process_may_have_no_token_of_a_batch(grid, tmp_path):
    shard = {"shard": 2} if grid == "context of fsdp" else {}
    settings = {"per_row": 1, "micro_batch_rows": 1, "documents": sharded_worker.Short}
    case = {"parallel": {"context": 4, **shard}, **settings}
    start(sharded_worker.all_gradients, 4, tmp_path, {"four": case})
    found = gathered(load_file(tmp_path / "gradients.safetensors"))["four"]
    alone = sharded_worker.gradients(tmp_path / "one", parallel={}, **settings)
    assert largest_difference(found, alone) < TOLERANCE


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_narrow_gradients_of_shards_are_those_of_one_process(precision, tmp_path):
    """Biases among them, which are sent as float32 and cast in the layer."""
    model = {"attention_bias": True, "mlp_bias": True}
    settings = {"per_row": 1, "precision": precision, "model": model}
    cases = {
        f"fsdp-{micro}": {
            "parallel": {"shard": 2},
            "micro_batch_rows": micro,
            **settings,
        }
        for micro in (1, 2)
    }
    start(sharded_worker.all_gradients, 2, tmp_path, cases)
    found = gathered(load_file(tmp_path / "gradients.safetensors"))
    for name, case in cases.items():
        alone = sharded_worker.gradients(tmp_path / "one", **{**case, "parallel": {}})
        difference = largest_difference(found[name][:1], alone[:1])
        assert difference < TOLERANCE, name


def test_another_document_would_be_noticed(reference, tmp_path):
    class Changed(sharded_worker.Documents):
        def _document(self, step, number):
            return super()._document(step, number + 1 if number == 7 else number)

    found = sharded_worker.gradients(
        tmp_path, parallel={}, per_row=1, micro_batch_rows=8, documents=Changed
    )
    assert largest_difference(found, reference) > 100 * TOLERANCE
