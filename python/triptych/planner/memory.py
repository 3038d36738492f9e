"""Memory of training by part, from the model's shape alone.

Weights, gradients and optimiser are counted; what the backward pass needs is measured on
one layer of each kind and a short row, since it grows in proportion to tokens; the
workspace is what the loss and a layer's backward pass hold for a moment.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from triptych.commands.pretrain import PretrainConfig
from triptych.curriculum import StageConfig
from triptych.model.attention import Rotary, Tables
from triptych.model.config import ModelConfig
from triptych.model.recompute import kept_by_selective, layer_call
from triptych.model.transformer import Layer
from triptych.ops.chunked import CHUNK_TOKENS
from triptych.train.compiling import LEAST_STEPS
from triptych.train.measures import peak_memory_mib
from triptych.train.parallel import ParallelConfig
from triptych.train.precision import Precision

MIB = 2**20
FLOAT32 = 4
SHORT_ROW = 128  # tokens; long enough that what is shared by all tokens does not count
# Logits of a chunk of the loss, their exponentials, and their gradient.
LOSS_COPIES = 3


@dataclass(frozen=True, kw_only=True)
class Memory:
    """MiB by part, of one process of the run's grid.

    Attributes:
        weights: float32. gradients: float32, as long as a step lasts.
        gathered: whole weights and gradients of what is outside of layers and of the
            layers at hand, where the model is in shards.
        optimizer: moments; of Muon one for matrices, of AdamW two.
        average: of the weights, where the run keeps one.
        checkpoint: the copy that an asynchronous checkpoint is written from.
        activations: what the backward pass of one micro-batch needs.
        workspace: of the loss, and of a layer's backward pass.
        libraries: interpreter, torch and the rest; 0 on a GPU, whose memory has none.
        allocators: what they keep of what was freed, as far as it was measured.
    """

    weights: float
    gradients: float
    gathered: float
    optimizer: float
    average: float
    checkpoint: float
    activations: float
    workspace: float
    libraries: float
    allocators: float = 0.0

    @property
    def total(self) -> float:
        """All parts together, as they are when a backward pass begins."""
        return float(sum(getattr(self, field.name) for field in fields(self)))


def memory_by_part(
    settings: PretrainConfig,
    model: ModelConfig,
    *,
    precision: Precision,
    libraries_mib: float,
) -> Memory:
    """What a run of `settings` will hold at most, a micro-batch of its longest rows."""
    grid = settings.parallel
    held = held_numbers(model, grid)
    weights = FLOAT32 * held
    optimizer = _optimizer_bytes(settings, model) * held / model.num_parameters()
    copies = weights + optimizer + (weights if settings.average else 0)
    (tokens, length), _ = largest_stage(settings)
    tokens = -(-tokens // grid.context)
    part = part_of_products(model, grid.tensor)
    a_layer, all_layers = _activations(settings, part, precision, length)
    width = FLOAT32 * model.hidden_size
    # The last norm's input and output, and the hidden states that the loss reads.
    outside = 3 * width * tokens
    return Memory(
        weights=weights / MIB,
        gradients=weights / MIB,
        gathered=_gathered_bytes(model, grid, precision) / MIB,
        optimizer=optimizer / MIB,
        average=(weights if settings.average else 0) / MIB,
        checkpoint=(copies if settings.async_checkpoints else 0) / MIB,
        activations=(all_layers.of(tokens) + outside) / MIB,
        workspace=_workspace(model, tokens, a_layer.of(tokens)) / MIB,
        libraries=libraries_mib,
    )


def held_numbers(model: ModelConfig, grid: ParallelConfig) -> float:
    """Parameters that a process holds: products spread the layers, shards all."""
    outside = model.num_parameters() - _inside_layers(model)
    return (_inside_layers(model) / grid.tensor + outside) / grid.shard


def _inside_layers(model: ModelConfig) -> int:
    tables = 1 if model.tie_word_embeddings else 2
    outside = tables * model.vocab_size * model.hidden_size + model.hidden_size
    return model.num_parameters() - outside


def part_of_products(model: ModelConfig, tensor: int) -> ModelConfig:
    """The model whose layers are as wide as what a process computes of them.

    Raises:
        ConfigError: its shape or family does not allow it.
    """
    if tensor == 1:
        return model
    from triptych.train.tensor_parallel import require_divisible  # imports DTensor

    require_divisible(model, tensor)
    return dataclasses.replace(
        model,
        num_attention_heads=model.num_attention_heads // tensor,
        num_key_value_heads=model.num_key_value_heads // tensor,
        intermediate_size=model.intermediate_size // tensor,
    )


def _gathered_bytes(
    model: ModelConfig, grid: ParallelConfig, precision: Precision
) -> float:
    """What FSDP2 has whole: all outside of layers, and of layers this one and the next.

    Gradients are float32 until they are added up and cut.
    """
    if grid.shard == 1:
        return 0.0
    inside = _inside_layers(model)
    a_layer = inside / model.num_hidden_layers / grid.tensor
    sent = 2 * a_layer * torch.finfo(precision.dtype).bits / 8
    return sent + FLOAT32 * a_layer + 2 * FLOAT32 * (model.num_parameters() - inside)


def libraries_here(settings: PretrainConfig) -> float:
    """MiB that this process holds with all that a run imports, its shards open."""
    steps = sum(stage.num_steps for stage in settings.stages)
    compiles = settings.compile is True or (settings.compile and steps >= LEAST_STEPS)
    grid = settings.parallel
    meshed = grid.is_sharded or grid.context > 1
    if meshed:
        importlib.import_module("torch.distributed.fsdp")  # and DTensor: 45 MB
    if compiles or meshed:  # making a mesh imports it as well
        importlib.import_module("torch._dynamo")  # 110 MB
    if settings.tensorboard:
        with contextlib.suppress(ImportError):
            importlib.import_module("torch.utils.tensorboard")
    return peak_memory_mib(torch.device("cpu"))


def micro_batch(settings: PretrainConfig, rows: int, length: int) -> tuple[int, int]:
    """Tokens of a step of so many rows that are computed at once, and a row's length."""
    return min(rows, settings.micro_batch_rows) * length, length


