"""muP: what a step does to a model does not depend on its width."""

import json
from pathlib import Path

import pytest
import torch

from test_ranks import write_run
from tiny import VOCAB_SIZE, tiny_config
from triptych import config
from triptych._core import Tokenizer
from triptych.commands.pretrain import PretrainConfig, begin, order
from triptych.commands.pretrain import pretrain as run_pretrain
from triptych.errors import ConfigError
from triptych.model import Transformer
from triptych.train.mup import narrow_rates, narrow_start
from triptych.train.optimizer import OptimizerConfig, create_optimizer

BASE, WIDE = 32, 512
OPTIMIZERS = {
    "adamw": OptimizerConfig(weight_decay=0.0),
    "muon, spectral": OptimizerConfig(name="muon", lr_convention="spectral"),
    "muon, rms": OptimizerConfig(name="muon", lr_convention="rms"),
}

pytestmark = pytest.mark.usefixtures("one_thread")


def wide_config(width):
    heads = {"num_attention_heads": width // 16, "num_key_value_heads": width // 16}
    shape = {"hidden_size": width, "intermediate_size": 2 * width, **heads}
    return tiny_config(tie_word_embeddings=False, **shape)


def logits_moved(width, optimizer, mup, steps=4):
    """How far the logits go in some steps on one batch, on average."""
    torch.manual_seed(0)
    model = Transformer(wide_config(width))
    if mup:
        narrow_start(model, BASE)
        optimizer = narrow_rates(optimizer, width, BASE)
    updates = create_optimizer(model, optimizer, 0.01)
    ids = torch.randint(VOCAB_SIZE, (4, 33), generator=torch.Generator().manual_seed(1))
    before = model.logits(ids[:, :-1]).detach()
    for _ in range(steps):
        logits = model.logits(ids[:, :-1]).flatten(0, 1)
        updates.zero_grad()
        torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten()).backward()
        updates.step()
    return float((model.logits(ids[:, :-1]).detach() - before).abs().mean())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_sixteen_times_the_width_moves_logits_as_far(name):
    moved = {
        (width, mup): logits_moved(width, OPTIMIZERS[name], mup)
        for width in (BASE, WIDE)
        for mup in (False, True)
    }
    assert moved[BASE, True] == moved[BASE, False]  # at the base nothing changes
    assert moved[WIDE, True] < 1.6 * moved[BASE, True]
    assert moved[WIDE, False] > 3 * moved[BASE, False]


def settings_of(folder, *model_lines):
    """Of a tiny run of width 16, whose rates are meant for 4."""
    path = write_run(folder, "steps = 2")
    text = "mup_base_width = 4\n" + path.read_text()
    path.write_text(text.replace("[model]", "\n".join(["[model]", *model_lines])))
    return config.load(PretrainConfig, path)


def test_a_run_begins_with_scaled_weights_and_keeps_scaled_rates(tmp_path):
    settings = settings_of(tmp_path, "tie_word_embeddings = false")
    tokenizer = Tokenizer.from_file(settings.tokenizer)
    drawn, begun = (settings.model.build(tokenizer, seed=0) for _ in range(2))
    begin(settings, order(settings), begun)
    assert torch.equal(begun.output_weight, drawn.output_weight / 4)
    one, other = (m.model.layers[0].mlp.down_proj.weight for m in (begun, drawn))
    assert torch.equal(one, other / 2)
    assert torch.equal(begun.model.embed_tokens.weight, drawn.model.embed_tokens.weight)
    run_pretrain(settings)
    run = Path(settings.output) / "checkpoints" / "step-00000002"
    optimizer = json.loads((run / "state.json").read_text())["run"]["optimizer"]
    # Of Muon's `rms`, the default, matrices by the root of 4, the head by AdamW's 4.
    assert (optimizer["matrix_lr_ratio"], optimizer["head_lr_ratio"]) == (0.5, 0.25)


@pytest.mark.parametrize(
    "model_lines", [[], ["tie_word_embeddings = false", 'start = "bigram"']]
)
def test_without_an_output_matrix_to_scale_it_is_refused(tmp_path, model_lines):
    with pytest.raises(ConfigError, match=r"mup_base_width: expected .* an output"):
        settings_of(tmp_path, *model_lines)
