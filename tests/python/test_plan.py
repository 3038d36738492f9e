"""A plan says what a run takes; the parts that need no clock are exact."""

import dataclasses
import json
from unittest import mock

import pytest

from small_shards import alike, write_sources
from triptych import config
from triptych.cli import main
from triptych.commands.pretrain import PretrainConfig, order
from triptych.curriculum import BatchRamp
from triptych.errors import ConfigError
from triptych.planner import Machine, plan_run
from triptych.planner.advice import (
    Run,
    by_law,
    critical_batch_tokens,
    hyperparameters,
    warnings,
)
from triptych.planner.memory import libraries_here
from triptych.planner.planning import _run, flops_per_slot
from triptych.planner.probe import Probe, measure
from triptych.scaling import LAWS
from triptych.train import OptimizerConfig
from triptych.train.parallel import ParallelConfig

PROBE = Probe(
    step_seconds=2.0,
    tokens_per_second=50.0,
    memory_mib=700.0,
    save_seconds=0.5,
    mfu=0.5,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_sources(tmp_path_factory.mktemp("plan"), web=alike())
    stages = [
        'stage = "short"\nlearning_rate = 0.01\nbatch_size = 4\nsteps = 3',
        'stage = "long"\nlearning_rate = 0.01\nbatch_size = 8\nsteps = 5\nseq_len = 64',
    ]
    lines = [
        f'output = "{folder / "run"}"',
        f'tokenizer = "{folder / "tokenizer.json"}"',
        "seq_len = 32",
        "threads = 1",
        f'[sources]\nweb = "{folder / "web"}"',
        "[model]\nhidden_size = 16\nnum_hidden_layers = 2\nnum_attention_heads = 2",
        *(f"[[stage]]\n{stage}" for stage in stages),
    ]
    (folder / "run.toml").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def settings(folder):
    return config.load(PretrainConfig, folder / "run.toml")


def test_slots_and_time_go_by_stages_and_add_up(settings):
    plan = plan_run(settings, probe=PROBE)
    short, long = plan.stages
    assert (short["slots"], long["slots"]) == (3 * 4 * 32, 5 * 8 * 64)
    assert short["seconds"] == pytest.approx(3 * 2.0)
    ratio = long["flops"] / short["flops"]
    assert long["seconds"] == pytest.approx(ratio * short["seconds"])
    assert plan.totals["seconds"] == pytest.approx(
        sum(s["seconds"] for s in plan.stages)
    )
    between_s = 54 * 24 * 16_384 / 466 * 3600
    assert plan.checkpoint_seconds == pytest.approx((2 * 0.5 * between_s) ** 0.5)


def test_named_hardware_takes_its_peak_times_the_share_and_costs_its_hours(settings):
    one = plan_run(settings, Machine(name="H100", mfu=0.5, price=3.0))
    two = plan_run(settings, Machine(name="H100", mfu=0.5, price=3.0, devices=2))
    assert one.totals["seconds"] == pytest.approx(one.totals["flops"] / (989e12 * 0.5))
    assert two.totals["seconds"] == pytest.approx(one.totals["seconds"] / 2)
    assert two.totals["price"] == pytest.approx(one.totals["price"])
    assert one.totals["price"] == pytest.approx(3.0 * one.totals["seconds"] / 3600)
    assert sum(stage["price"] for stage in two.stages) == pytest.approx(
        two.totals["price"]
    )
    unpriced = plan_run(settings, Machine(name="H100"))
    assert {x["price"] for x in (*unpriced.stages, unpriced.totals)} == {None}
    with pytest.raises(ConfigError, match=r"expected one of `B200`, .*found `H900`"):
        Machine(name="H900")


def test_a_run_in_fp32_takes_the_peak_of_fp32(settings):
    half, single = (
        plan_run(dataclasses.replace(settings, precision=name), Machine(name="H100"))
        for name in ("bf16", "fp32")
    )
    ratio = single.totals["seconds"] / half.totals["seconds"]
    assert ratio == pytest.approx(989.0 / 67.0)


def test_a_slot_costs_six_a_parameter_and_half_the_square_of_attention(settings):
    model = settings.model.model_config(_tokenizer(settings))
    attention = flops_per_slot(model, 64) - 6 * model.num_matmul_parameters()
    width = model.num_attention_heads * model.head_dim
    full = 12 * model.num_hidden_layers * width * 64
    assert attention == pytest.approx(full * 65 / 128)


def _tokenizer(settings):
    from triptych import Tokenizer

    return Tokenizer.from_file(settings.tokenizer)


def test_every_law_spends_the_work_of_the_run_at_its_optimum():
    run = Run(int(1e9), int(0.9e9), int(2e10), int(2e10), 1 << 19, 3e-4, {"web": 1.0})
    for law in by_law(run).values():
        work = law["optimal_parameters"] * law["optimal_tokens"]
        assert work == pytest.approx(run.parameters * run.tokens)
        assert law["loss"] == law["loss_with_repetition"]
    assert by_law(run).keys() == LAWS.keys()


def test_experts_that_a_token_does_not_go_to_are_no_work_for_the_laws(settings):
    def found(**experts):
        shape = dataclasses.replace(
            settings.model, model_type="qwen3_moe", moe_intermediate_size=48, **experts
        )
        return plan_run(dataclasses.replace(settings, model=shape))

    two, of_many = (found(num_experts=n, num_experts_per_tok=2) for n in (2, 64))
    routers = 2 * 62 * 16  # a router has a row for each expert
    assert of_many.parameters["all"] > 10 * two.parameters["all"]
    for name, law in of_many.laws.items():
        work = law["optimal_parameters"] * law["optimal_tokens"]
        least = two.laws[name]["optimal_parameters"] * two.laws[name]["optimal_tokens"]
        ratio = 1 + routers / two.parameters["all"]
        assert work / least == pytest.approx(ratio), name


def test_repeated_text_is_worth_less_to_the_law_that_was_fitted_to_it():
    def penalty(unique_tokens):
        run = Run(int(1e9), int(0.9e9), int(2e10), unique_tokens, 1 << 19, 3e-4, {})
        law = by_law(run)["muennighoff2023"]
        return law["loss_with_repetition"] - law["loss"]

    assert penalty(int(5e8)) > 0.05  # forty passes
    assert penalty(int(1.9e10)) < 1e-3  # a small source alone repeats


def test_what_is_read_twice_is_unique_once(settings):
    rows = order(settings).report()
    run = _run(settings.model.model_config(_tokenizer(settings)), settings, rows)
    (source,) = rows["sources"]
    assert run.tokens > source["tokens"] == run.unique_tokens


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, None),
        ({"tokens": int(5e8)}, "tokens: 5e+08 is far below"),
        ({"batch_tokens": 1 << 27}, "batch_tokens: 1.34e+08 is far above"),
        (
            {"batch_tokens": 1 << 21},
            "batch_tokens: 2.1e+06 is above the critical batch",
        ),
        ({"learning_rate": 0.5}, "learning_rate: 0.5 is far above"),
        ({"epochs": {"web": 9.0}}, "source `web`: 9.0 passes"),
        ({"parameters": int(1e6)}, "44 times fewer"),
    ],
)
def test_what_is_far_from_the_papers_is_a_warning(change, words):
    usual = {
        "parameters": int(1e9),
        "matrix_parameters": int(0.9e9),
        "tokens": int(2e10),
        "unique_tokens": int(2e10),
        "batch_tokens": 1 << 19,
        "learning_rate": 1e-3,
        "epochs": {"web": 1.0},
    }
    found = warnings(Run(**{**usual, **change}))
    assert (found == []) if words is None else any(words in x for x in found)


