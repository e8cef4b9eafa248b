"""Networks called `net(x, c, cond)`: x (B, *event) of about unit variance, c (B,) the noise level ln(sigma/alpha)/4."""

from scoresde._lazy import lazy

__getattr__, __dir__, __all__ = lazy(__name__)
