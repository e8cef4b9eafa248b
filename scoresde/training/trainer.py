"""The one call that runs a training."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import nn

from scoresde import parallel
from scoresde.data.dataset import Dataset
from scoresde.errors import refuse
from scoresde.loggers import Logger, NoLogger
from scoresde.loss import DenoisingScoreMatching, Loss
from scoresde.model import device_of
from scoresde.training import checkpoint as checkpoints
from scoresde.training.acceleration import repeatable
from scoresde.training.checkpoint import Checkpoint
from scoresde.training.job import Callback, Direction, Evaluate, FitResult
from scoresde.training.loop import Loop
from scoresde.training.settings import Settings
from scoresde.training.stop import stop_signals

M = TypeVar("M", bound=nn.Module)


class Trainer(Settings):
    """Trains a model by stochastic gradient descent.

    Everything about step k is a function of (seed, k) and of the state of model, averages, optimizer and loss, so a
    training that was stopped or killed and resumes from a checkpoint ends, on the CPU, in bit-identical weights (but
    see `strategy`).

        Trainer(steps=2000).fit(model, dataset)

    Args:
        steps: training steps in all, those before a resume included.
        batch_size: items in a step.
        ema: decay of the average of the weights, see `Ema`; of several, the first is evaluated and sampled from.
        clip: largest norm of the gradient; 0 turns clipping off.
        warmup: steps over which the learning rate rises to that of the optimizer.
        schedule: `cosine` decreases it to zero at the end, `constant` keeps it.
        log_every: steps between logs.
        evaluate_every: steps between evaluations on held-out data; 0 evaluates at the end only.
        checkpoint_every: steps between checkpoints; 0 saves at the end only, and whenever an evaluation is the best.
        keep_last: number of the newest checkpoints to keep; the best one is always kept.
        monitor: the metric that decides which checkpoint is the best: heldout_loss, or any key that the `evaluate`
            function of `fit` returns.
        ema_power: lengths of power-function averages, see `PowerAverage`; two, such as [0.05, 0.1], allow an average of
            any length to be made after the training, with `scoresde ema`.
        snapshot_every: steps between the snapshots of those averages that are kept for that; 0 keeps none.
        precision: arithmetic of the network: `float32`, `bf16`, `fp16` with scaled gradients, or `auto`, which is bf16
            on CUDA devices with fast bfloat16 and float32 elsewhere. Weights, averages, optimizer state and loss are
            always float32.
        micro_batch: items in one pass through the network, to save memory; must divide `batch_size`. The gradient is
            that of the whole batch. None: all of them.
        compile: compile the network with torch.compile; if that fails, a line says so and training continues without.
        channels_last: store weights and images in the channels-last memory format.
        checkpoint_activations: save memory by recomputing the inside of residual blocks in the backward pass.
        profile: write the time of each part of a step to profile.json, and print it.
        augment: probability of each change of `scoresde.data.Augmentation` (0.12 in its paper); 0 turns it off. Needs
            images, and a network with the condition `augment`, a vector of size 9, without dropout.
        dequantise: spread each item uniformly over the cells of its levels, at every use again and held-out ones once,
            so that there is a density to learn: for likelihoods of images.
        restart: step from which the schedule begins again, with its warm-up: what a finished training that gets more
            `steps` had before.
        picture_every: steps between pictures of samples that `scoresde.train` draws; 0 draws none.
        deterministic: use only algorithms of torch that give the same bits each time, also on CUDA; slower there.
        devices: processes that `scoresde train` starts on this machine, one for each CUDA device or processor core, a
            power of two; the bits of the training do not depend on it. Under torchrun or srun their number counts.
        strategy: how several processes sum gradients: `exact` in one order, so that the bits do not depend on their
            number, or `ddp` by DistributedDataParallel, during the backward pass, rounded differently on another number
            of processes and after a resume. `fsdp` rounds likewise, and cuts weights, gradients, averages and the state
            of the optimizer over the processes (FSDP2). A resume may change it. One process has none.
        auto_check: samples that show at the end of `scoresde.train` how many evaluations `Auto` needs; 0 leaves
            out this and the pilots for its grids.

    Raises:
        InputError: a number out of range.
    """

    def fit(
        self,
        model: M,
        dataset: Dataset,
        *,
        loss: Loss[M] | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        run: str | Path | None = None,
        seed: int = 0,
        logger: Logger | None = None,
        checkpoint: Checkpoint | None = None,
        evaluate: Evaluate[M] | None = None,
        direction: Direction = "lower",
        callbacks: Sequence[tuple[int, Callback[M]]] = (),
        state: dict[str, Any] | None = None,
        begin: Callable[[], object] | None = None,
        picture: Callable[[M, int], object] | None = None,
    ) -> FitResult[M]:
        """Train `model` in place, up to step `steps`.

        Args:
            model: a `ScoreModel`, or whatever the loss takes, on its device; afterwards it holds the raw weights.
            dataset: training and held-out items.
            loss: what is minimized; None for `DenoisingScoreMatching` with the weight of EDM.
            optimizer: over the parameters of `model`; its learning rate is the base of the schedule. None for Adam
                with a learning rate of 0.002.
            run: folder for the checkpoints; None keeps none.
            seed: with the number of the step, decides every random number. Global generators end as they were.
            logger: receives every logged value; already started. None logs nothing.
            checkpoint: where to resume. Settings (learning rate, batch size, ...) are those given here.
            evaluate: called as evaluate(averaged model, step) at every evaluation, in each process; the values that it
                returns in the first one are logged.
            direction: whether a `lower` or a `higher` value of `monitor` is better.
            callbacks: pairs (k, function): after every k-th step the function is called with a `Progress`.
            state: more to store in state.json.
            begin: called once, when all is checked and nothing is written yet.
            picture: called as picture(averaged model, step) after every `picture_every` steps.

        Raises:
            InputError: the run folder has checkpoints but none is given, the checkpoint does not fit, the network
                takes a condition that the data does not have, no value is called `monitor`, or a checkpoint cannot be
                written.
            TrainingDiverged: a loss, gradient or weight is not finite.
            Interrupted: SIGINT, SIGTERM, SIGHUP, SIGUSR1 or SIGUSR2 arrived; everything is saved.
            KeyboardInterrupt: SIGINT arrived again.
        """
        folder, device = None if run is None else Path(run), device_of(model)
        used = checkpoint is None and folder is not None and bool(checkpoints.saved_steps(folder))
        refuse(used, f"run: {folder} already holds checkpoints; resume from one of them or give another folder")
        loss = cast(Loss[M], DenoisingScoreMatching("edm", "log_normal")) if loss is None else loss
        optimizer = optimizer or torch.optim.Adam(model.parameters(), lr=2e-3, fused=True)
        logger, training, world = logger or NoLogger(), model.training, parallel.world()
        if not world.first:  # it works with the first one, which writes
            folder, logger, begin = None, NoLogger(), None
        # the global generators of torch belong to the caller
        generators = torch.random.fork_rng([device] if device.type == "cuda" else [])
        with generators, stop_signals() as signals, repeatable(self.deterministic):
            loop = Loop(
                self, model, dataset, loss, optimizer, folder, seed, logger, checkpoint, evaluate, direction, callbacks,
                state or {}, begin, picture, world,
            )  # fmt: skip
            try:
                return loop(signals)
            finally:
                loop.step.set_rate(1.0)  # so that the optimizer can be used again
                model.train(training)
