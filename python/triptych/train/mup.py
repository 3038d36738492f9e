"""muP: first weights and rates under which the best rate stays as a model gets wider.

Yang et al. 2022 (Tensor Programs V), table 3, told relative to a base width, at which it
changes nothing. Since 1 / head_dim instead of its root differs from it by a constant as
long as heads keep their size and their number grows, attention is left as it is: so the
model is an ordinary one, for export too.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from triptych.model.transformer import Transformer
from triptych.train.optimizer import OptimizerConfig


@torch.no_grad()
def narrow_start(model: Transformer, base_width: int) -> None:
    """Scales the drawn weights of a model that is not trained, in place.

    Matrices inside layers by the root of `base_width` over the width, the output matrix
    by that itself; embeddings stay.

    The output matrix must not be the embedding, for it would shrink as well.
    """
    assert not model.config.tie_word_embeddings
    share = base_width / model.config.hidden_size
    for parameter in model.model.layers.parameters():
        if parameter.dim() > 1:
            parameter.mul_(share**0.5)
    model.output_weight.mul_(share)


def narrow_rates(
    config: OptimizerConfig, width: int, base_width: int
) -> OptimizerConfig:
    """The same optimiser with rates for `width`, where `config` has those of the base.

    AdamW's rates of layers' matrices and of the output matrix shrink with width. Muon's
    `spectral` convention does not depend on width; `rms` grows with its root.
    """
    share = base_width / width
    matrix = {"muon spectral": 1.0, "muon rms": share**0.5}.get(
        f"{config.name} {config.lr_convention}", share
    )
    other = config.other_lr_ratio if config.name == "muon" else 1.0
    return replace(
        config,
        matrix_lr_ratio=config.matrix_lr_ratio * matrix,
        head_lr_ratio=(config.head_lr_ratio or other) * share,
    )
