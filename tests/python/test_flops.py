"""Operations of a step as torch counts them, over all families."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from test_recompute import family_model
from tiny import packed
from triptych.model.families import FAMILIES
from triptych.planner.planning import flops_per_slot
from triptych.train.measures import attended_pairs, step_flops

LENGTH = 48
BATCH = packed([list(range(5, 5 + LENGTH))])


@pytest.fixture(autouse=True)
def _torch_attends(monkeypatch):
    """Torch counts its own attention only."""
    monkeypatch.setenv("TRIPTYCH_OPS", "attention=cpu")


def counted(work):
    """Operations by operator."""
    with FlopCounterMode(display=False) as counter:
        work()
    found = counter.get_flop_counts()["Global"]
    return {str(operator).split(".")[-1]: n for operator, n in found.items()}


def attention_flops(model):
    """Of a forward pass, every query seeing every key, as torch counts them."""
    config = model.config
    width = config.num_attention_heads * config.head_dim
    return 4 * config.num_hidden_layers * width * LENGTH**2


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_plan_counts_the_matrix_products_that_torch_counts(name):
    model = family_model(name)
    # Logits written out: torch does not count the products that the loss adds in place.
    found = counted(lambda: model.logits(BATCH.input_ids).sum().backward())
    products = found["mm"] + found.get("addmm", 0)
    assert products == 6 * model.config.num_matmul_parameters() * LENGTH


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_plan_counts_the_part_of_attention_that_is_looked_at(name):
    model = family_model(name)
    with torch.no_grad():
        found = counted(
            lambda: model.hidden(BATCH.input_ids, BATCH.position_ids, BATCH.cu_seqlens)
        )
    attention = sum(n for key, n in found.items() if key not in ("mm", "addmm"))
    assert attention == attention_flops(model)
    config = model.config
    windows = [config.window(layer) for layer in range(config.num_hidden_layers)]
    seen = sum(attended_pairs([LENGTH], window) for window in windows)
    share = seen / (len(windows) * LENGTH**2)
    planned = flops_per_slot(config, LENGTH) * LENGTH
    assert planned == pytest.approx(step_flops(config, [BATCH]))
    products = 6 * config.num_matmul_parameters() * LENGTH
    assert planned - products == pytest.approx(3 * attention * share)
