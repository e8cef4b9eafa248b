"""The model of a run with guidance."""

import math

from scoresde.control import ClassifierFree, ClassifierGuided, GuidanceMethod, Guided, Projected
from scoresde.control.guidance import Label, condition_of, labelled
from scoresde.control.guided import Interval, require_interval
from scoresde.errors import refuse, require
from scoresde.model import Model
from scoresde.named import name_of
from scoresde.runs.classifier import RunClassifier
from scoresde.runs.run import Run
from scoresde.sde import SDE

_ROUNDING = 1e-6


def guided(
    run: Run,
    label: Label = None,
    guidance: float = 1.0,
    interval: Interval = None,
    method: GuidanceMethod | None = None,
    guide: Run | None = None,
    classifier: RunClassifier | None = None,
) -> Model:
    """The model to sample from; the weaker one is that without the label, or the guide, or what a classifier leads.

    Args:
        run: what is guided.
        label: see `scoresde.Run.sample`.
        guidance: the scale.
        interval: see `scoresde.Guided`.
        method: likewise.
        guide: a weaker run, on data in the same units.
        classifier: of noisy data of the run, which leads samples to `label` as in `scoresde.ClassifierGuided`; the run
            is evaluated without a class.

    Raises:
        InputError: what `Run.conditioned` refuses, a guide or a classifier of other data, both of them, a method or
            interval without either, or a scale of 1 that does nothing.
    """
    idle = guidance == 1 and (method is None or type(method) in (ClassifierFree, Projected))
    given = "guide" if guide is not None else "guidance_interval" if interval is not None else ""
    refuse(idle and given != "", f"{given}: guidance=1 is the run itself, without it; give guidance=2")
    refuse(None not in (guide, classifier), "classifier: guide= leads away from another run; leave one of them out")
    if classifier is not None:
        return _classified(run, label, guidance, interval, method, classifier)
    if guide is None and interval is None and (method is None or type(method) is ClassifierFree):
        return run.conditioned(run.model, label, guidance)
    interval = None if interval is None else require_interval(interval, "guidance_interval")
    if guide is None:
        refuse(label is None, "label: null is not allowed; a method or an interval of guidance needs label= or guide=")
        labelled(run.model, label, guidance)  # which refuses what cannot be guided
        weak: Model = labelled(run.model, label, 0.0)
    else:
        other = guide.transform.to_dict() != run.transform.to_dict()
        refuse(other, f"guide: {guide.path} was trained on other data; give a run of the data of {run.path}")
        weak = guide.conditioned(guide.model, label if condition_of(guide.model) is not None else None)
    return Guided(run.conditioned(run.model, label), weak, guidance, interval, method)


def guided_by(label: Label, guidance: float, model: Model) -> str:
    """A sentence about how samples of a model were guided."""
    by = f" by {name_of('guidance_method', model.method)}" if isinstance(model, Guided) else ""
    own = model.classifier if isinstance(model, ClassifierGuided) else None
    led = f", led by the classifier {own.path}, step {own.step}" if isinstance(own, RunClassifier) else ""
    return f"Samples are drawn with label {label} and guidance {guidance:g}{by}{led}."


def _classified(
    run: Run,
    label: Label,
    guidance: float,
    interval: Interval,
    method: GuidanceMethod | None,
    classifier: RunClassifier,
) -> ClassifierGuided:
    """The model of a run, without a class, that a classifier leads to some."""
    known, own = condition_of(run.model), f"classifier: {classifier.path}"
    always = known is not None and known.kind == "class" and known.dropout == 0
    refuse(always, f"classifier: the network of {run.path} always needs a class; give a run that can do without")
    shapes = classifier.event_shape, run.event_shape
    refuse(shapes[0] != shapes[1], f"{own} is for items of shape {shapes[0]}, and those of {run.path} have {shapes[1]}")
    other = classifier.transform.to_dict() != run.transform.to_dict()
    refuse(other, f"{own} is for data in other units; train one with scoresde classifier run={run.path}")
    (least, most), (low, high) = _noises(classifier.model.sde), _noises(run.sde)
    seen = f"{own} has seen sigma / alpha from {least:.3g} to {most:.3g}, and {run.path} has {low:.3g} to {high:.3g}"
    inside = low >= least * (1 - _ROUNDING) and high <= most * (1 + _ROUNDING)
    refuse(not inside, f"{seen}; train one with scoresde classifier run={run.path}")
    n, labels = classifier.classes, label if isinstance(label, list) else [] if label is None else [label]
    fine = bool(labels) and all(0 <= one < n for one in labels)
    wanted = f"{classifier.path} knows the classes 0 to {n - 1}; give some, such as label=0 or label=[0,1]"
    require(fine, "label", label, wanted)
    interval = None if interval is None else require_interval(interval, "guidance_interval")
    return ClassifierGuided(run.model, classifier, labels, guidance, interval, method)


def _noises(sde: SDE) -> tuple[float, float]:
    """The lowest and the highest sigma / alpha of a path."""
    return math.exp(-sde.at(sde.t_min).lam), math.exp(-sde.at(sde.t_start).lam)
