"""Models spread over processes train like one process, and their checkpoints fit all."""

import json
import random
import shutil

import pytest
import torch

import sharded_worker
from test_ranks import start, write_run
from tiny import same_weights, tiny_config, tiny_model
from triptych import config
from triptych.commands.pretrain import PretrainConfig, pretrain
from triptych.commands.replay import replay
from triptych.errors import ConfigError, IntegrityError
from triptych.language_model import load_model as load_language_model
from triptych.model.huggingface import export, load_model
from triptych.model.shards import Box, Shards, StoredTensor
from triptych.train import checkpoint
from triptych.train.context_parallel import own_tokens, require_heads, token_bounds
from triptych.train.metrics import EvaluationLog, read_metrics
from triptych.train.optimizer import OptimizerConfig, create_optimizer
from triptych.train.parallel import ParallelConfig, nearest_shapes
from triptych.train.ranks import Ranks
from triptych.train.tensor_parallel import require_divisible

pytestmark = pytest.mark.usefixtures("one_thread")  # as in the processes

STEPS = 10
SHARD, TENSOR, CONTEXT = {"shard": 2}, {"tensor": 2}, {"context": 2}
UNTIED = {"tie_word_embeddings": False}
# Two key heads for four, norms of heads, biases, an untied head.
QWEN3 = {"model_type": "qwen3", "attention_bias": True, **UNTIED}
GEMMA2 = {
    "model_type": "gemma2",
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 3.0,
}
GEMMA3 = {"model_type": "gemma3_text"}
BIASED = {"attention_bias": True, "mlp_bias": True}
UNEVEN = {"vocab_size": 101, "intermediate_size": 30}
MUON = OptimizerConfig(name="muon", eps=1e-4)

# Name: (processes, grid, model, other settings).
CASES = {
    "fsdp": (2, SHARD, {}, {}),
    "fsdp, untied": (2, SHARD, UNTIED, {}),
    "fsdp, recompute": (2, SHARD, {}, {"recompute": "full"}),
    "fsdp, written beside": (2, SHARD, {}, {"async_checkpoints": True}),
    "fsdp, experts": (2, SHARD, {"model_type": "mixtral"}, {}),
    "tensor": (2, TENSOR, {}, {}),
    "tensor, qwen3": (2, TENSOR, QWEN3, {}),
    "tensor, gemma 2": (2, TENSOR, GEMMA2, {}),
    "tensor, gemma 3": (2, TENSOR, GEMMA3, {}),
    "tensor, biases": (2, TENSOR, BIASED, {}),
    "tensor, recompute": (2, TENSOR, {}, {"recompute": "selective"}),
    "hsdp": (4, SHARD, {}, {}),
    "fsdp in four, uneven": (4, {"shard": 4}, UNEVEN, {}),
    "copies of tensor": (4, TENSOR, {}, {}),
    "fsdp of tensor": (4, {"shard": 2, "tensor": 2}, QWEN3, {}),
    "context": (2, CONTEXT, {}, {}),
    "context, qwen3": (2, CONTEXT, QWEN3, {}),
    "context, gemma 2": (2, CONTEXT, GEMMA2, {}),
    "context, gemma 3": (2, CONTEXT, GEMMA3, {}),
    "context, olmo 2": (2, CONTEXT, {"model_type": "olmo2"}, {}),
    "context, recompute": (2, CONTEXT, {}, {"recompute": "full"}),
    "context, experts": (2, CONTEXT, {"model_type": "mixtral"}, {}),
    "context of fsdp": (2, {"shard": 2, **CONTEXT}, {}, {}),
    # Twice as many processes as key heads.
    "context in four": (4, {"context": 4}, UNTIED, {}),
    "context of hsdp": (4, {"shard": 2, **CONTEXT}, BIASED, {}),
    "context of tensor": (4, {**TENSOR, **CONTEXT}, QWEN3, {}),
}
MOE = {"num_experts": 4, "num_experts_per_tok": 2}
MUON_CASES = {
    "muon, fsdp": (2, SHARD),
    "muon, tensor": (2, TENSOR),
    "muon, fsdp of tensor": (4, {"shard": 2, "tensor": 2}),
}
# Grids that one run passes through, each up to a step.
JOURNEY = [(2, SHARD, 2), (2, TENSOR, 4), (2, {}, 5)]
JOURNEY_IN_FOUR = [({"shard": 2, "tensor": 2}, 7), (SHARD, 9)]


