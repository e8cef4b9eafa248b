"""The classifier two-sample test: can a classifier distinguish samples from real items?"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from torch import Tensor

from scoresde.constraints import Count, NonNegativeInt, at_least
from scoresde.data.dataset import Dataset
from scoresde.metrics._events import Compared, flat_pair
from scoresde.metrics.features import FeatureMetric
from scoresde.results.metric import Measurement, Needs, Quantity

Judge = Literal["linear", "kernel", "neighbours"]
_STRENGTH = 1e-3  # of the penalty, relative to the variance of the points
_MOST_POINTS = 500  # whose distances give the bandwidth


def two_sample_test(
    x: Tensor, y: Tensor, judge: Judge = "linear", folds: int = 5, permutations: int = 199, seed: int = 0
) -> tuple[float, float]:
    """How well a classifier distinguishes clouds x (n, *event) and y (m, *event), and how likely that is by chance.

    Of the larger cloud as many points as the smaller one has are drawn. Each fold is classified by a regression of
    the labels -1 and 1 on the others; the same regressions are made of permuted labels at once, so that the p-value

        p = (1 + number of permutations with a higher accuracy, ties broken at random) / (1 + permutations)

    is uniform between equal distributions whatever the classifier is, the cross-validation included.

    Args:
        x: a cloud.
        y: another one.
        judge: "linear", ridge regression; "kernel", the same with a Gaussian kernel of the median distance;
            "neighbours", the mean of the nearest sqrt(n) points.
        folds: of the cross-validation.
        permutations: of the labels.
        seed: which points, folds and permutations.

    Returns:
        The accuracy, 0.5 on average between equal distributions, and p.

    Raises:
        ValueError: a cloud of fewer points than folds, or events of two shapes.

    Reference: D. Lopez-Paz and M. Oquab, Revisiting classifier two-sample tests, arXiv 1610.06545, section 3.
    """
    from sklearn.model_selection import StratifiedKFold

    rng = np.random.default_rng(seed)
    n = min(len(x), len(y))
    if n < folds:
        raise ValueError(f"{folds} folds need as many points: {len(x)} and {len(y)}")
    clouds = [cloud.cpu().double().numpy() for cloud in flat_pair(x, y)]
    points = np.concatenate([cloud[rng.permutation(len(cloud))[:n]] for cloud in clouds])
    points = (points - points.mean(0)) / max(float(points.std(0).max()), 1e-300)
    truth = np.repeat([1.0, -1.0], n)
    labels = np.column_stack([truth, *(rng.permutation(truth) for _ in range(permutations))])
    scores = np.empty_like(labels)
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=int(rng.integers(2**31))).split(points, truth):
        mean = labels[train].mean(0)
        scores[test] = _regression(judge, points[train]).fit(points[train], labels[train] - mean).predict(points[test])
    right = (np.sign(scores) == labels).mean(0) + 0.5 * (scores == 0).mean(0)
    ties = rng.permuted(np.arange(permutations + 1))
    ahead = (right[1:] > right[0]) | ((right[1:] == right[0]) & (ties[1:] > ties[0]))
    return float(right[0]), float((1 + ahead.sum()) / (1 + permutations))


def _regression(judge: Judge, points: np.ndarray) -> Any:
    from sklearn.kernel_ridge import KernelRidge
    from sklearn.linear_model import Ridge
    from sklearn.metrics import pairwise_distances
    from sklearn.neighbors import KNeighborsRegressor

    if judge == "neighbours":
        return KNeighborsRegressor(max(1, int(len(points) ** 0.5)))
    if judge == "linear":
        return Ridge(_STRENGTH * len(points) * float(points.var(0).mean()))
    bandwidth = float(np.median(pairwise_distances(points[:: -(-len(points) // _MOST_POINTS)])))
    return KernelRidge(alpha=_STRENGTH * len(points), kernel="rbf", gamma=0.5 / max(bandwidth, 1e-300) ** 2)


@dataclass(eq=False)
class TwoSampleTest(FeatureMetric):
    """Accuracy of a classifier of samples against held-out items (C2ST), cross-validated, and its p-value.

    Args:
        features: called as features(x) on items (B, *event) in model units, returns (B, ...); or a `Classifier`.
        batch_size: items at a time.
        judge: see `two_sample_test`.
        folds: of the cross-validation.
        permutations: of the labels, which give the p-value.
        seed: which folds and permutations.

    Raises:
        InputError: a number out of range.
    """

    quantities = (
        Compared("c2st", "C2ST", "accuracy of a classifier of samples against real data", "0.5 for a perfect sampler"),
        Quantity("c2st_p", "C2ST p", "probability of such an accuracy by chance", direction="higher", brief=False),
    )
    judge: Judge = "linear"
    folds: Annotated[int, at_least(2)] = 5
    permutations: Count = 199
    seed: NonNegativeInt = 0

    def needs(self) -> Needs:
        return Needs(self.folds, self.folds, self.folds)

    def __call__(self, samples: Tensor, dataset: Dataset) -> dict[str, float | Measurement]:
        x, real = self.pair(samples, dataset)
        accuracy, p = two_sample_test(x, real, self.judge, self.folds, self.permutations, self.seed)
        return {"c2st": accuracy, "c2st_p": p}
