"""Faulty steps: found before the update, told apart, left out, and named."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch

from small_shards import write_sources
from tiny import TinyData, same_weights, tiny_model, tiny_train_config
from triptych.curriculum import StageConfig
from triptych.data import OrderedRows
from triptych.errors import ConfigError
from triptych.train import (
    LossSum,
    OptimizerConfig,
    PretrainObjective,
    StageSchedule,
    Trainer,
    TrainingDiverged,
    checkpoint,
    gradient,
)
from triptych.train.averaging import AverageConfig
from triptych.train.health import SPIKE_WINDOW_STEPS, Reading, SpikeWatch, spike_limit
from triptych.train.incidents import IncidentLog, before, merged
from triptych.train.metrics import read_metrics

STEPS = 20


@pytest.fixture(autouse=True, params=["waits", "looks ahead"])
def _host(request, monkeypatch):
    """Whether the host reads a step before it launches the next, or after."""
    devices = ("cpu",) if request.param == "looks ahead" else ()
    monkeypatch.setattr(gradient, "ASYNCHRONOUS", devices)


class Faulty(PretrainObjective):
    """Multiplies the loss of chosen batches; `seen` counts the batches so far."""

    def __init__(self, factor_of):
        super().__init__()
        object.__setattr__(self, "factor_of", factor_of)
        object.__setattr__(self, "seen", [])

    def loss(self, model, batch):
        self.seen.append(batch)
        part = super().loss(model, batch)
        factor = self.factor_of(len(self.seen), batch)
        return LossSum(part.loss_sum * factor, part.count)


def holds(document, call, batch):
    return math.nan if document in batch.documents.tolist() else 1.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    documents = [[7 + (i * 13 + t) % 80 for t in range(16)] for i in range(200)]
    return write_sources(tmp_path_factory.mktemp("tokens"), web=documents) / "web"


@pytest.fixture
def data(folder):
    stages = [StageConfig(stage="first", learning_rate=1e-2, batch_size=2, steps=STEPS)]
    return OrderedRows({"web": folder}, stages, seed=3, seq_len=16)


def trainer(output, data, objective=None, **changes):
    schedule = StageSchedule(name="first", steps=data.num_steps, max_lr=1e-2)
    config = tiny_train_config(
        output,
        stages=[schedule],
        **{"checkpoint_every_steps": 4, "max_bad_steps": 3, **changes},
    )
    return Trainer(tiny_model(), objective or PretrainObjective(), data, config)


def trained(*arguments, **changes):
    run = trainer(*arguments, **changes)
    return run.model, run.run()


def incidents(output):
    return IncidentLog(output).read()


def documents_of(data, steps):
    return {
        int(entry["id"].removeprefix("web-"))
        for step in steps
        for row in data.named_rows(step)
        for entry in row
    }


def test_a_fault_of_the_machine_is_gone_the_second_time_and_costs_no_step(
    tmp_path, data
):
    once = Faulty(lambda call, batch: math.nan if call == 3 else 1.0)
    model, result = trained(tmp_path / "faulty", data, once)
    (incident,) = incidents(tmp_path / "faulty")
    assert (incident["action"], incident["repeated"]) == ("updated", False)
    assert (incident["step"], incident["fault"]) == (3, "not_finite")
    assert result.skipped_steps == 0
    assert same_weights(model, trained(tmp_path / "sound", data)[0])


def test_a_fault_of_the_data_comes_back_is_skipped_and_its_documents_are_named(
    tmp_path, data
):
    (document, *_) = documents_of(data, [6])
    model, result = trained(tmp_path, data, Faulty(partial(holds, document)))
    (incident,) = incidents(tmp_path)
    assert (incident["action"], incident["repeated"]) == ("skipped", True)
    assert incident["step"] == 7
    assert {"source": "web", "id": f"web-{document}"} in incident["documents"]
    assert len(incident["documents"]) == len(documents_of(data, [6]))
    assert result.skipped_steps == 1
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    (line,) = [line for line in read_metrics(tmp_path) if line["loss"] is None]
    assert (line["step"], line["fault"]) == (7, "not_finite")


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_no_overflow_of_fp16(tmp_path, data, factor):
    (document, *_) = documents_of(data, [6])
    faulty = Faulty(
        lambda _, batch: factor if document in batch.documents.tolist() else 1.0
    )
    _, result = trained(tmp_path, data, faulty, precision="fp16")
    (incident,) = incidents(tmp_path)
    assert (incident["step"], incident["action"]) == (7, "skipped")
    assert incident["again"] is incident["repeated"] is None  # the scale has changed
    assert {"source": "web", "id": f"web-{document}"} in incident["documents"]
    assert result.skipped_steps == 1


def test_metrics_hold_no_number_that_json_does_not_know(tmp_path, data):
    class Counting(Faulty):
        def loss(self, model, batch):
            part = super().loss(model, batch)
            metrics = {"margin": part.loss_sum.detach()}
            return LossSum(part.loss_sum, part.count, metrics)

    (document, *_) = documents_of(data, [6])
    trained(tmp_path, data, Counting(partial(holds, document)))
    text = (tmp_path / "metrics.jsonl").read_text()
    assert "NaN" not in text
    (line,) = [line for line in read_metrics(tmp_path) if line["loss"] is None]
    assert line["margin"] is None


@pytest.mark.parametrize("factor", [10.0, 10_000.0])  # the second one overflows
def test_a_spike_under_fp16_is_named(tmp_path, factor):
    spiked = SPIKE_WINDOW_STEPS + 3
    objective = Faulty(
        lambda _, batch: factor if int(batch.documents[0]) // 4 == spiked else 1.0
    )
    data = TinyData(spiked + 3)
    trained(tmp_path, data, objective, precision="fp16", checkpoint_every_steps=1000)
    (incident,) = incidents(tmp_path)
    assert (incident["step"], incident["fault"]) == (spiked + 1, "loss_spike")


def bad_window(data, first=9, end=12):
    """An objective for which the data of steps `first` to `end` is bad."""
    bad = documents_of(data, range(first, end))
    return Faulty(
        lambda _, batch: math.nan if bad & set(batch.documents.tolist()) else 1.0
    )


def test_bad_steps_in_a_row_send_the_run_back_and_leave_their_data_out(tmp_path, data):
    model, result = trained(tmp_path / "healed", data, bad_window(data))
    rewound = incidents(tmp_path / "healed")[-1]
    assert (rewound["action"], rewound["data_steps"]) == ("rewound", [9, 12])
    named = {int(x["id"].removeprefix("web-")) for x in rewound["documents"]}
    assert named == documents_of(data, range(9, 12))
    assert (result.step, result.skipped_steps) == (STEPS, 0)
    lines = read_metrics(tmp_path / "healed")
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    never = trained(tmp_path / "never", data.skipping([(9, 12)]))
    assert same_weights(model, never[0])
    assert result.source_tokens == never[1].source_tokens


@pytest.mark.parametrize("ends", [(11,), (10, 11)])
def test_a_stage_that_ends_among_bad_steps_leaves_the_way_back(tmp_path, folder, ends):
    """Step 10 is bad; each stage's end is saved, with one checkpoint to keep."""
    lengths = [ends[0], *(b - a for a, b in pairwise((*ends, STEPS)))]
    stages = [
        StageConfig(stage=str(n), learning_rate=1e-2, batch_size=2, steps=steps)
        for n, steps in enumerate(lengths)
    ]
    data = OrderedRows({"web": folder}, stages, seed=3, seq_len=16)
    objective = bad_window(data, 9, 12)
    schedules = [
        StageSchedule(name=str(n), steps=steps, max_lr=1e-2)
        for n, steps in enumerate(lengths)
    ]
    config = tiny_train_config(
        tmp_path,
        stages=schedules,
        checkpoint_every_steps=4,
        max_bad_steps=3,
        keep_checkpoints=1,
    )
    result = Trainer(tiny_model(), objective, data, config).run()
    assert incidents(tmp_path)[-1]["data_steps"] == [9, 12]
    assert (result.step, result.skipped_steps) == (STEPS, 0)
    assert [x.name for x in checkpoint.steps_in(tmp_path / "checkpoints")] == [
        f"step-{STEPS:08d}"
    ]


