"""A network that classifies noisy data."""

import torch
from torch import Tensor, nn

from scoresde._shapes import Coefficient
from scoresde.constraints import Checked, Positive
from scoresde.errors import InputError, require
from scoresde.model import device_of, evaluated
from scoresde.precond import coefficients
from scoresde.sde import SDE, half_log_snr


class NetworkClassifier(Checked, nn.Module):
    """A classifier of noisy data by a network, at any noise level of any path.

        log p(c | x_t = x) = log softmax(net(c_in x, c_noise))

    with c_in and c_noise of `scoresde.precond`, so that the network sees the ratio sigma / alpha and neither the time
    nor the scale of its path. `ClassifierGuided` leads a model by it.

    Args:
        net: called as net(x, c) with x (B, *event) and c (B,), returns logits (B, C).
        sde: the path whose noise levels it is trained at.
        sigma_data: standard deviation of the data, over all values.
    """

    def __init__(self, net: nn.Module, sde: SDE, sigma_data: Positive = 0.5) -> None:
        super().__init__()
        self.net, self.sde, self.sigma_data = net, sde, sigma_data

    @property
    def device(self) -> torch.device:
        """The device of x."""
        return device_of(self)

    def log_classes(self, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
        """log p(c | x_t = x) of all classes (B, C) of x = alpha x_0 + sigma eps, (B, *event), in the dtype of x.

        Args:
            x: noisy data.
            alpha: of the level; a float or (B,).
            sigma: likewise.
        """
        lam = half_log_snr(*(torch.as_tensor(a, dtype=torch.float64) for a in (alpha, sigma)))
        c = coefficients("edm", alpha, sigma, lam if lam.ndim else float(lam), self.sigma_data)
        return torch.log_softmax(evaluated(self.net, x, c).to(x.dtype), dim=1)

    def classes_of(self, event_shape: tuple[int, ...]) -> int:
        """The number of classes C, found by a call with samples of this shape.

        Raises:
            InputError: the network does not take them, or does not return logits.
        """
        name, x = f"model.net: {type(self.net).__name__}", torch.zeros(2, *event_shape, device=self.device)
        try:
            with torch.no_grad():
                out = self.log_classes(x, 1.0, 1.0)
        except (TypeError, RuntimeError, IndexError) as error:
            raise InputError(f"{name} cannot be called as net(x, c) ({' '.join(str(error).split())})") from None
        wanted = f"as logits of {len(x)} samples; give (B, classes), of two classes or more"
        require(out.ndim == 2 and len(out) == len(x) and out.shape[1] > 1, name, tuple(out.shape), wanted)
        return out.shape[1]
