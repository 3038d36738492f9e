"""A model and data small enough that a training step takes milliseconds."""

import torch

from triptych.model import ModelConfig, Transformer
from triptych.model.transformer import positions_of
from triptych.train import Batch, StageSchedule, TrainConfig

VOCAB_SIZE = 97


def tiny_config(**changes):
    shape = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    }
    return ModelConfig.from_dict({**shape, **changes})


def tiny_model(seed=0, **changes):
    torch.manual_seed(seed)
    return Transformer(tiny_config(**changes))


def packed(documents, masks=None, first_document=0):
    """Documents (lists of ids) as one batch, one segment each."""
    ids, labels = [], []
    for index, document in enumerate(documents):
        mask = [1] * len(document) if masks is None else masks[index]
        ids += document
        labels += [
            t if m else -100 for t, m in zip(document[1:], mask[1:], strict=True)
        ]
        labels.append(-100)
    lengths = torch.tensor([0] + [len(document) for document in documents])
    cu_seqlens = lengths.cumsum(0).int()
    return Batch(
        input_ids=torch.tensor(ids),
        labels=torch.tensor(labels),
        position_ids=positions_of(cu_seqlens),
        weights=(torch.tensor(labels) != -100).float(),
        cu_seqlens=cu_seqlens,
        documents=torch.arange(first_document, first_document + len(documents)),
        sources=torch.zeros(len(documents), dtype=torch.int32),
    )


class TinyData:
    """Rows of one unit each, drawn by a generator seeded with the step.

    A unit is a document or, with `documents_per_unit=2`, a preference pair whose
    first third is a shared prompt. With `fresh=False` every step is the same.
    """

    def __init__(self, steps=10, rows=4, documents_per_unit=1, fresh=True):
        self.num_steps, self.rows = steps, rows
        self.documents_per_unit, self.fresh = documents_per_unit, fresh

    def rows_per_step(self, step):
        return self.rows

    def step_hash(self, step):
        return f"{step} of {self.num_steps}, {self.rows} rows"

    def batch(self, step, first_row=0, num_rows=None):
        end = self.rows if num_rows is None else first_row + num_rows
        start = step * self.rows if self.fresh else 0
        units = [self._unit(start + row) for row in range(first_row, end)]
        documents = [document for unit in units for document in unit]
        masks = [[i >= len(d) // 3 for i in range(len(d))] for d in documents]
        per_unit = self.documents_per_unit
        return packed(
            documents,
            masks if per_unit == 2 else None,
            first_document=(start + first_row) * per_unit,
        )

    def _unit(self, row):
        generator = torch.Generator().manual_seed(row)
        length = 9 + row % 5
        prompt = torch.randint(3, VOCAB_SIZE, (length // 3,), generator=generator)
        shape = (self.documents_per_unit, length - length // 3)
        replies = torch.randint(3, VOCAB_SIZE, shape, generator=generator)
        return [[*prompt.tolist(), *reply.tolist()] for reply in replies]


def tiny_train_config(output, steps=10, **changes):
    stages = [
        StageSchedule(name="first", steps=steps - 4, max_lr=1e-2, warmup_steps=2),
        StageSchedule(name="second", steps=4, max_lr=5e-3, schedule="wsd"),
    ]
    settings = {
        "output": output,
        "stages": stages,
        "micro_batch_rows": 3,
        "checkpoint_every_steps": 3,
        "precision": "fp32",
        "tensorboard": False,
    }
    return TrainConfig(**{**settings, **changes})


def same_weights(one, other):
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)