def test_a_step_of_nothing_between_bad_ones_is_left_out_with_them(tmp_path, data):
    objective = bad_window(data)
    empty = documents_of(data, [10])
    count = objective.count
    # Steps 9 and 11 are bad, 10 has nothing to learn: neither bad nor good.
    object.__setattr__(
        objective,
        "count",
        lambda batch: 0 if empty & set(batch.documents.tolist()) else count(batch),
    )
    trained(tmp_path, data, objective, max_bad_steps=2)
    rewound = incidents(tmp_path)[-1]
    assert (rewound["action"], rewound["data_steps"]) == ("rewound", [9, 12])


def test_a_run_killed_after_it_went_back_ends_with_the_same_weights(tmp_path, data):
    straight, _ = trained(tmp_path / "straight", data, bad_window(data))

    class Killed(Exception):
        pass

    def kill(metrics):
        if killed.incidents.windows() and metrics["step"] == 14:
            raise Killed

    killed = trainer(tmp_path / "killed", data, bad_window(data))
    killed.on_step = kill
    with pytest.raises(Killed):
        killed.run()
    model, _ = trained(tmp_path / "killed", data, bad_window(data))
    assert same_weights(model, straight)


def test_a_run_that_is_bad_again_and_again_ends_after_so_many_rewinds(tmp_path, data):
    late = Faulty(lambda call, _: math.nan if call > 8 else 1.0)
    with pytest.raises(TrainingDiverged, match=r"within 3 steps.*incidents\.jsonl"):
        trained(tmp_path, data, late, max_rewinds=1)
    actions = [incident["action"] for incident in incidents(tmp_path)]
    assert actions.count("rewound") == 1


