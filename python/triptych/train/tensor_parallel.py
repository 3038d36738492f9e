"""Tensor parallel: a layer's matrix products spread over processes.

Shoeybi et al. 2019: what widens (queries, keys, values, gate, up) is cut by columns of
the product, what narrows (o, down) by rows, so that a process has whole heads and needs
one sum a half layer, forward and backward. Norms, embedding and head are whole in every
process, which all read the same rows.
"""

from __future__ import annotations

from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    RowwiseParallel,
    parallelize_module,
)

from triptych.errors import ConfigError
from triptych.model.config import ModelConfig
from triptych.model.transformer import Transformer

COLUMNS = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
)
ROWS = ("self_attn.o_proj", "mlp.down_proj")
# Norms of single heads: every process has the weight, and the gradient of its heads.
_HEAD_NORMS = (".q_norm.weight", ".k_norm.weight")


def split_products(model: Transformer, mesh: DeviceMesh) -> None:
    """Spreads the layers of `model` over a mesh of one axis, in place.

    All processes must have the same weights: nothing is sent.

    Raises:
        ConfigError: the model's shape or family does not allow it.
    """
    require_divisible(model.config, mesh.size())
    for layer in model.model.layers:
        parallelize_module(layer, mesh, _plan(), src_data_rank=None)


def require_divisible(config: ModelConfig, size: int) -> None:
    """Refuses what `size` processes cannot share evenly.

    Raises:
        ConfigError: naming the setting, or the family that has no plan.
    """
    if any(map(config.is_sparse, range(config.num_hidden_layers))):
        raise ConfigError(
            f"parallel.tensor: expected 1 for the experts of `{config.model_type}`, "
            f"found {size}: no plan spreads them; use `parallel.shard`"
        )
    if config.family.qk_norm == "width":
        raise ConfigError(
            f"parallel.tensor: expected 1 for `{config.model_type}`, found {size}: it "
            "norms the queries of all heads together; use `parallel.shard`"
        )
    for name in ("num_attention_heads", "num_key_value_heads", "intermediate_size"):
        number = getattr(config, name)
        if number % size:
            raise ConfigError(
                f"parallel.tensor: expected a number that divides {name} = {number}, "
                f"found {size}"
            )


def sums_heads(name: str) -> bool:
    """Whether a parameter's gradient is a sum over the processes of a product.

    Those of the other parameters that are whole in every process are the same there.
    """
    return name.endswith(_HEAD_NORMS)


def _plan() -> dict[str, ParallelStyle]:
    plan: dict[str, ParallelStyle] = {
        # Once for the three (two) that read it: their gradients are summed together.
        "self_attn": _same_input(others=2),
        "mlp": _same_input(others=0),
    }
    plan |= {name: ColwiseParallel() for name in COLUMNS}
    return plan | {name: RowwiseParallel() for name in ROWS}


def _same_input(*, others: int) -> PrepareModuleInput:
    layouts = (Replicate(), *(None for _ in range(others)))
    return PrepareModuleInput(input_layouts=layouts, desired_input_layouts=layouts)
