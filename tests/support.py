"""What several tests share: objects from the YAML files of conf/, and problems whose answers are known."""

import functools
import gzip
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from scipy.integrate import solve_ivp
from torch import Tensor

from scoresde import SDE, ExactModel, GaussianMixture, Model
from scoresde.build import build
from scoresde.sampling import Solver

CONF = Path(__file__).parents[1] / "conf"


def options(group: str) -> list[str]:
    """Names of the YAML files of a group, but for a class of the user's own."""
    return sorted(p.stem for p in (CONF / group).glob("*.yaml") if p.stem != "custom")


def built(group: str, name: str, **changes: Any) -> Any:
    """The object that a YAML file describes, with some of its values changed."""
    config = yaml.safe_load((CONF / group / f"{name}.yaml").read_text())
    return build({**config, **changes})


# levels with cubics between them, too slow and too kinked for what follows (see test_discrete), and no way to data
APART = ["discrete", "one_level"]
SDES = [name for name in options("sde") if name not in APART]
# every path once: these are others under another name (or, trigonometric, with another parameter), and cheap tests and
# equality with their twins are enough
TWINS = {"drift": "vp", "path": "rectified", "trigonometric": "cosine"}
PATHS = [name for name in SDES if name not in TWINS]
# those of Gaussian paths, and not tuned, which needs a run
SOLVERS = [name for name in options("solver") if name not in ("tuned", "bit_flips")]
CORRECTORS = [name for name in options("corrector") if name != "none"]


def with_paths(cases: Iterable[Any], every: Container[Any] = ()) -> list[tuple[Any, str]]:
    """Pairs of a case and the paths that it meets: one each, in turn, and those of `every` all.

    Rules whose coefficients depend on lam alone are the same map on every path, as test_order asserts.
    """
    return [
        (case, path) for i, case in enumerate(cases) for path in (PATHS if case in every else [PATHS[i % len(PATHS)]])
    ]


@functools.cache
def sde_named(name: str) -> SDE:
    """The SDE of conf/sde/<name>.yaml; what is measured from data is 50 here."""
    config = yaml.safe_load((CONF / "sde" / f"{name}.yaml").read_text())
    return build({k: 50.0 if v == "measured" else v for k, v in config.items()})


def solver_named(name: str, **changes: Any) -> Solver:
    return built("solver", name, **changes)


class OrnsteinUhlenbeck(SDE):
    """dx = -x/2 dt + dw by the two methods that every SDE needs, and no closed form for t(lam)."""

    def __init__(self) -> None:
        super().__init__(T=5.0, t_min=1e-3, t_train=1e-5)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(-t / 2)

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sqrt(-torch.expm1(-t))


def gaussian() -> GaussianMixture:
    """One Gaussian with correlated dimensions and a mean, all of order one."""
    return GaussianMixture([1.0], [[0.7, -0.4]], [[[0.8, 0.3], [0.3, 0.5]]])


def mixture() -> GaussianMixture:
    """Three unequal, anisotropic Gaussians in two dimensions."""
    return GaussianMixture(
        [0.2, 0.5, 0.3],
        [[-1.5, 0.3], [1.0, 1.0], [0.2, -1.2]],
        [[[0.2, 0.05], [0.05, 0.1]], [[0.3, 0.0], [0.0, 0.1]], [[0.15, -0.1], [-0.1, 0.25]]],
    )


def gaussian_law(model: ExactModel, t: float) -> tuple[Tensor, Tensor]:
    """Mean and covariance of x_t for the data of `gaussian`."""
    level, data = model.sde.at(t), model.data
    assert isinstance(data, GaussianMixture)
    covariance = data.axes[0] @ torch.diag(data.variances[0]) @ data.axes[0].T
    return level.alpha * data.means[0], level.alpha**2 * covariance + level.sigma**2 * torch.eye(
        len(covariance), dtype=torch.float64
    )


_FLOWS: dict[Any, Tensor] = {}


def exact_flow(model: ExactModel, x: Tensor, lams: Tensor) -> Tensor:
    """The probability-flow ODE solved by scipy to 1e-12, from lams[0] through all lams: (len(lams), B, D).

    Integrates dy/dr = eps with y = x / alpha and r = sigma / alpha, which needs neither f nor g. Remembered, since many
    tests ask for the same one.
    """
    data = tuple(b.numpy().tobytes() for b in model.data.buffers())
    key = (repr(model.sde), data, x.numpy().tobytes(), lams.numpy().tobytes())
    if key not in _FLOWS:
        _FLOWS[key] = _exact_flow(model, x, lams)
    return _FLOWS[key]


def _exact_flow(model: Model, x: Tensor, lams: Tensor) -> Tensor:
    sde, shape = model.sde, x.shape
    r = torch.exp(-lams).numpy()

    def rate(r: float, y: np.ndarray) -> np.ndarray:
        t = float(sde.t_of_lam(-torch.log(torch.tensor(r, dtype=torch.float64))))
        x = torch.from_numpy(y).reshape(shape) * sde.at(t).alpha
        return model(x, t).eps.numpy().ravel()

    y0 = (x / sde.alpha(sde.t_of_lam(lams[0]))).numpy().ravel()
    solution = solve_ivp(rate, (r[0], r[-1]), y0, method="DOP853", t_eval=r, rtol=1e-12, atol=1e-12)
    alpha = sde.alpha(sde.t_of_lam(lams))
    return torch.from_numpy(solution.y.T.copy()).reshape(len(lams), *shape) * alpha.reshape(-1, *(1,) * x.ndim)


def exact_model(sde: SDE, data: GaussianMixture | None = None) -> ExactModel:
    return ExactModel(mixture() if data is None else data, sde)


def write_idx(file: Path, values: np.ndarray, packed: bool = False) -> None:
    """An IDX file of unsigned bytes, as the MNIST sets are handed out."""
    content = bytes((0, 0, 8, values.ndim)) + np.array(values.shape, ">u4").tobytes() + values.tobytes()
    file.write_bytes(gzip.compress(content) if packed else content)


def write_mnist(folder: Path, train: int = 40, test: int = 20, side: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """The four files of a tiny set with classes that can be seen: images (n, side, side) and classes (n,)."""
    rng, n = np.random.default_rng(0), train + test
    classes = np.arange(n, dtype=np.uint8) % 4
    images = rng.integers(0, 100, (n, side, side), dtype=np.uint8)
    for image, c in zip(images, classes, strict=True):
        image[c // 2 * side // 2 :][: side // 2, c % 2 * side // 2 :][:, : side // 2] += 150
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", slice(0, train)), ("t10k", slice(train, n))):
        write_idx(folder / f"{name}-images-idx3-ubyte.gz", images[part], packed=True)
        write_idx(folder / f"{name}-labels-idx1-ubyte", classes[part])
    return images, classes