def spoil_weight(run):
    run.model.model.layers[0].mlp.up_proj.weight[0, 0] = math.nan


def spoil_moment(run):
    weight = run.model.model.layers[0].mlp.up_proj.weight
    run.optimizer.state[weight]["exp_avg"][0, 0] = math.inf


def spoil_average(run):
    run.placement.average.weights["model.norm.weight"][0] = math.nan


@pytest.mark.parametrize("spoil", [spoil_weight, spoil_moment, spoil_average])
@pytest.mark.parametrize("step", [5, 8])  # a checkpoint is due after the second
def test_a_fault_in_memory_sends_the_run_back_and_leaves_nothing_out(
    tmp_path, data, spoil, step
):
    changes = {"keep_checkpoints": 1, "average": AverageConfig(half_life_steps=3)}
    sound, _ = trained(tmp_path / "sound", data, **changes)
    run = trainer(tmp_path / "spoilt", data, **changes)

    def spoil_once(metrics):
        if metrics["step"] == step and not incidents(tmp_path / "spoilt"):
            with torch.no_grad():
                spoil(run)

    run.on_step = spoil_once
    assert run.run().skipped_steps == 0
    assert same_weights(run.model, sound)
    (rewound,) = incidents(tmp_path / "spoilt")
    assert (rewound["action"], rewound["documents"]) == ("rewound", [])
    hashes = [
        [(x["ids_hash"], x["loss"]) for x in read_metrics(tmp_path / name)]
        for name in ("sound", "spoilt")
    ]
    assert hashes[0] == hashes[1]


def test_weights_that_are_spoilt_again_and_again_are_never_saved(tmp_path, data):
    run = trainer(tmp_path, data, max_rewinds=1)

    def spoil(metrics):
        if metrics["step"] == 8:
            with torch.no_grad():
                spoil_weight(run)

    run.on_step = spoil
    with pytest.raises(TrainingDiverged, match="step 8: expected weights and moments"):
        run.run()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [
        "step-00000004"
    ]