@pytest.mark.parametrize(
    ("optimizer", "changes", "rate"),
    [
        ({"name": "adamw"}, {}, 0.01),
        ({"name": "adamw", "matrix_lr_ratio": 0.5}, {}, 0.005),
        ({"name": "muon"}, {}, 0.01),
        ({"name": "muon", "lr_convention": "spectral"}, {}, None),
        ({"name": "adamw"}, {"mup_base_width": 4}, 0.0025),  # the width is 16
        ({"name": "muon"}, {"mup_base_width": 4}, 0.005),
    ],
)
def test_the_rate_that_is_compared_with_papers_is_one_that_they_could_mean(
    settings, optimizer, changes, rate
):
    shape = dataclasses.replace(settings.model, tie_word_embeddings=False)
    own = OptimizerConfig(**optimizer)
    run = dataclasses.replace(settings, model=shape, optimizer=own, **changes)
    found = _run(shape.model_config(_tokenizer(run)), run, None)
    assert found.learning_rate == pytest.approx(rate)
    assert not [x for x in warnings(found) if rate is None and "learning_rate" in x]


def test_the_critical_batch_is_that_of_the_paper():
    # 151M parameters at 20 tokens each: about 1,000 rows of 512 (figure 1).
    assert critical_batch_tokens(3_020_000_000) == pytest.approx(990 * 512, rel=0.02)
    assert critical_batch_tokens(int(1e11)) > 4 * critical_batch_tokens(int(3e9))


