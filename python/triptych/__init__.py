"""triptych: raw text to an aligned chat model, in three panels.

Names are imported when they are first used: `import triptych` alone loads neither
torch nor the engine. Preparation needs nothing more; training needs the extra `train`.
"""

from __future__ import annotations

import importlib
from typing import Any

# Public name -> module that has it. `a:b` means b there under another name here.
_NAMES = {
    "ConfigError": "triptych.errors",
    "InputError": "triptych.errors",
    "IntegrityError": "triptych.errors",
    "InternalError": "triptych.errors",
    "Interrupted": "triptych.errors",
    "ResourceError": "triptych.errors",
    "RuleError": "triptych.errors",
    "TextPreprocessor": "triptych._core",
    "Tokenizer": "triptych._core",
    "train_tokenizer": "triptych.tokens",
    "measure_fertility": "triptych.tokens",
    "import_tokens": "triptych.tokens",
    "export_tokens": "triptych.tokens",
    "local_shards": "triptych.tokens",
    "Order": "triptych._core",
    "TrainingStage": "triptych.curriculum",
    "StageConfig": "triptych.curriculum",
    "CURRICULUM": "triptych.curriculum",
    "get_curriculum_lr": "triptych.curriculum",
    "chinchilla_loss": "triptych.scaling",
    "compute_language_model_loss": "triptych.founding",
    "MixedPrecisionTrainer": "triptych.founding",
    "FlashAttentionBlock": "triptych.founding",
    "create_optimizer_and_scheduler": "triptych.founding",
    "PreTrainingConfig": "triptych.founding",
    "pretrain_step": "triptych.founding",
    "load_model": "triptych.language_model",
    "demo": "triptych.commands.demo",
    "pretrain": "triptych.commands.pretrain",
    "plan": "triptych.commands.plan",
    "ladder": "triptych.commands.ladder",
    "sft": "triptych.commands.sft",
    "dpo": "triptych.commands.dpo",
    "average": "triptych.commands.average",
    "eval": "triptych.commands.eval:evaluate",
    "generate": "triptych.commands.generate",
    "chat": "triptych.commands.chat",
    "export": "triptych.commands.export",
    "import_model": "triptych.commands.import_model",
    "inspect": "triptych.commands.inspect",
    "verify": "triptych.commands.verify",
    "report": "triptych.commands.report",
    "doctor": "triptych.commands.doctor",
    # What these functions take.
    "DemoConfig": "triptych.commands.demo",
    "PretrainConfig": "triptych.commands.pretrain",
    "Machine": "triptych.planner",
    "SftConfig": "triptych.commands.sft",
    "DpoConfig": "triptych.commands.dpo",
    "AverageRunConfig": "triptych.commands.average",
    "EvalConfig": "triptych.commands.eval",
    "GenerateConfig": "triptych.commands.generate",
    "ChatConfig": "triptych.commands.chat",
    "ExportConfig": "triptych.commands.export",
    "ImportConfig": "triptych.commands.import_model",
    "InspectConfig": "triptych.commands.inspect",
    "VerifyConfig": "triptych.commands.verify",
    "ReportConfig": "triptych.commands.report",
    "DoctorConfig": "triptych.commands.doctor",
}

__all__ = ["__version__", "prep", *_NAMES]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used (PEP 562)."""
    if name == "__version__":
        from triptych._core import __version__

        return __version__
    if name == "prep":
        return importlib.import_module("triptych.prep")
    if name not in _NAMES:
        raise AttributeError(f"module 'triptych' has no attribute {name!r}")
    module, _, attribute = _NAMES[name].partition(":")
    value = getattr(importlib.import_module(module), attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