@pytest.mark.parametrize(("step", "changes"), [(2, {}), (5, {"max_rewinds": 0})])
def test_spoilt_weights_that_cannot_go_back_end_the_run_and_accuse_no_later_step(
    tmp_path, data, step, changes
):
    run = trainer(tmp_path, data, max_bad_steps=10, **changes)

    def spoil(metrics):
        if metrics["step"] == step:
            with torch.no_grad():
                spoil_weight(run)

    run.on_step = spoil
    message = "expected weights and moments .* no data is at fault"
    with pytest.raises(TrainingDiverged, match=message):
        run.run()
    (incident,) = incidents(tmp_path)
    assert incident["step"] - step in (1, 2)  # the next one may be launched already


@pytest.mark.parametrize(
    ("window", "changes"),
    [
        ((0, 3), {}),
        ((1, 4), {"average": AverageConfig(half_life_steps=3)}),
        ((2, 5), {"precision": "fp16", "async_checkpoints": True}),
        ((1, 4), {"optimizer": OptimizerConfig(name="muon")}),
    ],
)
def test_a_run_without_a_checkpoint_yet_goes_back_to_its_beginning(
    tmp_path, data, window, changes
):
    changes = {"checkpoint_every_steps": 6, **changes}
    run = trainer(tmp_path / "healed", data, bad_window(data, *window), **changes)
    run.begin_again = tiny_model
    assert run.run().skipped_steps == 0
    rewound = incidents(tmp_path / "healed")[-1]
    assert (rewound["action"], tuple(rewound["data_steps"])) == ("rewound", window)
    never, _ = trained(tmp_path / "never", data.skipping([window]), **changes)
    assert same_weights(run.model, never)
    ends = [
        tmp_path / name / "checkpoints" / f"step-{STEPS:08d}"
        for name in ("healed", "never")
    ]
    files = [sorted(x for x in e.iterdir() if x.suffix == ".safetensors") for e in ends]
    for healed, other in zip(*files, strict=True):
        assert healed.read_bytes() == other.read_bytes()
    losses = [
        [(x["step"], x["ids_hash"], x["loss"]) for x in read_metrics(tmp_path / name)]
        for name in ("healed", "never")
    ]
    assert losses[0] == losses[1]


def test_weights_spoilt_before_the_first_checkpoint_are_begun_with_again(
    tmp_path, data
):
    run = trainer(tmp_path, data, average=AverageConfig(half_life_steps=3))
    run.begin_again = tiny_model

    def spoil_once(metrics):
        if metrics["step"] == 2 and not incidents(tmp_path):
            with torch.no_grad():
                spoil_weight(run)
                spoil_average(run)

    run.on_step = spoil_once
    assert run.run().skipped_steps == 0
    (rewound,) = incidents(tmp_path)
    assert rewound["documents"] == []


def test_what_a_run_left_out_before_its_first_checkpoint_is_no_matter_of_another(
    tmp_path, data
):
    """One that is stopped, and started again with other settings, reads all."""
    IncidentLog(tmp_path / "run").write(
        {"step": 2, "action": "rewound", "data_steps": [1, 4], "documents": []}
    )
    model, _ = trained(tmp_path / "run", data)
    assert incidents(tmp_path / "run") == []
    assert same_weights(model, trained(tmp_path / "never", data)[0])


def test_without_a_checkpoint_to_go_back_to_the_run_ends(tmp_path, data):
    with pytest.raises(TrainingDiverged, match="step 3: expected a finite loss"):
        trained(tmp_path, data, Faulty(lambda *_: math.nan))


def test_a_window_named_later_sends_the_run_back_to_before_it(tmp_path, data):
    trained(tmp_path / "run", data, keep_checkpoints=10)
    window = [(9, 12)]
    model, _ = trained(tmp_path / "run", data.skipping(window))
    assert same_weights(model, trained(tmp_path / "never", data.skipping(window))[0])
    kept = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    abandoned = {name for name in kept if name.startswith("abandoned-")}
    assert abandoned == {f"abandoned-step-{step:08d}" for step in (12, 16, 20)}


def test_a_window_before_every_checkpoint_is_refused(tmp_path, data):
    trained(tmp_path, data, keep_checkpoints=1)
    with pytest.raises(ConfigError, match=r"skip: expected windows behind"):
        trained(tmp_path, data.skipping([(2, 3)]))