def shape(changes):
    return {**changes, **MOE} if changes.get("model_type") == "mixtral" else changes


def case(folder, size, grid, model, settings, until=99):
    return size, ((folder, grid, until), {"model": shape(model), **settings})


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Folders of all runs, trained by two launches of processes."""
    root = tmp_path_factory.mktemp("sharded")
    cases = [case(root / name, *found) for name, found in CASES.items()]
    for name, (size, grid) in MUON_CASES.items():
        cases.append(case(root / name, size, grid, {}, {"optimizer": MUON}))
    for size, grid, until in JOURNEY:
        cases.append(case(root / "journey", size, grid, {}, {}, until))
    cases.append(case(root / "parts", 2, SHARD, {}, {}, 4))
    cases.append(case(root / "parts", 2, SHARD, {}, {}))
    for grid, until in JOURNEY_IN_FOUR:
        cases.append(case(root / "journey", 4, grid, {}, {}, until))
    for size in (2, 4):
        start(sharded_worker.train_all, size, [c for n, c in cases if n == size])
    sharded_worker.train(root / "journey", {})
    return root


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Trains in one process, once for every model and optimiser."""
    root, done = tmp_path_factory.mktemp("alone"), {}

    def train(model, optimizer=sharded_worker.CALM):
        key = json.dumps([model, optimizer.name])
        if key not in done:
            done[key] = root / str(len(done))
            settings = {"model": shape(model), "optimizer": optimizer}
            sharded_worker.train(done[key], {}, **settings)
        return done[key]

    return train


def newest(run):
    return run / "checkpoints" / f"step-{STEPS:08d}"


