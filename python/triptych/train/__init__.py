"""Training: one loop, one objective a file, data as a pure function of the step."""

from triptych.train.batch import Batch, DataSource
from triptych.train.objective import LossSum, Objective
from triptych.train.optimizer import OptimizerConfig
from triptych.train.pretrain import PretrainObjective
from triptych.train.schedule import StageSchedule
from triptych.train.trainer import TrainConfig, Trainer, TrainingDiverged, TrainResult

__all__ = [
    "Batch",
    "DataSource",
    "LossSum",
    "Objective",
    "OptimizerConfig",
    "PretrainObjective",
    "StageSchedule",
    "TrainConfig",
    "TrainResult",
    "Trainer",
    "TrainingDiverged",
]