def test_step_law_counts_no_embeddings():
    run = Run(int(1.2e9), int(1.07e9), int(1e11), int(1e11), 1 << 20, 1e-3, {})
    found = hyperparameters(run)["step_law2025"]
    assert found["learning_rate"] == pytest.approx(1.79 * 1.07e9**-0.713 * 1e11**0.307)
    assert 1e-3 < found["learning_rate"] < 3e-3
    assert 0.8e6 < found["batch_tokens"] < 1.6e6


def test_the_first_steps_are_measured_in_a_run_of_their_own(settings, folder):
    probe = measure(settings, steps=3)
    assert not (folder / "run").exists()
    assert probe.memory_mib > 100
    assert probe.step_seconds > 0.0
    assert 0.0 < probe.save_seconds < 30.0


def test_memory_is_measured_of_the_stage_that_takes_most_and_time_of_the_first(
    settings,
):
    short, long = settings.stage
    long = dataclasses.replace(long, seq_len=2048, steps=1)
    whole = dataclasses.replace(settings, stage=(short, long), max_epochs={"web": 99.0})
    alone = dataclasses.replace(settings, stage=(short,))
    found, of_first = (measure(run, steps=3) for run in (whole, alone))
    assert found.memory_mib > of_first.memory_mib + 20
    assert found.tokens_per_second * found.step_seconds < 4 * 32 * 1.1


@pytest.mark.parametrize(
    "changes",
    [{"steps": 1}, {"batch_size": 8, "batch_ramp": BatchRamp(first=4, steps=1)}],
    ids=["one step", "a batch that grows"],
)
def test_time_is_of_the_first_batch_however_few_its_steps(settings, changes):
    short, long = settings.stage
    first = dataclasses.replace(short, **changes)
    found = measure(dataclasses.replace(settings, stage=(first, long)), steps=4)
    assert found.tokens_per_second * found.step_seconds < 4 * 32 * 1.1


def test_a_stage_may_have_any_name_beside_the_steps_that_are_measured(settings):
    short, long = settings.stage
    stages = (short, dataclasses.replace(long, stage="largest"))
    assert measure(dataclasses.replace(settings, stage=stages), steps=2).memory_mib


def test_the_command_prints_the_plan_and_writes_nothing(folder, capsys):
    command = ["plan", "--config", str(folder / "run.toml"), "--no-measure"]
    assert main(command) == 0
    assert "warning: source `web`" not in capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["totals"]["steps"] == 8
    assert plan["totals"]["seconds"] is None


def test_names_in_brackets_and_what_steers_a_terminal_are_text_in_a_plan(
    folder, tmp_path, capsys
):
    text = (folder / "run.toml").read_text()
    path = tmp_path / "run.toml"
    path.write_text(
        text.replace('"short"', '"[/red]:x:"').replace('"long"', r'"\u202e"')
    )
    assert main(["plan", "--config", str(path), "--no-measure"]) == 0
    said = capsys.readouterr().out
    assert "[/red]:x:" in said
    assert r"\u202e" in said


