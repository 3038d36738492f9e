"""What no law could be fitted to, or what its runs were not of, is refused."""

import dataclasses
import shutil

import pytest

from test_ladder import folder, settings, tokenizer_of  # noqa: F401 - fixtures
from triptych import config
from triptych._core import write_token_shards
from triptych.commands.ladder import dry_run, ladder
from triptych.commands.pretrain import PretrainConfig
from triptych.errors import ConfigError
from triptych.miniseries.points import plan_points
from triptych.miniseries.running import require_same_text, train_point
from triptych.train.metrics import EvaluationLog


@pytest.mark.parametrize(
    ("sizes", "durations", "words"),
    [
        (("4x1", "8x1"), (0.1, 0.2), "at least 7 runs .* found 4: name more sizes"),
        (("4x1", "8x1", "8x2"), (0.1, 0.2), "at least 7 runs .* found 6"),
        (("4x1", "8x1"), (0.1, 0.2, 0.4, 0.8), "3 different parameters.* found 2"),
    ],
)
def test_too_few_runs_for_a_law_are_refused_before_the_first_is_trained(
    settings,  # noqa: F811
    tmp_path,
    sizes,
    durations,
    words,
):
    table = dataclasses.replace(settings.ladder, sizes=sizes, durations=durations)
    settings = dataclasses.replace(settings, ladder=table, output=str(tmp_path / "run"))
    with pytest.raises(ConfigError, match=words):
        ladder(settings)
    assert not (tmp_path / "run").exists()
    shown = dry_run(settings, measured=False)["warnings"]
    assert any("ladder: expected" in sentence for sentence in shown)


def test_the_same_run_by_two_names_is_refused(settings):  # noqa: F811
    shape = dataclasses.replace(
        settings.model, hidden_size=128, num_hidden_layers=3, intermediate_size=None
    )
    table = dataclasses.replace(settings.ladder, sizes=("64x1", "d1", "128x2"))
    with pytest.raises(ConfigError, match=r"found `64x1-0\.1` and `d1-0\.1`"):
        plan_points(dataclasses.replace(settings, model=shape, ladder=table))


def test_runs_that_were_measured_on_other_held_out_text_are_refused(
    settings,  # noqa: F811
    tmp_path,
):
    held = tmp_path / "held"
    shutil.copytree(settings.evaluation["web"], held)
    settings = dataclasses.replace(settings, evaluation={"web": str(held)})
    for _ in range(2):
        require_same_text(tmp_path / "ladder", settings)
    measured = EvaluationLog(tmp_path / "ladder" / "points" / "4x1-0.1")
    measured.write({"step": 0, "bits_per_byte": {}})
    shutil.rmtree(held)
    shutil.copytree(settings.sources["web"], held)
    with pytest.raises(ConfigError, match=r"evaluation\.web: .*made anew: choose"):
        require_same_text(tmp_path / "ladder", settings)
    run = dataclasses.replace(settings, output=str(tmp_path))
    with pytest.raises(ConfigError, match="made anew"):
        ladder(run)


def test_held_out_text_that_nothing_was_measured_on_may_be_made_anew(
    settings,  # noqa: F811
    tmp_path,
):
    """As where the first run of the ladder was refused."""
    texts = settings.evaluation["web"], settings.sources["web"]
    held = tmp_path / "held"
    settings = dataclasses.replace(settings, evaluation={"web": str(held)})
    for text in texts:
        shutil.copytree(text, held)
        require_same_text(tmp_path / "ladder", settings)
        shutil.rmtree(held)


def test_a_finished_run_of_other_shards_at_the_same_path_is_refused(
    folder,  # noqa: F811
    tmp_path,
):
    web = tmp_path / "web"
    shutil.copytree(folder / "web", web)
    own = config.load(PretrainConfig, folder / "run.toml", [f"sources.web={web}"])
    own = dataclasses.replace(own, output=str(tmp_path / "run"))
    (point, *_), _ = plan_points(own)
    bits = train_point(point)
    assert train_point(point) == bits
    shutil.rmtree(web)
    documents = [(f"{i}", "web", [*range(8, 31 + i % 9)], None) for i in range(60)]
    write_token_shards(documents, tokenizer_of(own), str(web), 1)  # as many tokens
    with pytest.raises(ConfigError, match=f"run `{point.name}`.* other rows.*remove"):
        train_point(plan_points(own)[0][0])