def assert_alike(found, expected, tolerance=1e-5):
    """Losses, norms and weights agree; hashes of what was read are the same."""
    lines, others = read_metrics(found), read_metrics(expected)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    for line, other in zip(lines, others, strict=True):
        for key in ("rolling_hash", "ids_hash", "count", "tokens", "lr"):
            assert line[key] == other[key], key
        assert line["loss"] == pytest.approx(other["loss"], abs=tolerance)
        assert line["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)
    pairs = zip(
        load_model(newest(found)).named_parameters(),
        load_model(newest(expected)).named_parameters(),
        strict=True,
    )
    for (name, a), (_, b) in pairs:
        assert torch.allclose(a, b, rtol=0, atol=tolerance), (name, (a - b).abs().max())
    return lines


@pytest.mark.parametrize("name", CASES)
def test_a_model_in_pieces_trains_like_a_whole_one(name, ran, alone):
    lines = assert_alike(ran / name, alone(CASES[name][2]))
    assert sum(line["grad_norm"] > 0.5 for line in lines) >= 3  # so many are clipped
    assert {line["processes"] for line in lines} == {CASES[name][0]}


@pytest.mark.parametrize("name", MUON_CASES)
def test_muon_makes_whole_matrices_orthogonal(name, ran, alone):
    assert_alike(ran / name, alone({}, MUON))


def test_a_run_passes_through_seven_grids_and_ends_like_one_of_one_process(ran, alone):
    lines = assert_alike(ran / "journey", alone({}))
    assert [line["processes"] for line in lines] == [2] * 5 + [4] * 4 + [1]


def test_shards_stopped_and_continued_on_one_grid_have_the_same_bits(ran):
    whole, parts = newest(ran / "fsdp"), newest(ran / "parts")
    names = sorted(path.name for path in whole.glob("*.safetensors"))
    assert len(names) == 4
    assert all(
        (whole / name).read_bytes() == (parts / name).read_bytes() for name in names
    )


def test_a_checkpoint_written_beside_the_training_has_the_same_bits(ran):
    one, other = newest(ran / "fsdp"), newest(ran / "fsdp, written beside")
    for name in ("weights-00001.safetensors", "optimizer-00000.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_each_process_writes_its_part_only_and_no_pickle(ran):
    folder = newest(ran / "hsdp")
    names = {path.name for path in folder.iterdir()}
    # The second copy has what the first one has, and writes nothing.
    parts = {
        f"{g}-{n:05d}.safetensors" for g in ("weights", "optimizer") for n in (0, 1)
    }
    assert names == {
        *parts,
        "shards.json",
        "state.json",
        "config.json",
        "manifest.json",
        "manifest.sha256",
    }
    sizes = [(folder / f"weights-{n:05d}.safetensors").stat().st_size for n in (0, 1)]
    assert max(sizes) < 1.1 * min(sizes)


def test_what_reads_models_reads_one_in_parts(ran, tmp_path):
    folder = newest(ran / "fsdp of tensor")
    found = load_language_model(ran / "fsdp of tensor")
    assert found.folder == folder
    export(found.model, tmp_path / "export")
    assert same_weights(load_model(tmp_path / "export"), found.model)
    assert len(checkpoint.weights_hash(folder)) == 64


def damaged_copies(folder, tmp_path, flips=3):
    """Copies with one bit of one file turned, for every file, and the file's name."""
    draw = random.Random(0)
    for path in sorted(folder.iterdir()):
        for number in range(flips):
            copy = shutil.copytree(folder, tmp_path / f"{path.name}-{number}")
            content = bytearray(path.read_bytes())
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
            (copy / path.name).write_bytes(content)
            yield copy, path.name


def test_a_turned_bit_in_any_file_of_a_checkpoint_in_parts_is_refused_by_name(
    ran, tmp_path
):
    model = tiny_model()
    optimizer = create_optimizer(model, OptimizerConfig(), 1e-3)
    copies = list(damaged_copies(newest(ran / "fsdp"), tmp_path))
    assert len(copies) == 27
    for copy, name in copies:
        said = f"{name}` is damaged: expected SHA"
        if name.startswith("manifest."):  # its sum says which it should be
            said = "manifest.json` is damaged: expected "
        with pytest.raises(IntegrityError, match=said):
            load_model(copy)
        with pytest.raises(IntegrityError, match=said):
            checkpoint.load(copy, model, optimizer)


def test_a_disk_that_is_full_for_one_process_stops_all_and_leaves_nothing(tmp_path):
    start(sharded_worker.fail_to_write, 2, tmp_path)
    for rank in range(2):
        said = (tmp_path / f"said-{rank}").read_text()
        assert said.startswith("process 1: `"), said
        assert "weights-00001.safetensors`: expected to write" in said
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_boxes_that_do_not_make_up_a_tensor_are_refused(tmp_path):
    stored = StoredTensor((4, 2), "F32", (Box("a.safetensors", (0, 0), (3, 2)),))
    shards = Shards(tmp_path, {"x": stored})
    from safetensors.torch import save_file

    save_file({"x": torch.arange(6.0).view(3, 2)}, tmp_path / "a.safetensors")
    assert shards.read("x", (1, 0), (2, 1)).tolist() == [[2.0], [4.0]]
    with pytest.raises(IntegrityError, match=r"expected 8 numbers of `x`.* found 6"):
        shards.read("x")


@pytest.mark.parametrize(
    ("grid", "size", "message"),
    [
        ({"shard": 3}, 4, r"the 4 processes .* found 1 x 3 x 1 = 3; the nearest for 4"),
        ({"shard": 2}, 1, r"the 1 processes .* found 1 x 2 x 1 = 2"),
        (
            {"replicate": 2},
            6,
            r"nearest for 6 are \(replicate = 6, .*\) or \(replicate = 3, ",
        ),
    ],
)
def test_a_grid_of_another_size_names_the_nearest(grid, size, message):
    with pytest.raises(ConfigError, match=message):
        ParallelConfig(**grid).shape(size)


def test_the_default_grid_is_copies_and_a_grid_of_nothing_is_refused():
    assert ParallelConfig().shape(6) == (6, 1, 1)
    assert ParallelConfig(shard=2, tensor=2).shape(8) == (2, 2, 2)
    assert nearest_shapes(4, (1, 3, 1)) == [(1, 4, 1), (2, 2, 1)]
    with pytest.raises(ConfigError, match="shard: expected at least 1, found 0"):
        ParallelConfig(shard=0)


@pytest.mark.parametrize(
    ("changes", "size", "message"),
    [
        ({}, 3, "divides num_attention_heads = 4, found 3"),
        ({}, 4, "divides num_key_value_heads = 2, found 4"),
        ({"intermediate_size": 45}, 2, "divides intermediate_size = 45, found 2"),
        ({"model_type": "mixtral", **MOE}, 2, "the experts of `mixtral`"),
        ({"model_type": "olmo2"}, 2, "norms the queries of all heads together"),
    ],
)
def test_a_product_that_processes_cannot_share_is_refused(changes, size, message):
    with pytest.raises(ConfigError, match=message):
        require_divisible(tiny_config(**changes), size)


@pytest.mark.parametrize(
    ("changes", "size", "tensor", "message"),
    [
        ({}, 8, 1, "divides the 4 heads .* its 2 key heads does, found 8"),
        ({}, 3, 1, "divides the 4 heads .* found 3"),
        ({}, 4, 2, "divides the 2 heads .* its 1 key heads does, found 4"),
    ],
)
def test_heads_that_processes_cannot_share_are_refused(changes, size, tensor, message):
    with pytest.raises(ConfigError, match=message):
        require_heads(tiny_config(**changes), size, tensor)


def test_tokens_are_shared_among_copies_and_shards_only():
    assert ParallelConfig(context=2).shape(4) == (4, 1, 1)
    said = r"divides replicate x shard = 3, found 2; the nearest are 1 and 3"
    with pytest.raises(ConfigError, match=said):
        ParallelConfig(context=2, tensor=2).shape(6)


def test_runs_of_tokens_differ_by_one_at_most():
    assert token_bounds(11, 4) == [0, 2, 5, 8, 11]
    ids = torch.arange(11)
    runs = [own_tokens(ids, rank=rank, size=4) for rank in range(4)]
    assert torch.equal(torch.cat(runs), ids)


def test_sets_are_read_by_one_process_of_those_that_share_tokens(tmp_path):
    evaluation = ["[evaluation]", f'web = "{tmp_path / "web"}"']
    path = write_run(tmp_path, "steps = 4", "[parallel]", "context = 2", *evaluation)
    start(sharded_worker.pretrain_and_replay, 2, path, 2)
    found = EvaluationLog(tmp_path / "run").read()
    shutil.rmtree(tmp_path / "run")
    path.write_text(path.read_text().replace("context = 2", "context = 1"))
    pretrain(config.load(PretrainConfig, path))
    expected = EvaluationLog(tmp_path / "run").read()
    assert [line["step"] for line in found] == [0, 4]
    for line, other in zip(found, expected, strict=True):
        assert line["bits_per_byte"] == pytest.approx(other["bits_per_byte"], rel=1e-5)


def test_processes_of_one_product_read_the_same_rows():
    shares = [Ranks(rank=rank, size=4, readers=2).share(12) for rank in range(4)]
    assert shares == [range(6), range(6), range(6, 12), range(6, 12)]
    with pytest.raises(
        ConfigError, match=r"2 times .* divides the 6 rows of a step, found 8; .* 6, 12"
    ):
        Ranks(rank=0, size=8, readers=2).share(6)


def test_what_two_processes_trained_in_pieces_two_replay_to_the_same_bytes(tmp_path):
    path = write_run(tmp_path, "steps = 4", "[parallel]", "shard = 2")
    start(sharded_worker.pretrain_and_replay, 2, path, 2)
    assert (tmp_path / "run/checkpoints/step-00000004/shards.json").exists()
    assert not list((tmp_path / "run").glob(".replay-*"))
    with pytest.raises(ConfigError, match="trained steps 3 to 4, which are 2, found 1"):
        replay(tmp_path / "run", 2)
