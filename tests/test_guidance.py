"""Conditions reach the samples they are meant for, whatever the solver and the batch; guidance is that of its paper."""

from collections.abc import Sequence

import pytest
import torch
from support import CONF, SOLVERS, exact_model, options, sde_named, solver_named
from torch import Tensor
from yaml import safe_load

from scoresde import SDE, Conditioned, ExactModel, GaussianMixture, InputError, Model, Prediction, Sampler, ScoreModel
from scoresde.build import build
from scoresde.comparison import Candidate, Comparison, Plan, Problem
from scoresde.control.guidance import condition_of, conditioned, labelled
from scoresde.data import Dataset, Transform
from scoresde.evaluations import count_evaluations
from scoresde.nets import ResidualMLP
from scoresde.nets.condition import AUGMENT
from scoresde.sampling import DDIM, Heun
from scoresde.tuning import tune
from scoresde.tuning.pilot import Pilot

MEANS = [[-2.0, 0.5], [1.0, 1.5], [0.5, -2.0]]
WIDTHS = [0.05, 0.4, 0.2]  # so that each class has steps of its own where a solver chooses them


class Classes(Model):
    """The exact model of a mixture that can be conditioned on the component."""

    def __init__(self, sde: str = "vp", means: list[list[float]] = MEANS, widths: list[float] = WIDTHS) -> None:
        super().__init__(sde_named(sde))
        covariances = [[[w**2, 0.0], [0.0, w**2]] for w in widths]
        each = zip(means, covariances, strict=True)
        self.parts = torch.nn.ModuleList(exact_model(self.sde, GaussianMixture([1.0], [m], [c])) for m, c in each)
        self.whole = exact_model(self.sde, GaussianMixture([1 / len(means)] * len(means), means, covariances))

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def forward(self, x: Tensor, t: float | Tensor, cond: Tensor | None = None) -> Prediction:
        if cond is None:
            return self.whole(x, t)
        assert cond.shape == (len(x),)
        alpha, sigma, _ = self.levels(t)
        means = [part.data.posterior_mean(x, alpha, sigma) for part in self.parts]  # type: ignore[operator,union-attr]
        x0 = torch.stack(means)[cond, torch.arange(len(x))].to(x.dtype)
        return Prediction.of(x, self.sde, t, x0=x0)


@pytest.mark.parametrize("solver", [s for s in SOLVERS if s != "adaptive_sde"])  # which takes half a minute
def test_every_sample_is_of_its_class(solver: str) -> None:
    model, classes, n = Classes(), [1, 0, 2, 2], 30
    rule = solver_named(solver, **({"steps": 25} if solver == "annealed_langevin" else {}))
    x = Sampler(rule, steps=40).sample(Conditioned(model, classes), (2,), n, batch_size=7).x
    expected = torch.tensor(classes)[torch.arange(n) % 4]
    away = (x - torch.tensor(MEANS)[expected]).norm(dim=1) / torch.tensor(WIDTHS)[expected]
    assert away.max() < 6
    assert 0.5 < away.square().mean() / 2 < 1.6  # and not all at the mean


@pytest.mark.parametrize(
    "solver", ["heun", "adaptive_bosh3", "adaptive_sde", "adaptive_exponential", "restart", "auto"]
)
def test_a_sample_depends_on_seed_and_index_alone(solver: str) -> None:
    model, sampler = Conditioned(Classes(), [0, 1, 2, 1, 1]), Sampler(solver_named(solver), steps=8)
    draw = {"event_shape": (2,), "seed": 3, "dtype": torch.float64}
    whole = sampler.sample(model, n=23, batch_size=23, **draw).x
    torch.testing.assert_close(sampler.sample(model, n=23, batch_size=4, **draw).x, whole, rtol=0, atol=1e-6)
    torch.testing.assert_close(sampler.sample(model, n=3, **draw).x, whole[:3], rtol=0, atol=1e-6)


def test_one_condition_is_that_of_every_sample() -> None:
    sampler = Sampler(Heun(), steps=6)
    same = [sampler.sample(Conditioned(Classes(), c), (2,), 10).x for c in (2, [2], torch.tensor(2), [2, 2, 2])]
    assert all(torch.equal(x, same[0]) for x in same)


@pytest.mark.parametrize(("scale", "each"), [(1.0, 1), (0.0, 1), (2.5, 2)])
@pytest.mark.parametrize("solver", ["heun", "adaptive_bosh3"])
def test_evaluations_are_counted_where_they_happen(solver: str, scale: float, each: int) -> None:
    model = Classes()
    wrapped = Conditioned(model, [0, 1], scale)
    with count_evaluations() as spent:
        result = Sampler(solver_named(solver), steps=5).sample(wrapped, (2,), 9, batch_size=4)
    assert result.nfe * 9 == pytest.approx(spent.samples)
    if solver == "heun":
        assert result.nfe == 9 * each