def test_a_model_beyond_all_numbers_is_refused_by_its_size(folder, capsys):
    command = ["plan", "--config", str(folder / "run.toml"), "--no-measure"]
    # Each is within its own bounds.
    shape = {"hidden_size": 240_000, "num_hidden_layers": 10_000}
    shape["num_attention_heads"] = 240
    sets = [f"--set=model.{name}={value}" for name, value in shape.items()]
    assert main([*command, *sets]) == 2
    assert (
        "expected at most 1,000,000,000,000,000 parameters" in capsys.readouterr().err
    )


def test_a_run_that_cannot_start_says_why(settings):
    import dataclasses

    model = dataclasses.replace(settings.model, hidden_act="tanh")
    with pytest.raises(ConfigError, match="found"):
        measure(dataclasses.replace(settings, model=model))


def test_tokens_alone_are_enough_for_a_plan(folder, capsys):
    nowhere = folder / "not-made-yet"
    lines = (folder / "run.toml").read_text().split("[[stage]]")[0]
    path = folder / "tokens.toml"
    path.write_text(
        "tokens = 40_000\nbatch_tokens = 128\nlearning_rate = 0.01\n"
        + lines.replace(str(folder / "web"), str(nowhere))
    )
    assert main(["plan", "--config", str(path), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["totals"]["slots"] == pytest.approx(40_000, rel=0.02)
    assert plan["measured"] is None
    assert any("sources: there are no shards yet" in x for x in plan["warnings"])
    law = plan["laws"]["muennighoff2023"]
    assert law["loss"] == law["loss_with_repetition"]


def test_memory_by_part_adds_up_and_counts_what_is_kept(settings):
    settings = dataclasses.replace(settings, optimizer=OptimizerConfig(name="adamw"))
    memory = plan_run(settings).memory
    assert memory["all"] == pytest.approx(sum(memory.values()) - memory["all"])
    parameters = plan_run(settings).parameters["all"]
    assert memory["weights"] == memory["gradients"] == 4 * parameters / 2**20
    assert memory["optimizer"] == 2 * memory["weights"]
    assert memory["average"] == memory["checkpoint"] == 0.0
    full = dataclasses.replace(settings, recompute="full", async_checkpoints=True)
    other = plan_run(full).memory
    assert other["activations"] < memory["activations"] / 3
    assert other["checkpoint"] == pytest.approx(3 * memory["weights"])
    assert plan_run(settings, Machine(name="H100")).memory["libraries"] == 0.0


def test_muon_keeps_one_moment_of_the_matrices_inside_layers(settings):
    muon, adamw = (
        plan_run(dataclasses.replace(settings, optimizer=OptimizerConfig(name=name)))
        for name in ("muon", "adamw")
    )
    model = settings.model.build(_tokenizer(settings), seed=0)
    embeddings = model.output_weight.numel()  # tied
    matrices = sum(p.numel() for p in model.parameters() if p.dim() == 2) - embeddings
    saved = adamw.memory["optimizer"] - muon.memory["optimizer"]
    assert saved == pytest.approx(4 * matrices / 2**20)


@pytest.mark.parametrize(
    ("grid", "imported"),
    [
        ({}, set()),
        ({"replicate": 2}, set()),
        *(
            ({axis: 2}, {"torch.distributed.fsdp", "torch._dynamo"})
            for axis in ("shard", "tensor", "context")
        ),
    ],
)
def test_libraries_are_those_that_a_run_on_the_grid_imports(settings, grid, imported):
    run = dataclasses.replace(
        settings, parallel=ParallelConfig(**grid), compile=False, tensorboard=False
    )
    with mock.patch("triptych.planner.memory.importlib.import_module") as imports:
        libraries_here(run)
    assert {call.args[0] for call in imports.call_args_list} == imported


def test_memory_is_that_of_one_process_of_the_grid(settings):
    def planned(**grid):
        parallel = ParallelConfig(**grid)
        return plan_run(dataclasses.replace(settings, parallel=parallel)).memory

    whole, shards, products = planned(), planned(shard=4), planned(tensor=2)
    for part in ("weights", "gradients", "optimizer"):
        assert shards[part] == pytest.approx(whole[part] / 4)
        assert whole[part] / 2 < products[part] < whole[part]  # embeddings stay whole
    assert whole["gathered"] == products["gathered"] == 0.0 < shards["gathered"]
    assert shards["activations"] == pytest.approx(whole["activations"])
    assert products["activations"] < whole["activations"]
    tokens = planned(replicate=2, context=2)
    assert tokens["weights"] == whole["weights"]
    assert tokens["activations"] == pytest.approx(whole["activations"] / 2, rel=0.1)
    with pytest.raises(ConfigError, match="divides num_attention_heads"):
        planned(tensor=64)


def test_what_allocators_kept_of_one_process_is_kept_in_every_one_of_a_grid(settings):
    """Planned by parts alone, two processes held up to 26 % more."""
    probe = dataclasses.replace(PROBE, memory_mib=5000.0)
    grid = dataclasses.replace(settings, parallel=ParallelConfig(shard=2))
    alone, shards = (plan_run(run, probe=probe).memory for run in (settings, grid))
    assert alone["all"] == pytest.approx(5000.0)
    assert shards["allocators"] == pytest.approx(alone["allocators"], abs=30.0)
    assert plan_run(grid).memory["allocators"] == 0.0
    assert plan_run(settings, Machine(name="H100"), probe).memory["allocators"] == 0.0


@pytest.mark.parametrize(("devices", "warned"), [(1, True), (2, False), (6, False)])
def test_devices_that_cannot_be_the_grid_are_warned_of(settings, devices, warned):
    several = dataclasses.replace(settings, parallel=ParallelConfig(shard=2))
    found = plan_run(several, Machine(name="H100", devices=devices)).warnings
    assert any("parallel: expected" in x for x in found) is warned
    assert not any("devices" in x for x in plan_run(several).warnings)


def test_steps_are_measured_in_one_process_whatever_the_grid(settings):
    several = dataclasses.replace(settings, parallel=ParallelConfig(shard=2))
    assert measure(several, steps=2).memory_mib > 100


def test_activations_are_those_that_a_whole_model_keeps():
    import torch

    from test_recompute import BATCH, kept_bytes
    from tiny import tiny_model
    from triptych.planner.memory import kept_by_layer
    from triptych.train.precision import Precision

    tokens = BATCH.num_tokens
    one, two = (tiny_model(num_hidden_layers=n) for n in (1, 2))
    expected = kept_bytes(two, "none") - kept_bytes(one, "none")
    precision = Precision.choose("fp32", torch.device("cpu"))
    found = kept_by_layer(one.config, 0, tokens, "none", precision)
    assert found.of(tokens) == pytest.approx(expected, rel=0.1)


@pytest.mark.filterwarnings("error")
def test_selective_keeps_the_products_and_attention_of_a_layer():
    import torch

    from tiny import tiny_model
    from triptych.planner.memory import kept_by_layer
    from triptych.train.precision import Precision

    model = tiny_model(num_hidden_layers=1).config
    width, inner, kv = model.hidden_size, model.intermediate_size, 2 * 8
    products = (width + 2 * kv) + width + 2 * inner + width  # qkv, o, gate and up, down
    attention = width + model.num_attention_heads  # and the log-sum-exp of each head
    precision = Precision.choose("fp32", torch.device("cpu"))
    found = kept_by_layer(model, 0, 512, "selective", precision)
    expected = 4 * (width + products + attention)
    assert found.a_token == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--devices", "2"], "--devices: expected --hardware NAME with it"),
        (["--price", "2.5"], "--price: expected --hardware NAME with it"),
        (["--hardware", "H100", "--devices", "0"], "at least 1 device"),
        (["--hardware", "H100", "--mfu", "nan"], "an mfu in (0, 1]"),
        (["--hardware", "H100", "--price", "-1"], "price: expected at least 0"),
    ],
)
def test_hardware_that_cannot_be_is_a_sentence(folder, capsys, arguments, message):
    assert main(["plan", "--config", str(folder / "run.toml"), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_steps_are_measured_of_a_run_that_saves_at_every_one_of_them(settings):
    often = dataclasses.replace(settings, checkpoint_every_steps=1, keep_checkpoints=9)
    assert measure(often, steps=4).save_seconds > 0.0
