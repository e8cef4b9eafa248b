from scoresde.results.interval import Interval as Interval
from scoresde.results.interval import paired as paired
from scoresde.results.interval import student as student
from scoresde.results.metric import Measurement as Measurement
from scoresde.results.metric import Metric as Metric
from scoresde.results.metric import Needs as Needs
from scoresde.results.metric import Quantity as Quantity
from scoresde.results.metric import Scorer as Scorer
from scoresde.results.model_metric import ModelMetric as ModelMetric
from scoresde.results.results import Results as Results
from scoresde.results.rows import Row as Row

__all__: list[str]
