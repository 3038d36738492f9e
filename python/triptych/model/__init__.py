"""The decoder-only transformer of the Llama and Qwen3 families, and its files."""

from triptych.model.cache import KVCache
from triptych.model.config import ModelConfig
from triptych.model.transformer import Transformer

__all__ = ["KVCache", "ModelConfig", "Transformer"]
