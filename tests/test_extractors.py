"""Feature extractors: what they compute, what their cards say, and files that cannot be used."""

import json
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from scoresde import InputError, load
from scoresde.data import Array, Moons
from scoresde.metrics import FrechetDistance, HuggingFace, Images, Onnx, Pixels, RandConv, TorchScript, frechet_distance
from scoresde.metrics.extractor import sha256
from scoresde.metrics.features import extractor, features_of
from scoresde.results.card import require_same, shared
from scoresde.runs.saved import Saved
from scoresde.workflows.evaluate import Evaluation
from scoresde.workflows.selftest import Remembered


@pytest.fixture(scope="module")
def images():
    """Sixty grey images of 8 x 8 pixels with 256 levels."""
    levels = np.random.default_rng(0).integers(0, 256, (60, 1, 8, 8)).astype(np.uint8)
    return Array(levels).load()


@pytest.fixture
def program(tmp_path):
    """A TorchScript file with a network of three channels."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with warnings.catch_warnings(action="ignore"):  # torch would rather have others
        torch.jit.save(torch.jit.script(net), str(tmp_path / "net.ts"))
    return net, str(tmp_path / "net.ts")


def test_pixels_are_the_items(images):
    metric = FrechetDistance("pixels")
    x, _ = metric.pair(images.train[:20], images)
    assert torch.equal(x, images.train[:20].flatten(1))
    value = metric(images.train[:20], images)["frechet_distance"]
    assert value == frechet_distance(images.train[:20].flatten(1), images.heldout.flatten(1))
    assert metric.card(images) == FrechetDistance(Pixels()).card(images)


@pytest.mark.parametrize("shape", [(2,), (3, 12), (2, 9, 7), (1, 5, 5, 5), (4, 1)])
def test_random_convolutions_are_those_of_their_seed(shape):
    data = Array(np.random.default_rng(1).normal(size=(12, *shape)).astype(np.float32)).load()
    one, same, other = (RandConv(seed).extract(data) for seed in (0, 0, 1))
    x = data.heldout
    assert torch.equal(one.features(x), same.features(x))
    assert one.card == same.card != other.card
    assert not torch.equal(one.features(x), other.features(x))
    first = one.features(x[:1])
    assert torch.allclose(first, one.features(x)[:1], atol=1e-6)  # each item alone
    assert not torch.allclose(one.features(x), one.features(x + 0.5))


def test_images_become_what_a_file_of_them_would_be(images):
    """Clipped, rounded, in the range, and as Pillow resizes: to a level of 8 bits, far less than the images differ."""
    x = images.transform.encode(torch.full((1, 1, 8, 8), 200.4))
    plain = Images(low=-1.0, high=1.0, channels=3, mean=[0.1], std=[0.5]).prepared(x, images.transform)
    assert plain.shape == (1, 3, 8, 8)
    assert torch.allclose(plain, torch.full((), ((200 / 255 * 2 - 1) - 0.1) / 0.5))
    assert float(Images().prepared(x + 9, images.transform).max()) == 1
    smooth = torch.outer(torch.linspace(0, 1, 40), torch.linspace(0.2, 1, 40)).sin()
    data = Array((255 * smooth).round().numpy().astype(np.uint8)[None, None].repeat(4, 0) - np.arange(4, dtype=np.uint8)
                 .reshape(4, 1, 1, 1)).load()  # fmt: skip
    for kernel, pillow in (("bicubic", Image.Resampling.BICUBIC), ("bilinear", Image.Resampling.BILINEAR)):
        ours = Images(size=16, kernel=kernel, high=255.0).prepared(data.train[:1], data.transform)[0, 0]
        source = data.transform.finish(data.train[:1])[0, 0]
        theirs = np.asarray(Image.fromarray(source.astype(np.float32)).resize((16, 16), pillow))
        assert np.abs(ours.numpy() - theirs).max() < 0.05


def test_a_program_gives_the_features_of_its_network(images, program):
    net, path = program
    taken = Images(size=16, channels=3)
    found = TorchScript(path, taken).extract(images)
    x = images.heldout
    assert torch.allclose(found.features(x), net(taken.prepared(x, images.transform)), atol=1e-6)
    with open(path, "rb") as file:  # noqa: PTH123
        assert found.card["sha256"] == sha256([file.read()])[:16]
    assert found.card["size"] == [3, 16, 16]
    assert found.card["resize"] == "bicubic, antialiased, from 8 x 8"
    assert "1 channel to 3" in found.card["range"]
    card = FrechetDistance(TorchScript(path, taken)).card(images)
    assert (card["features"], card["reference_n"], card["reference_split"]) == (4, len(images.heldout), "held-out")


def test_a_model_of_onnx_is_called_with_numpy(images, tmp_path, monkeypatch):
    (tmp_path / "net.onnx").write_bytes(b"model")

    class InferenceSession:
        def __init__(self, path, providers):
            assert path == str(tmp_path / "net.onnx")

        def get_inputs(self):
            return [SimpleNamespace(name="pixels")]

        def run(self, outputs, feed):
            return [feed["pixels"].mean(axis=(2, 3))]

    fake = SimpleNamespace(InferenceSession=InferenceSession, get_available_providers=lambda: ["CPU"])
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    found = extractor(f"onnx:{tmp_path / 'net.onnx'}").extract(images)
    wanted = Images().prepared(images.heldout, images.transform).mean(dim=(2, 3))
    assert torch.allclose(found.features(images.heldout), wanted)
    assert found.card["sha256"] == sha256([b"model"])[:16]


def test_a_folder_of_transformers_is_read_as_it_says(images, tmp_path, monkeypatch):
    calls = {}

    class Net(nn.Module):
        def forward(self, pixel_values):
            return SimpleNamespace(pooler_output=pixel_values.flatten(1), last_hidden_state=None)

    def from_pretrained(path, **settings):
        calls.update(settings)
        return Net()

    fake = SimpleNamespace(AutoModel=SimpleNamespace(from_pretrained=from_pretrained))
    monkeypatch.setitem(sys.modules, "transformers", fake)
    save_file({"w": torch.zeros(1)}, str(tmp_path / "model.safetensors"))
    said = {"size": {"height": 4, "width": 4}, "resample": 2, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    found = extractor(f"hf:{tmp_path}").extract(images)
    assert calls == {"local_files_only": True, "use_safetensors": True, "trust_remote_code": False}
    wanted = Images(4, "bilinear", 0.0, 1.0, 3, [0.5], [0.25]).prepared(images.heldout, images.transform)
    assert torch.allclose(found.features(images.heldout), wanted.flatten(1))
    assert found.card["resize"].startswith("bilinear, antialiased")


class Placed(nn.Module):
    """Has features only on another device, of which the machine needs to have none."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        assert self.weight.device == x.device == torch.device("meta")
        return torch.ones(len(x), 2) + torch.arange(len(x))[:, None] % 3


