"""What a trained classifier of noisy data leads to: `python benchmarks/classifier.py RUN RUN-WITH-CLASSES CLASSIFIER`.

Of runs of digits, where CLASSIFIER was made by `scoresde classifier run=RUN`: samples that ask for each class in turn,
led by the classifier and by classifier-free guidance. 95 % intervals over seeds:

    right: share of the samples that a support vector machine, trained on the clean training images, says are of the
        class that was asked for
    spread: their standard deviation within classes, over that of the training images
    nearest: mean distance to the nearest training image of the class that was asked for, over that of held-out images

With `--mixture`, what a classifier of an exact mixture lacks: E KL(exact || trained) in nats by noise level, for both
densities of the noise levels, on two paths.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from record import save
from sklearn.svm import SVC
from torch import Tensor

from scoresde import CrossEntropy, GaussianMixture, NetworkClassifier, Sampler, Trainer, load, load_classifier, sde
from scoresde.conditional import ConditionalMixture
from scoresde.data import Dataset
from scoresde.data.transform import Transform
from scoresde.model import Model
from scoresde.nets import Encoder
from scoresde.results.interval import student
from scoresde.runs.guiding import guided
from scoresde.sampling import Heun
from scoresde.workflows.classifier import LEVELS

CLASSES = list(range(10))


class Judge:
    """What samples are worth beside the images of a data set."""

    def __init__(self, data: Dataset) -> None:
        assert data.labels is not None
        assert data.heldout_labels is not None
        self.train, self.labels = data.train.flatten(1), data.labels
        self.svm = SVC(gamma="scale", C=10).fit(self.train.numpy(), self.labels.numpy())
        held, own = data.heldout.flatten(1), data.heldout_labels
        self.accuracy = float((torch.from_numpy(self.svm.predict(held.numpy())) == own).float().mean())
        self._spread, self._nearest = self._spread_of(self.train, self.labels), self._nearest_of(held, own)

    def _spread_of(self, x: Tensor, labels: Tensor) -> float:
        each = [x[labels == c].var(0, correction=0).sum() for c in CLASSES]
        return float(torch.stack(each).mean().sqrt())

    def _nearest_of(self, x: Tensor, labels: Tensor) -> float:
        each = [torch.cdist(x[labels == c], self.train[self.labels == c]).amin(1) for c in CLASSES]
        return float(torch.cat(each).mean())

    def __call__(self, x: Tensor, labels: Tensor) -> dict[str, float]:
        x = x.flatten(1)
        right = torch.from_numpy(self.svm.predict(x.numpy())) == labels
        spread, nearest = self._spread_of(x, labels) / self._spread, self._nearest_of(x, labels) / self._nearest
        return {"right": float(right.float().mean()), "spread": spread, "nearest": nearest}


def digits(a: argparse.Namespace) -> dict[str, Any]:
    run, with_classes, classifier = load(a.runs[0]), load(a.runs[1]), load_classifier(a.runs[2])
    judge, labels = Judge(run.dataset()), torch.tensor(CLASSES).repeat(a.n // 10)
    print(f"the judge is right on {judge.accuracy:.1%} of held-out digits", flush=True)
    ways: dict[str, Callable[[float], Model]] = {
        "classifier": lambda w: guided(run, CLASSES, w, classifier=classifier),
        "classifier, 0.1-2": lambda w: guided(run, CLASSES, w, [0.1, 2.0], classifier=classifier),
        "classifier-free": lambda w: guided(with_classes, CLASSES, w),
    }
    found: dict[str, Any] = {"judge": judge.accuracy, "rows": []}
    for scale in a.scales:
        for name, of in ways.items():
            if "," in name and scale <= 1:
                continue  # an interval leaves scale 1 as it is
            each = [judge(_drawn(of(scale), run.event_shape, a, seed), labels) for seed in range(a.seeds)]
            values = {key: [one[key] for one in each] for key in each[0]}
            print(f"w = {scale:g}  {name:<18}", *(f"{k} {student(v)}  " for k, v in values.items()), flush=True)
            found["rows"].append({"scale": scale, "way": name, **values})
    return found


def _drawn(model: Model, event_shape: tuple[int, ...], a: argparse.Namespace, seed: int) -> Tensor:
    return Sampler(Heun(), steps=a.steps).sample(model, event_shape, n=a.n, seed=seed).x


def mixture(steps: int) -> list[dict[str, Any]]:
    """The divergence of trained classifiers of a mixture of two classes by noise level."""
    spreads = [[[v, 0.0], [0.0, 0.1]] for v in (0.1, 0.3, 0.2)]
    data = ConditionalMixture(
        GaussianMixture([0.3, 0.2, 0.5], [[-1.0, 0.5], [1.0, 1.5], [0.5, -1.0]], spreads), [0, 1, 0]
    )

    def drawn(n: int, seed: int) -> tuple[Tensor, Tensor]:
        x = data.mixture.sample(n, seed)
        u = torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return x.float(), (u > data.log_classes(x)[:, 0].exp()).long()

    (x, labels), (held, others), found = drawn(20_000, 1), drawn(4000, 2), []
    for path in ("vp", "edm"):
        for times in ("lambda", "uniform"):
            dataset = Dataset(x, held, Transform("points", (2,)), {"class": labels}, {"class": others})
            torch.manual_seed(0)
            net = Encoder((2,), 2, 64, (1,), blocks=2, dropout=0.0)
            model = NetworkClassifier(net, sde(path), dataset.sigma_data)
            adam, trainer = torch.optim.Adam(model.parameters(), 3e-3), Trainer(steps=steps, batch_size=256, ema=0.99)
            trained = trainer.fit(model, dataset, loss=CrossEntropy(times), optimizer=adam).ema  # type: ignore[arg-type]
            gaps = {}
            for ratio in LEVELS:
                noisy = held + ratio * torch.randn(held.shape, generator=torch.Generator().manual_seed(3))
                p = data.log_classes(noisy.double(), 1.0, ratio)
                with torch.no_grad():
                    q = trained.log_classes(noisy, 1.0, ratio)
                gaps[ratio] = float((p.exp() * (p - q)).sum(1).mean())
            print(f"{path:<4} {times:<8}", *(f"{r:g}: {gap:.4f}" for r, gap in gaps.items()), flush=True)
            found.append({"path": path, "times": times, "gaps": gaps})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", nargs="*", help="a run of digits, one with classes, and a classifier of the first")
    parser.add_argument("--mixture", type=int, default=0, metavar="STEPS", help="of training on a mixture; 0: not")
    parser.add_argument("--scales", type=float, nargs="*", default=[0.0, 1.0, 2.0, 4.0])
    parser.add_argument("--n", type=int, default=500, help="samples of each seed, a multiple of 10")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--out", type=Path, help="file of the result")
    a = parser.parse_args()
    torch.set_num_threads(1)
    content: dict[str, Any] = {"n": a.n, "seeds": a.seeds, "steps": a.steps}
    content |= {"mixture": mixture(a.mixture)} if a.mixture else {}
    content |= digits(a) if a.runs else {}
    print(f"written to {save('classifier', content, a.out)}")


if __name__ == "__main__":
    main()