def largest_stage(settings: PretrainConfig) -> tuple[tuple[int, int], StageConfig]:
    """The first stage that computes most at once, and what that is."""
    sizes = [
        micro_batch(settings, stage.rows_per_step, stage.seq_len or settings.seq_len)
        for stage in settings.stages
    ]
    most = max(sizes)
    return most, settings.stages[sizes.index(most)]


def _optimizer_bytes(settings: PretrainConfig, model: ModelConfig) -> int:
    """AdamW keeps two numbers a parameter, Muon one of those in layers' matrices."""
    total = model.num_parameters()
    if settings.optimizer.state_bits == 8:
        return round(2 * total * (1 + FLOAT32 / 256))  # a scale for 256 bytes
    if settings.optimizer.name != "muon":
        return 2 * FLOAT32 * total
    with torch.device("meta"):
        layers = [Layer(model, index) for index in range(model.num_hidden_layers)]
    matrices = sum(p.numel() for x in layers for p in x.parameters() if p.dim() > 1)
    return FLOAT32 * (2 * total - matrices)


def _workspace(model: ModelConfig, tokens: int, layer_bytes: float) -> float:
    """What is held for a moment beside the activations: by the loss, or by a layer.

    The loss has logits of a chunk, and the gradients of its two arguments; going back
    through a layer needs gradients of what it has kept.
    """
    chunk = LOSS_COPIES * FLOAT32 * min(CHUNK_TOKENS, tokens) * model.vocab_size
    head = FLOAT32 * model.vocab_size * model.hidden_size
    hidden = FLOAT32 * model.hidden_size * tokens
    return head + hidden + max(chunk, layer_bytes)


