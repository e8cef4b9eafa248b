from scoresde.loggers.logger import Logger as Logger
from scoresde.loggers.logger import Loggers as Loggers
from scoresde.loggers.logger import NoLogger as NoLogger
from scoresde.loggers.metrics_file import METRICS as METRICS
from scoresde.loggers.metrics_file import MetricsFile as MetricsFile
from scoresde.loggers.metrics_file import step_of as step_of
from scoresde.loggers.wandb_logger import WandbLogger as WandbLogger

__all__: list[str]
