"""The model of a run with guidance."""

from scoresde.control import ClassifierFree, GuidanceMethod, Guided, Projected
from scoresde.control.guidance import Label, condition_of, labelled
from scoresde.control.guided import Interval, require_interval
from scoresde.errors import refuse
from scoresde.model import Model
from scoresde.named import name_of
from scoresde.runs.run import Run


def guided(
    run: Run,
    label: Label = None,
    guidance: float = 1.0,
    interval: Interval = None,
    method: GuidanceMethod | None = None,
    guide: Run | None = None,
) -> Model:
    """The model to sample from; the weaker one is that without the label, or the guide.

    Args:
        run: what is guided.
        label: see `scoresde.Run.sample`.
        guidance: the scale.
        interval: see `scoresde.Guided`.
        method: likewise.
        guide: a weaker run, on data in the same units.

    Raises:
        InputError: what `Run.conditioned` refuses, a guide of other data, a method or interval without either, or a
            scale of 1 that does nothing.
    """
    idle = guidance == 1 and (method is None or type(method) in (ClassifierFree, Projected))
    given = "guide" if guide is not None else "guidance_interval" if interval is not None else ""
    refuse(idle and given != "", f"{given}: guidance=1 is the run itself, without it; give guidance=2")
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
    return f"Samples are drawn with label {label} and guidance {guidance:g}{by}."