@dataclass(frozen=True)
class Kept:
    """Bytes that autograd holds: for each token, and whatever the number of tokens."""

    a_token: float = 0.0
    fixed: float = 0.0

    def of(self, tokens: int) -> float:
        """Bytes for so many tokens."""
        return self.a_token * tokens + self.fixed

    def __add__(self, other: Kept) -> Kept:
        """Both together."""
        return Kept(self.a_token + other.a_token, self.fixed + other.fixed)


def _activations(
    settings: PretrainConfig, model: ModelConfig, precision: Precision, length: int
) -> tuple[Kept, Kept]:
    """Of the layer that keeps most (before any is computed again), and of all."""
    found: dict[tuple[object, ...], tuple[Kept, Kept]] = {}
    largest, total = Kept(), Kept()
    for index in range(model.num_hidden_layers):
        kind = (model.window(index), model.turns(index), model.is_sparse(index))
        if kind not in found:
            modes = ("none", settings.recompute)
            one, other = (
                kept_by_layer(model, index, length, mode, precision) for mode in modes
            )
            found[kind] = one, other
        whole, kept = found[kind]
        largest = max(largest, whole, key=lambda x: x.of(length))
        total += kept
    return largest, total


def kept_by_layer(
    model: ModelConfig, index: int, length: int, recompute: str, precision: Precision
) -> Kept:
    """Measures one layer: its input and all that its backward pass needs."""
    window = model.window(index)
    square = model.attn_logit_softcapping is not None or (window or length) < length
    tokens = length if square else min(length, SHORT_ROW)
    layer = Layer(model, index)
    while any(tokens in p.shape for p in layer.parameters()):
        tokens -= 1  # so that no activation has the shape of a weight
    x = torch.randn(tokens, model.hidden_size, requires_grad=True)
    tables: Tables | None = None
    if model.turns(index):
        tables = Rotary(model.head_dim, model.rope_theta)(torch.arange(tokens))
    own = {p.untyped_storage().data_ptr() for p in layer.parameters()}
    own |= {t.untyped_storage().data_ptr() for t in tables or ()}
    shapes = {frozenset(p.shape) for p in layer.parameters() if p.dim() > 1}
    kept: dict[int, Tensor] = {x.untyped_storage().data_ptr(): x}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    # Two documents, the shorter one first: attention takes them longest first.
    ends = torch.tensor([0, tokens // 4, tokens], dtype=torch.int32)
    with _seen(pack, recompute), precision.autocast():
        layer_call(recompute)(layer, x, tables, ends)
    # Autocast's copies of weights are there once, however many tokens.
    copies = [y for y in kept.values() if y.dim() == 2 and frozenset(y.shape) in shapes]
    fixed = sum(y.untyped_storage().nbytes() for y in copies)
    every = sum(y.untyped_storage().nbytes() for y in kept.values())
    return Kept((every - fixed) / tokens, fixed)


@contextlib.contextmanager
def _seen(pack: Callable[[Tensor], Tensor], recompute: str) -> Iterator[None]:
    """Shows `pack` all that is kept for the backward pass.

    What `selective` keeps it keeps outside the graph: hooks of saved tensors do not see
    it (and torch 2.15 warns that they will), so the operators' results are looked at.
    """
    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda y: y)
    results = _Results(pack) if recompute == "selective" else contextlib.nullcontext()
    with warnings.catch_warnings(), hooks, results:
        warnings.filterwarnings("ignore", "A saved_tensors_hooks", FutureWarning)
        yield


class _Results(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's hook
    """Shows `pack` the results of the operators that `selective` keeps."""

    def __init__(self, pack: Callable[[Tensor], Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.pack = pack

    def __torch_dispatch__(
        self, func: Any, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Computes as if the mode were not there."""
        results = func(*args, **(kwargs or {}))
        if kept_by_selective(func):
            tree_map_only(Tensor, self.pack, results)
        return results