@pytest.mark.parametrize("sde", ["vp", "ve", "rectified"])
@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_guidance_between_two_gaussians_of_one_width_moves_the_mean(sde: str, scale: float) -> None:
    """Their scores differ by a shift of the mean, so that guidance is the exact model of a Gaussian at scale m."""

    class Two(Classes):
        def forward(self, x: Tensor, t: float | Tensor, cond: Tensor | None = None) -> Prediction:
            return super().forward(x, t, torch.zeros(len(x), dtype=torch.int64) if cond is None else cond)

    mean, width = torch.tensor([1.0, -0.5], dtype=torch.float64), 0.3
    model = Two(sde, [[0.0, 0.0], mean.tolist()], [width, width])
    square = [[width**2, 0.0], [0.0, width**2]]
    moved = ExactModel(GaussianMixture([1.0], [(scale * mean).tolist()], [square]), model.sde)
    sampler = Sampler(Heun(), steps=10)
    guided, exact = (sampler.sample(m, (2,), 8, dtype=torch.float64).x for m in (Conditioned(model, 1, scale), moved))
    torch.testing.assert_close(guided, exact, rtol=1e-7, atol=1e-7)


def test_without_guidance_or_condition_it_is_the_model_to_the_bit() -> None:
    net = ResidualMLP((2,), width=16, blocks=1, condition="class", condition_size=3)
    for weight in net.parameters():  # most begin at zero, where a condition does nothing yet
        torch.nn.init.normal_(weight, std=0.3)
    model, x = ScoreModel(net, sde_named("vp")).eval(), torch.randn(5, 2)
    cond = torch.tensor([0, 1, 2, 2, 0])
    assert torch.equal(Conditioned(model, cond)(x, 0.3).eps, model(x, 0.3, cond).eps)
    assert torch.equal(Conditioned(model, cond, 0.0)(x, 0.3).eps, model(x, 0.3).eps)
    eps, null = model(x, 0.3, cond).eps, model(x, 0.3).eps
    torch.testing.assert_close(Conditioned(model, cond, 2.0)(x, 0.3).eps, 2 * eps - null, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(eps, null)


def test_a_wrapper_leaves_the_mode_of_the_network_alone() -> None:
    net = ResidualMLP((2,), width=8, blocks=1, condition="class", condition_size=2)
    model = ScoreModel(net, sde_named("vp"))
    for training in (True, False):
        model.train(training)
        Sampler(DDIM(), steps=2).sample(Conditioned(model, [0, 1]), (2,), 3)
        assert (model.training, net.training) == (training, training)


@pytest.mark.parametrize("name", options("model"))
def test_every_network_says_what_it_takes(name: str) -> None:

    cfg = safe_load((CONF / "model" / f"{name}.yaml").read_text())["net"]
    cfg |= {"condition": "class", "condition_size": 7}
    with torch.device("meta"):
        net = build(cfg, event_shape=(2,) if name in ("mlp", "gaussian_chain") else (3, 64, 64))
    found = condition_of(ScoreModel(net, sde_named("vp")))
    assert found is not None
    assert (found.kind, found.size) == ("class", 7)


def test_what_cannot_be_had_is_refused() -> None:
    def model(**settings: object) -> ScoreModel:
        return ScoreModel(ResidualMLP((2,), width=8, blocks=1, **settings), sde_named("vp"))  # type: ignore[arg-type]

    ten = {"condition": "class", "condition_size": 10}
    with pytest.raises(InputError, match=r"cond: 10 .* classes from 0 to 9"):
        Conditioned(model(**ten), [3, 10])
    with pytest.raises(InputError, match="class numbers, integers"):
        Conditioned(model(**ten), torch.zeros(3))
    with pytest.raises(InputError, match=r"scale: 2\.0 .* condition_dropout=0"):
        Conditioned(model(**ten, condition_dropout=0.0), 3, 2.0)
    with pytest.raises(InputError, match=r"scale: -1\.0"):
        Conditioned(model(**ten), 3, -1.0)
    with pytest.raises(InputError, match=r"cond: .* at least one"):
        Conditioned(model(**ten), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(InputError, match="3 conditions for 5 samples"):
        Conditioned(model(**ten), [1, 2, 3])(torch.zeros(5, 2), 0.5)
    with pytest.raises(InputError, match="takes no condition"):
        Conditioned(model(), 1)(torch.zeros(5, 2), 0.5)


# ---- several conditions, and a scale for each sample ----

CLASSES, POSES = torch.tensor([0, 2, 1]), torch.tensor([[0.5, -1.0], [2.0, 0.0], [0.3, 0.3]])
SCALES = torch.tensor([0.0, 1.0, 2.5])


def posed() -> ScoreModel:
    """A network of classes, which may be hidden, and poses, which may not."""
    torch.manual_seed(0)
    kinds, sizes = {"class": "class", "pose": "vector"}, {"class": 3, "pose": 2}
    net = ResidualMLP((2,), width=16, blocks=1, condition=kinds, condition_size=sizes, condition_dropout={"class": 0.1})
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return ScoreModel(net, sde_named("vp")).eval()


def test_guidance_hides_what_was_hidden_in_training_and_keeps_the_rest() -> None:
    model, x, cond = posed(), torch.randn(3, 2), {"class": CLASSES, "pose": POSES}
    both, pose, nothing = model(x, 0.3, cond).eps, model(x, 0.3, {"pose": POSES}).eps, model(x, 0.3).eps
    assert all((a - b).abs().min() > 1e-4 for a, b in ((both, pose), (pose, nothing)))
    for scale, expected in ((1.0, both), (0.0, pose), (2.0, 2 * both - pose)):
        torch.testing.assert_close(Conditioned(model, cond, scale)(x, 0.3).eps, expected, rtol=1e-4, atol=1e-5)
        nested = Conditioned(Conditioned(model, {"pose": POSES}), {"class": CLASSES}, scale)
        torch.testing.assert_close(nested(x, 0.3).eps, expected, rtol=1e-4, atol=1e-5)
    partial = Conditioned(model, {"pose": POSES})
    assert list(partial.conditions) == ["class"]
    torch.testing.assert_close(partial(x, 0.3, CLASSES).eps, both)


def test_a_scale_for_each_sample_guides_each_as_that_scale_alone() -> None:
    cond = {"class": CLASSES, "pose": POSES}
    net = posed().double()
    model, sampler = Conditioned(net, cond, SCALES), Sampler(solver_named("adaptive_bosh3"))
    x = sampler.sample(model, (2,), n=7, batch_size=3, dtype=torch.float64).x
    for k in range(7):
        one = Conditioned(net, {name: v[k % 3] if v.ndim == 1 else v[k % 3][None] for name, v in cond.items()})
        one.scale = float(SCALES[k % 3])
        alone = sampler.sample(one, (2,), n=7, dtype=torch.float64).x[k]
        torch.testing.assert_close(x[k], alone, rtol=0, atol=1e-7)
    assert model.cost == 2
    x, scales = torch.randn(3, 2, dtype=torch.float64), [0.0, 1.0, 2.3]  # 2.3 in float32 is another number
    each, alone, null, full = (Conditioned(net, cond, s)(x, 0.3).eps for s in (scales, 2.3, 0.0, 1.0))
    torch.testing.assert_close(alone, null + 2.3 * (full - null), rtol=0, atol=1e-12)
    torch.testing.assert_close(each[2], alone[2], rtol=0, atol=1e-12)


def test_conditions_of_other_names_are_refused() -> None:
    model = posed()
    with pytest.raises(InputError, match=r"'colour' .* class, pose"):
        Conditioned(model, {"colour": CLASSES})
    with pytest.raises(InputError, match=r"cond: .* class, pose"):
        Conditioned(model, CLASSES)
    with pytest.raises(InputError, match=r"vectors .*\(3, 2\)"):
        Conditioned(model, {"pose": CLASSES})
    with pytest.raises(InputError, match="condition_dropout=0"):
        Conditioned(model, {"pose": POSES}, 2.0)
    with pytest.raises(InputError, match="has its own"):
        Conditioned(model, {"class": CLASSES, "pose": POSES})(torch.randn(3, 2), 0.3, CLASSES)
    with pytest.raises(InputError, match="condition_dropout=0"):
        Conditioned(model, {"pose": POSES}, [1.0, 2.0, 1.0])
    assert Conditioned(model, {"pose": POSES}, [1.0, 1.0, 1.0]).cost == 2
    for scale in ([], [1.0, -1.0], float("nan")):
        with pytest.raises(InputError, match="scale: "):
            Conditioned(model, {"class": CLASSES}, scale)
    with pytest.raises(InputError, match="3 scales for 2 samples"):
        Conditioned(model, {"class": 1}, SCALES)(torch.randn(2, 2), 0.3)


def test_a_label_is_a_class_that_the_network_knows() -> None:
    model, x = posed(), torch.randn(3, 2)
    poses = {"pose": POSES}
    for label in (0, 2, [0, 2, 1]):
        expected = model(x, 0.3, {"class": torch.tensor(label).expand(3), **poses}).eps
        assert torch.equal(labelled(model, label, 1.0)(x, 0.3, poses).eps, expected)
    assert labelled(model, [0, 2], 3.0).scale == 3.0
    always = ScoreModel(
        ResidualMLP((2,), width=8, blocks=1, condition="class", condition_size=3, condition_dropout=0.0), model.sde
    )
    assert labelled(always, 1, 1.0).cost == 1
    vectors = ScoreModel(ResidualMLP((2,), width=8, blocks=1, condition="vector", condition_size=3), model.sde)
    for wrong, words in (
        ((model, None, 2.0), r"^guidance: 2\.0 .* needs a label"),
        ((vectors, 1, 1.0), "^label: 1 .* without classes"),
        ((model, 3, 1.0), r"^label: 3 .* from 0 to 2, such as label=0 or label=\[0,1\]"),
        ((model, [0, -1], 1.0), r"^label: \[0, -1\]"),
        ((model, [], 1.0), r"^label: \[\]"),
        ((always, 1, 2.0), r"^guidance: 2\.0 .* condition_dropout=0"),
    ):
        with pytest.raises(InputError, match=words):
            labelled(*wrong)


def test_a_model_without_conditions_is_left_as_it_is() -> None:
    model, x = posed(), torch.randn(3, 2)
    assert conditioned(model, {}) is model
    assert torch.equal(conditioned(model, {"pose": POSES})(x, 0.3).eps, model(x, 0.3, {"pose": POSES}).eps)
    augmented = ResidualMLP((2,), width=8, blocks=1, condition={AUGMENT: "vector"}, condition_size={AUGMENT: 9})
    assert condition_of(ScoreModel(augmented, model.sde)) is None
    found = condition_of(model)
    assert found is not None
    assert found.kind == "class"


def test_an_image_is_a_condition_that_guidance_keeps() -> None:
    from scoresde.nets import UNet

    torch.manual_seed(0)
    kinds, sizes = {"class": "class", "coarse": "image"}, {"class": 3, "coarse": 1}
    net = UNet((1, 8, 8), channels=8, multipliers=(1,), blocks=1, attention=(), condition=kinds, condition_size=sizes)
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    model, x, image = ScoreModel(net, sde_named("vp")).eval(), torch.randn(3, 1, 8, 8), torch.randn(3, 1, 8, 8)
    both, kept = model(x, 0.3, {"class": CLASSES, "coarse": image}).eps, model(x, 0.3, {"coarse": image}).eps
    guided = Conditioned(model, {"class": CLASSES, "coarse": image}, 2.0)
    torch.testing.assert_close(guided(x, 0.3).eps, 2 * both - kept, rtol=1e-4, atol=1e-5)
    assert (kept - model(x, 0.3).eps).abs().max() > 1e-3


# ---- where samples are numbered: comparing and tuning ----


class ByClass(Problem):
    """Samples that take classes in turn, without a distribution in which they should end."""

    name = "classes"
    transform = Transform("points", (2,))
    sigma_max, largest_n = 5.0, None

    def __init__(self, scale: float = 1.0) -> None:
        self.by_class = Conditioned(Classes(), [1, 0, 2], scale)

    def model(self, sde: SDE | None, device: str) -> Model:
        return self.by_class

    def real(self, n: int, seeds: Sequence[int]) -> list[Dataset]:
        return [Dataset(torch.zeros(n, 2), torch.zeros(n, 2), self.transform) for _ in seeds]


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_a_comparison_draws_the_samples_of_a_sampler_and_spends_its_budget(scale: float) -> None:
    problem = ByClass(scale)
    plan = Plan(problem, [Candidate("heun", Heun())], {"": None}, [18], n=20, seed=5, seeds=2, batch_size=7)
    (row,) = Comparison(plan).rows()
    steps = 5 if scale == 2 else 9  # the last of them costs one call, the others two
    drawn = Sampler(Heun(), steps=steps).sample(problem.by_class, (2,), 20, seed=5, batch_size=20)
    assert (row.error, row.steps, row.nfe) == (None, steps, drawn.nfe)
    torch.testing.assert_close(row.shown, drawn.x, rtol=1e-5, atol=1e-5)


def test_starts_of_a_tuning_keep_their_classes() -> None:
    model = Conditioned(Classes(), [1, 0, 2])
    pilot = Pilot.of(model, (2,), 0, range(4, 27), 20)
    apart = (pilot.exact - torch.tensor(MEANS)[torch.tensor([1, 0, 2])[(4 + torch.arange(23)) % 3]]).norm(dim=1)
    assert apart.max() < 2
    found = pilot.distances(Sampler(steps=20).times(model, event_shape=(2,)))  # the same rule on the same grid
    assert found.max() < 1e-4


def test_tuning_lowers_the_error_of_a_guided_model() -> None:
    model = Conditioned(Classes(), [1, 0, 2], 2.0)
    found = tune(model, (2,), 5, n=48, iterations=4, fine=30)
    assert found.after.mean < 0.9 * found.before.mean
