"""Training: one loop, one objective a file, data as a pure function of the step."""

from triptych.errors import TrainingDiverged
from triptych.train.averaging import AverageConfig
from triptych.train.batch import Batch, DataSource
from triptych.train.dpo import DpoObjective, ReferenceLogps, reference_logps
from triptych.train.early_exit import StageExit
from triptych.train.elastic import ElasticTrainer, trainer_for
from triptych.train.objective import LossSum, Objective
from triptych.train.optimizer import OptimizerConfig
from triptych.train.pretrain import PretrainObjective
from triptych.train.router_balance import RouterBalance
from triptych.train.schedule import StageSchedule
from triptych.train.sft import SftObjective
from triptych.train.tracking import TrackingConfig
from triptych.train.train_config import TrainConfig, TrainResult
from triptych.train.trainer import Trainer

__all__ = [
    "AverageConfig",
    "Batch",
    "DataSource",
    "DpoObjective",
    "ElasticTrainer",
    "LossSum",
    "Objective",
    "OptimizerConfig",
    "PretrainObjective",
    "ReferenceLogps",
    "RouterBalance",
    "SftObjective",
    "StageExit",
    "StageSchedule",
    "TrackingConfig",
    "TrainConfig",
    "TrainResult",
    "Trainer",
    "TrainingDiverged",
    "reference_logps",
    "trainer_for",
]