def test_another_run_with_windows_leaves_the_checkpoints_where_they_are(tmp_path, data):
    trained(tmp_path, data, keep_checkpoints=10)
    before_it = sorted((tmp_path / "checkpoints").iterdir())
    with pytest.raises(ConfigError, match="belongs to another run"):
        trained(tmp_path, data.skipping([(9, 12)]), seed=1)
    assert sorted((tmp_path / "checkpoints").iterdir()) == before_it


def test_a_run_that_begins_again_forgets_what_was_skipped_before(tmp_path, data):
    log = IncidentLog(tmp_path)
    log.write({"step": 2, "action": "skipped"})
    trained(tmp_path, data)
    assert log.read() == []


def test_a_spike_is_skipped_and_the_run_goes_on(tmp_path):
    steps = SPIKE_WINDOW_STEPS + 6
    spiked = SPIKE_WINDOW_STEPS + 3
    objective = Faulty(
        lambda _, batch: 50.0 if int(batch.documents[0]) // 4 == spiked else 1.0
    )
    _, result = trained(
        tmp_path, TinyData(steps), objective, checkpoint_every_steps=1000
    )
    (incident,) = incidents(tmp_path)
    assert (incident["step"], incident["fault"]) == (spiked + 1, "loss_spike")
    assert (incident["action"], incident["repeated"]) == ("skipped", True)
    assert result.skipped_steps == 1


def test_spikes_are_watched_for_only_as_far_as_wished(tmp_path):
    with pytest.raises(ConfigError, match="spike_sigmas: expected above 0"):
        tiny_train_config(tmp_path, spike_sigmas=0.0)
    watch = full_watch([1.0, 1.1] * 64)
    high = Reading(loss=100.0, grad_norm=1.0)
    assert watch.fault(high, None) is None
    assert watch.fault(high, 6.0) == "loss_spike"
    assert watch.fault(Reading(1.0, 100.0), 6.0) == "grad_norm_spike"
    assert watch.fault(Reading(math.inf, 1.0), None) == "not_finite"


def full_watch(losses):
    watch = SpikeWatch()
    for loss in losses:
        watch.add(Reading(loss, loss))
    return watch


def test_a_spike_is_six_deviations_above_the_mean_of_a_full_window():
    generator = torch.Generator().manual_seed(0)
    past = (
        2 + 0.1 * torch.randn(128, generator=generator, dtype=torch.float64)
    ).tolist()
    mean, deviation = torch.tensor(past).mean().item(), torch.tensor(past).std().item()
    assert mean + 5.9 * deviation < spike_limit(past, 6.0)
    assert mean + 6.1 * deviation > spike_limit(past, 6.0)
    assert spike_limit(past[1:], 6.0) == math.inf  # too short to know
    assert spike_limit([1.0] * 128, 6.0) > 1.05  # rounding about a constant


def test_a_new_level_is_soon_no_spike():
    watch = full_watch([1.0, 1.01] * 64)
    faults = []
    for _ in range(12):
        reading = Reading(3.0, 3.0)
        faults.append(watch.fault(reading, 6.0) is not None)
        watch.add(reading)
    assert faults[0]
    assert not faults[-1]


def test_the_watch_goes_on_from_its_state():
    watch = full_watch([1.0 + i / 100 for i in range(200)])
    again = SpikeWatch(watch.state())
    assert again.state() == watch.state()
    assert len(again.losses) == SPIKE_WINDOW_STEPS


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        ([], ()),
        ([(5, 7), (1, 3)], ((1, 3), (5, 7))),
        ([(1, 3), (3, 5)], ((1, 5),)),
        ([(1, 9), (2, 3)], ((1, 9),)),
    ],
)
def test_windows_that_touch_are_one(windows, expected):
    assert merged(windows) == expected


def test_of_windows_only_those_that_began_are_noticed():
    assert before([(8, 9), (2, 4)], 8) == ((2, 4),)
    assert before([(8, 9), (2, 4)], 9) == ((2, 4), (8, 9))
