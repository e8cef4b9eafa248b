"""A small generative adversarial network, as a contrast to diffusion on the same data for the same time."""

import math
import time
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.optim import Adam
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from scoresde.data import Dataset


def _perceptron(sizes: Sequence[int], activation: nn.Module) -> nn.Sequential:
    layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), activation)]
    return nn.Sequential(*layers[:-1])


def _networks(shape: tuple[int, ...], latent: int, width: int) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator: perceptrons for vectors, those of DCGAN for images whose sides are even."""
    if len(shape) == 1:
        first, last = (latent, width, width, width, *shape), (*shape, width, width, width, 1)
        return _perceptron(first, nn.ReLU()), _perceptron(last, nn.LeakyReLU(0.2))
    channels, height, columns = shape
    coarse = (2 * width, height // 2, columns // 2)
    size = coarse[0] * coarse[1] * coarse[2]
    generator = nn.Sequential(
        nn.Linear(latent, size, bias=False), nn.BatchNorm1d(size), nn.ReLU(), nn.Unflatten(1, coarse),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, channels, 3, padding=1), nn.Tanh(),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1), nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Flatten(), nn.Linear(size, 1),
    )  # fmt: skip
    return generator, discriminator


class GAN:
    """A generator trained against a discriminator on the training items of a data set.

        D minimises softplus(-D(x)) + softplus(D(G(z))) + gamma/2 |grad D(x)|^2,   G minimises softplus(-D(G(z)))

    The non-saturating loss of Goodfellow et al. (arXiv 1406.2661); gamma = 0 is that alone, and gamma > 0 adds the
    penalty R1 of Mescheder et al. (arXiv 1801.04406). Adam with betas 0.5 and 0.999, as in DCGAN (arXiv 1511.06434).

    Args:
        dataset: the data.
        seconds: of CPU time to train for.
        seed: decides everything random.
        rate: the learning rate.
        gamma: weight of the penalty.
        batch: items in a step.
        latent: numbers that an item is made of.
        width: of the networks.

    Attributes:
        steps: of training.
    """

    def __init__(
        self, dataset: Dataset, seconds: float, seed: int, rate: float = 1e-3, gamma: float = 0.0,
        batch: int = 128, latent: int = 64, width: int = 64,
    ) -> None:  # fmt: skip
        torch.manual_seed(seed)
        self.latent, self.steps, self.batch, self.gamma = latent, 0, batch, gamma
        self.generator, self.discriminator = _networks(dataset.event_shape, latent, width)
        self.average = AveragedModel(self.generator, multi_avg_fn=get_ema_multi_avg_fn(0.999), use_buffers=True)
        adams = [Adam(part.parameters(), rate, (0.5, 0.999)) for part in (self.generator, self.discriminator)]
        items, start = dataset.train, time.process_time()
        while (now := (time.process_time() - start) / seconds) < 1:
            for adam in adams:  # the cosine that the diffusion model has
                adam.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * now)) / 2
            self._step(items[torch.randint(len(items), (batch,))], *adams)
            self.average.update_parameters(self.generator)
            self.steps += 1

    def _step(self, x: Tensor, of_generator: Adam, of_discriminator: Adam) -> None:
        z = torch.randn(2, self.batch, self.latent)
        x.requires_grad_(self.gamma > 0)
        real, fake = self.discriminator(x), self.discriminator(self.generator(z[0]).detach())
        loss = (softplus(-real) + softplus(fake)).mean()
        if self.gamma > 0:
            (gradient,) = torch.autograd.grad(real.sum(), x, create_graph=True)
            loss = loss + self.gamma / 2 * gradient.flatten(1).square().sum(1).mean()
        of_discriminator.zero_grad()
        loss.backward()
        of_discriminator.step()
        of_generator.zero_grad()
        softplus(-self.discriminator(self.generator(z[1]))).mean().backward()
        of_generator.step()

    @torch.no_grad()
    def sample(self, n: int, seed: int) -> Tensor:
        """n samples (n, *event) in model units, of the averaged generator."""
        z = torch.randn(n, self.latent, generator=torch.Generator().manual_seed(seed))
        self.average.eval()
        return torch.cat([self.average(part) for part in z.split(1000)])
