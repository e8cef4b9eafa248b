"""`scoresde.train`: a run from an array, a tensor, a data set or a folder."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from scoresde import runs
from scoresde.build import MEASURED, TARGET, build, resolve
from scoresde.data import Array, ArrayFile, Dataset, ImageFolder, SavedDataset
from scoresde.described import describe
from scoresde.errors import did_you_mean, refuse, require
from scoresde.files import of_the_disk, writing
from scoresde.loggers import Logger, NoLogger
from scoresde.loss import Loss
from scoresde.model import NetworkModel
from scoresde.named import option, options
from scoresde.parallel import world
from scoresde.runs import Run
from scoresde.runs.config import leaves
from scoresde.sampling import Sampler
from scoresde.sde import SDE
from scoresde.training import Trainer
from scoresde.training import checkpoint as checkpoints
from scoresde.workflows.job import prepare

_MOST_KEPT = 2**30  # bytes of training items in float32, above which a run keeps no copy of them
_FIXED = ("sde", "model", "loss", "seed")  # of a run that is resumed
_LEVELS = (1, 2, 2, 2)  # width of each level of the U-Net in units of its finest


@of_the_disk()
def train(
    data: Any,
    *,
    sde: str | SDE = "vp",
    model: str | nn.Module | None = None,
    loss: str | Loss[Any] | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    lr: float = 2e-3,
    optimizer: Callable[[list[nn.Parameter]], Optimizer] | None = None,
    trainer: Trainer | None = None,
    labels: Any = None,
    metrics: str | Mapping[str, Any] = "standard",
    samplers: Mapping[str, Sampler] | None = None,
    n: int = 500,
    run: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    logger: Logger | None = None,
    callbacks: Sequence[tuple[int, Callable[[Any], object]]] = (),
) -> Run:
    """Train a score model and draw samples from it; everything is kept in a run folder, as by `scoresde train`.

        run = scoresde.train(images, steps=2000)
        run.sample(64, steps=20)

    Args:
        data: an array, a tensor, a list, or a map-style data set of torch, see `scoresde.data.Array`; a folder of
            images, or a .npy, .npz or .csv file; a source such as `scoresde.data.ImageFolder("photos", size=32)`, a
            name of conf/data, or a `Dataset`.
        sde: the path from data to noise, or a name of conf/sde.
        model: a network called as net(x, c), a `ScoreModel` or a chain, or a name of conf/model. None: a residual
            MLP for vectors, a U-Net for everything else.
        loss: what is minimized, or a name of conf/loss. None: that of the model, `edm`, or the bound of a chain.
        steps: of training; that of `trainer` by default, 3500.
        batch_size: of training; that of `trainer` by default, 128.
        lr: largest learning rate of Adam.
        optimizer: in place of Adam: a function of the parameters, such as `lambda p: torch.optim.SGD(p, lr=0.1)`.
        trainer: all other settings of the training.
        labels: the class of each item of an array, counted from 0; the network is then conditioned on the class.
        metrics: of the final samples, or a name of conf/metrics.
        samplers: for the final samples, by name; None for 20 steps of the default solver.
        n: number of final samples of each sampler.
        run: the folder; None makes a new one in runs/. A folder that holds a run is resumed at its last checkpoint.
        seed: decides everything random.
        device: `auto` (CUDA if there is one), `cpu`, `cuda` or `cuda:1`.
        logger: where logged values go besides <run>/metrics.jsonl.
        callbacks: pairs (k, function): after every k-th step the function is called with a
            `scoresde.training.Progress`.

    Raises:
        InputError: one line that names what cannot be used.
        TrainingDiverged: a loss, gradient or weight is not finite.
    """
    trainer = _trainer(trainer or Trainer(), steps, batch_size)
    alone = trainer.devices > world().size
    refuse(alone, f"devices: {trainer.devices} processes are those of `scoresde train`; start this script by torchrun")
    require(n >= 1, "n", n, "give an integer >= 1")
    source = source_of(data, labels)
    dataset: Dataset = source.load()
    own = model if isinstance(model, NetworkModel) else _model(model, dataset)
    kind: Any = type(own) if isinstance(own, NetworkModel) else resolve(own[TARGET])
    parts = {"sde": sde, "loss": loss or kind.usual_loss, "metrics": metrics}
    cfg: dict[str, Any] = {"seed": seed, "device": device, "init": None, "allow": [], "n": n, "data": dataset}
    cfg |= {key: option(key, part) if isinstance(part, str) else part for key, part in parts.items()}
    cfg |= {"optimizer": {**option("optimizer", "adam"), "lr": lr}, "trainer": trainer, "logger": logger or NoLogger()}
    cfg["samplers"] = {"auto": Sampler(steps=20)} if samplers is None else dict(samplers)
    cfg |= {"model": own} if isinstance(own, dict) else {"model": own, "sde": own.sde}
    return _run(cfg, source, optimizer, run, callbacks)


def _trainer(trainer: Trainer, steps: int | None, batch_size: int | None) -> Trainer:
    """The trainer with some of its settings changed."""
    refuse(not isinstance(trainer, Trainer), f"trainer: {trainer!r} is not a Trainer")
    changes = {"steps": steps, "batch_size": batch_size}
    changed: Trainer = build({**describe(trainer), **{k: v for k, v in changes.items() if v is not None}})
    return changed


def _run(cfg: dict[str, Any], source: Any, optimizer: Any, run: str | Path | None, callbacks: Any) -> Run:
    """Make or find the folder, and train in it."""
    start, folder = None, None if run is None else Path(run)
    if folder is not None and runs.holds_run(folder) and checkpoints.saved_steps(folder):
        start = checkpoints.read(checkpoints.newest(folder))
    job = prepare(cfg, (), start, folder, optimizer)
    in_memory = isinstance(source, Dataset | Array)
    job.keep_data = in_memory and job.dataset.items.nbytes <= _MOST_KEPT
    job.config["data"] = describe(SavedDataset() if in_memory else source, "data")
    if folder is not None and start is not None:
        _check_same(folder, job.config)
    name = f"{runs.timestamp()}-{type(job.model.sde).__name__.lower()}"
    with writing(folder or Path("runs"), "run"):
        if world().first:
            folder = folder or runs.new_folder(Path("runs"), name)
        folder = Path(world().share(str(folder)))
        folder.mkdir(parents=True, exist_ok=True)
    with runs.locked(folder):
        result, _ = job.run(folder, checkpoint=start, callbacks=callbacks)
    transform = job.dataset.transform
    return Run(folder, result.ema, transform, tuple(transform.event_shape), job.config, result.step)


def _check_same(folder: Path, cfg: Mapping[str, Any]) -> None:
    """Raise unless the run in a folder was made with the same settings, so that it can be resumed."""
    stored, now = (dict(leaves({key: c.get(key) for key in _FIXED})) for c in (runs.read_config(folder), cfg))
    for key in now:
        before = stored.get(key)
        made = f"{folder} was made with {before!r}, not {now[key]!r}"
        refuse(before != now[key], f"{key}: {made}; give another folder")


def source_of(data: Any, labels: Any = None) -> Any:
    """The source of data that `train` was given: an object with a method `load`."""
    if hasattr(data, "load"):
        refuse(labels is not None, "labels: these data bring their own; leave it out")
        return data
    if not isinstance(data, str | Path):
        return Array(data, labels=labels)
    path = Path(data).expanduser()
    if path.exists():
        return ImageFolder(str(path)) if path.is_dir() else ArrayFile(str(path))
    known = options("data")
    near = f"{did_you_mean(str(data), known)} (names: {', '.join(known)})"
    refuse(str(data) not in known, f"data: {str(data)!r} is no folder, file or name of data{near}")
    return build(option("data", str(data)), "data")


def _model(model: str | nn.Module | None, dataset: Dataset) -> dict[str, Any]:
    """The configuration of a model around a network, or of a named one, or of one that fits the data."""
    if isinstance(model, nn.Module):
        return {TARGET: "scoresde.ScoreModel", "net": model, "precond": "edm", "sigma_data": MEASURED}
    vector = len(dataset.event_shape) == 1
    cfg = option("model", model or ("mlp" if vector else "unet"))
    net = cfg["net"]
    if dataset.labels is not None:
        net["condition"] = net.get("condition") or "class"
    if model is None and not vector:
        side = min(dataset.event_shape[1:])
        net["multipliers"] = list(_LEVELS[: min(max(side.bit_length() - 2, 1), len(_LEVELS))])
    return cfg
