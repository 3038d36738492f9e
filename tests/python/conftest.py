"""What several tests share: a tokenizer, a tiny model, folders of both."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

TEXTS = [
    "The house stood on a hill, and the road to it was long.",
    "one latte please, with oat milk and no sugar",
    "ok, then you can pick up your drink over at the bar in a few minutes.",
    "Straße, naïve café, 日本語のテキスト, русский текст, 1234567890",
] * 20


@pytest.fixture(scope="session")
def tokenizer_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from triptych import train_tokenizer

    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train_tokenizer(TEXTS, 384).save(str(path))
    return path


@pytest.fixture(scope="session")
def tokenizer(tokenizer_path: Path):
    from triptych import Tokenizer

    return Tokenizer.from_file(str(tokenizer_path))


@pytest.fixture
def tiny_model(tokenizer):
    from triptych.model.shape import ModelShape

    shape = ModelShape(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=128,
    )
    return shape.build(tokenizer, seed=0)


@pytest.fixture
def model_folder(tiny_model, tokenizer_path: Path, tmp_path: Path) -> Path:
    from triptych.conversation import CHAT_TEMPLATE
    from triptych.model.huggingface import export

    export(tiny_model, tmp_path / "model", tokenizer_path, CHAT_TEMPLATE)
    return tmp_path / "model"


@pytest.fixture(scope="module")
def one_thread():
    """Tiny products: a second thread costs more than it computes."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, not to be changed."""
    from tiny import TinyData, tiny_model, tiny_train_config
    from triptych.train import PretrainObjective, Trainer

    output = tmp_path_factory.mktemp("run")
    config = tiny_train_config(output)
    Trainer(tiny_model(), PretrainObjective(), TinyData(), config).run()
    return output


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, to be damaged."""
    return shutil.copytree(finished, tmp_path / "run")