def test_networks_compute_where_the_run_does(images, tmp_path):
    run = load(Path(__file__).parent / "fixtures/d14582e/run")
    run.model.to("meta")
    np.save(tmp_path / "x.npy", run.transform.finish(run.dataset().heldout[:30]))
    samples = Saved.read(tmp_path / "x.npy")
    assert Evaluation(run, {"own": FrechetDistance(Placed())}, samples).results().rows[0].values
    assert len(Remembered(Placed(), "meta")(images.heldout)) == len(images.heldout)


class Odd(nn.Module):
    """Gives what a test says of a batch, whose first one has 4 items."""

    def __init__(self, made):
        super().__init__()
        self.made = made

    def forward(self, x):
        return self.made(x)


@pytest.mark.parametrize(
    ("made", "line"),
    [
        (lambda x: torch.zeros(len(x), len(x)), "features: 4 of one batch and 2 of another"),
        (lambda x: torch.zeros(1, 3), r"features: Odd must return one tensor \(B, ...\)"),
        (lambda x: [x], r"features: Odd must return one tensor \(B, ...\)"),
        (lambda x: torch.where(x > 2, torch.nan, x), "those of Odd are not finite for 1 of 6 items, the first is 3"),
    ],
)
def test_features_that_cannot_be_are_refused(made, line):
    x = torch.zeros(6, 2)
    x[3] = 3
    with pytest.raises(InputError, match=line):
        features_of(Odd(made), x, batch_size=4)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda d, f: extractor("randcnv"), "features: 'randcnv' is not known; did you mean randconv"),
        (lambda d, f: FrechetDistance("hf:"), "features: 'hf:' is not known"),
        (lambda d, f: extractor("torchscript:nowhere").extract(d), "features: there is no file nowhere"),
        (lambda d, f: extractor(f"torchscript:{f}/net.pt").extract(d), "net.pt is no TorchScript"),
        (
            lambda d, f: extractor(f"torchscript:{f}/net.ts").extract(d).features(d.heldout),
            r"does not take \(1, 8, 8\)",
        ),
        (lambda d, f: extractor(f"hf:{f}").extract(d), "has no .*safetensors, and no other weights are read"),
        (lambda d, f: TorchScript(f"{f}/net.ts").extract(Moons(n=20).load()), "it takes images"),
        (
            lambda d, f: TorchScript(f"{f}/net.ts", Images(mean=[0.1, 0.2])).extract(d),
            "features.mean: .*give one number",
        ),
        (lambda d, f: Images(size=0), "size: 0 is not allowed"),
    ],
)
def test_what_cannot_be_used_is_one_line(images, program, tmp_path, monkeypatch, make, line):
    if "onnx" not in line:
        monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace())
    torch.save(program[0], tmp_path / "net.pt")
    with pytest.raises(InputError, match=line) as caught:
        make(images, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_package_that_is_missing_is_named_with_its_extra(images, tmp_path, monkeypatch):
    (tmp_path / "a.onnx").touch()
    (tmp_path / "a.safetensors").touch()
    for name, made in (("onnxruntime", Onnx(str(tmp_path / "a.onnx"))), ("transformers", HuggingFace(str(tmp_path)))):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(InputError, match=rf'needs {name} .*pip install "scoresde\['):
            made.extract(images)


def test_cards_name_the_field_in_which_they_differ(images):
    cards = [FrechetDistance(RandConv(seed)).card(images) for seed in (0, 1)]
    require_same("d", cards[0], dict(cards[0]), ("a", "b"))
    require_same("d", cards[0], None, ("a", "b"))  # of an older version, not known
    with pytest.raises(InputError, match=r"d: cards differ: sha256 is \w+ in a and \w+ in b"):
        require_same("d", *cards, ("a", "b"))
    with pytest.raises(InputError, match="features is 3 in a and nothing in b"):
        require_same("d", {"features": 3}, {"size": 1}, ("a", "b"))
    assert shared(cards) == {**cards[0], "sha256": "one for each seed"}
