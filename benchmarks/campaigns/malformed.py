"""Malformed command lines, configurations and data files: one line that names what is wrong and what to do?

    python benchmarks/campaigns/malformed.py 250 [--show]

Made by fixed rules from all commands, their keys and options, and from the lists of bad files of tests/. Each call is a
child of this process. It must end with status 2 and at most three lines on stderr, which name the key or the file and a
remedy, within 3 s of CPU time, and leave every file as it was.
"""

import argparse
import inspect
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from calls import READERS, SECONDS, START, Answer, answer, copied, peak, prepared, tests, typed

from scoresde.cli.command import all_commands
from scoresde.cli.keys import keys
from scoresde.data import ArrayFile, FashionMNIST, ImageFolder
from scoresde.errors import InputError

T = TypeVar("T")
EACH = 5  # keys of a command that a rule is tried on
# what tells the user what to do: a remedy, the values there are, or the state of a file that is to be put right
REMEDY = re.compile(
    r"did you mean|"
    r"\b(give|write|use|leave|add|needs?|makes?|takes?|choose|see|such as|name|train|lists?|remove|download)\b"
    r"|\((options|metrics|keys|commands): |e\.g\. |is not? (an? |one of |true or |\w+$)|cannot be read|not readable"
    r"|does not exist|there is no|holds|has \S+ bytes|is missing|nested more than"
)
SOURCES = {ArrayFile: "array", ImageFolder: "folder", FashionMNIST: "fashion_mnist"}


class Line(NamedTuple):
    """A malformed call.

    Attributes:
        rule: by which it was made.
        words: that are typed.
        named: what the answer must name.
    """

    rule: str
    words: list[str]
    named: Sequence[str]


def spread(items: Sequence[T], count: int) -> list[T]:
    """So many of the items, from the first to the last."""
    return [items[k * len(items) // count] for k in range(min(count, len(items)))] if len(items) > count else [*items]


def of_keys() -> Iterator[Line]:
    """Keys misspelt, of another type, out of range; options and flags that are not there; settings that are none."""
    for name, row in all_commands().items():
        known = [key for key in keys(name, START[name]) if not key.name.startswith(("launcher", "sweeper"))]
        long = [key.name for key in known if len(key.name.rpartition(".")[2]) > 4]
        for key in spread(long, EACH):
            yield Line("misspelt key", typed(name, f"{key[:-2]}{key[-1]}=1"), (f"{key[:-2]}{key[-1]}: no such key",))
        numbers = [key.name for key in known if re.fullmatch(r"[0-9.e-]+", key.default)]
        for key in spread(numbers, EACH):
            yield Line("another type", typed(name, f"{key}=word"), (f"{key}: 'word' is not a",))
        for key in spread([key.name for key in known if key.default in ("true", "false")], EACH):
            yield Line("another type", typed(name, f"{key}=7"), (f"{key}: 7 is not true or false",))
        for key in spread([key.name for key in known if key.default.startswith("[")], 2):
            yield Line("another type", typed(name, f"{key}={{a:1}}"), (key,))
        for key in spread([k for k in numbers if k.rpartition(".")[2] in COUNTS], EACH):
            yield Line("out of range", typed(name, f"{key}=-7"), (key, "-7"))
        for choice in spread(row.choices, EACH):
            yield Line("no such option", typed(name, f"{choice}=nosuch"), ("nosuch", "options: "))
        for place in ("run", "folder", "file", "samples", "config", "init"):
            if place in row.keys and (name, place) != ("train", "run"):
                aside = ["problem=null"] if (name, place) == ("compare", "folder") else []
                yield Line("missing file", typed(name, *aside, f"{place}=nowhere/there"), ("nowhere/there",))
        yield Line("no such flag", typed(name, "--nosuch"), ("--nosuch: no such flag",))
        yield Line("no setting", typed(name, "seed=[1"), ("seed=[1: not a setting",))


COUNTS = ("seed", "n", "batch_size", "steps", "repeats", "resamplings", "seeds", "iterations", "fine", "width", "lr")
COUNTS += ("beta_min", "log_every", "warmup", "length", "radius", "size", "blocks")


def of_settings() -> Iterator[Line]:
    """Settings that contradict each other, or mean something else than they say."""
    both = {"run": "run", "problem": "mixture_2d", "folder": "run"}
    for one in both:
        for other in [key for key in both if key > one]:
            words = ["compare", f"{one}={both[one]}", f"{other}={both[other]}", "logger=none"]
            yield Line("contradiction", words, (one, other))
    for line, named in CONTRADICTIONS.items():
        command, *rest = line.split(" ")
        yield Line("contradiction", typed(command, *rest), (named,))


CONTRADICTIONS = {
    "train sde=ve sde.sigma_min=5 sde.sigma_max=1": "sde.sigma_max: 1.0",
    "train sde=edm sde.sigma_min=100": "sde.sigma_max: 80.0",
    "train loss=sliced": "SlicedScoreMatching",
    "train data=moons model=unet": "model.net.event_shape",
    "train run=t.npy": "run: t.npy is a file",
    "train run=tmp name=a": "name: ",
    "train run=run sde=ve": "sde",
    "train run=run trainer.steps=3": "trainer.steps: 3",
    "train run=run model.net.width=16": "model.net.width",
    "train trainer.micro_batch=7": "trainer.micro_batch",
    "train corrector@samplers.dopri5.corrector=langevin": "samplers.dopri5.corrector",
    "train samplers={auto:{_target_:scoresde.sampling.Sampler,steps:5}}": "+samplers.auto=",
    "train sde={betamin:1}": "sde.betamin: no such key; did you mean sde.beta_min?",
    "train model.net={widht:3}": "model.net.widht: no such key; did you mean model.net.width?",
    "train +foo=1": "foo: no such key",
    "train ~sde": "sde: ",
    "train sde=null": "sde=null: it cannot be left out",
    "train n=1,000": "n=1,000: several values",
    "train trainer.monitor=fid": "trainer.monitor: 'fid'",
    "train sde.beta_min=${nothing}": "nothing",
    "train device=tpu": "device: tpu",
    "train metrics=3": "metrics=3",
    "sample solver=heun sampler.eta=1": "sampler.eta: 1.0",
    "sample solver=torchdiffeq corrector=langevin": "sampler.corrector",
    "sample sampler=ddim": "solver=ddim",
    "sample checkpoint=77": "checkpoint: 77",
    "sample weights=avg": "weights: 'avg'",
    "sample weights=ema-0.5": "weights",
    "sample label=3": "label",
    "sample guidance=2": "guidance",
    "sample out=t.npy": "out: ",
    "sample out=run": "out: run",
    "sample solver=tuned sampler.steps=9": "tune",
    "sample precision=int8": "precision: 'int8'",
    "evaluate samples=t.npz n=7": "n",
    "evaluate run=null": "run: ",
    "evaluate metrics=[nosuch]": "nosuch",
    "evaluate_selftest run=run data=moons": "data",
    "compare solvers=[nosuch]": "nosuch",
    "compare solvers=[]": "solvers",
    "compare budgets=[0]": "budgets",
    "compare sdes=[vp,vpp]": "vpp",
    "compare dtype=float16": "dtype: 'float16'",
    "collect metric=nosuch": "metric",
    "collect keys=[nosuch]": "nosuch",
    "tune guidance=2": "guidance",
    "ema length=0.5": "length: 0.5",
    "ema length=0.1": "trainer.ema_power",
    "list format=xml": "format: 'xml'",
    "convert out=t.npy": "out: t.npy already exists",
    "convert to=onnx": "to: 'onnx'",
    "convert run=run": "run",
    "convert to=diffusers": "to=diffusers",
    "doctor out=run": "out",
}


def of_configurations() -> Iterator[Line]:
    """Configurations of run folders that are broken, or whose values are."""
    configs: dict[str, Any] = tests("test_damaged").CONFIGS
    using = ("sample", "train", "evaluate", "tune", "doctor", "ema", "compare")
    for k, (kind, (content, _)) in enumerate(configs.items()):
        run = copied(f"config-{k}")
        (run / "config.yaml").write_bytes(content)
        for name in (using[k % len(using)], using[(k + 3) % len(using)]):
            yield Line(f"configuration: {kind}", typed(name, f"run={run}"), (f"{run}/config.yaml",))
    whole = Path("run/config.yaml").read_text().partition("\n")[2]  # without its SHA-256
    for k, (old, new, named) in enumerate(VALUES):
        run = copied(f"value-{k}")
        assert old in whole, old
        (run / "config.yaml").write_text(whole.replace(old, new, 1))
        for name in ("sample", "train", "evaluate"):
            yield Line("value of a configuration", typed(name, f"run={run}"), (named,))


VALUES = [
    ("width: 8", "widht: 8", "model.net.widht"),
    ("width: 8", "width: eight", "model.net.width: 'eight'"),
    ("width: 8", "width: 0", "model.net.width: 0"),
    ("width: 8", "width: ${oc.env:HOME}", "model.net.width"),
    ("scoresde.VPSDE", "scoresde.VPSDEE", "sde._target_"),
    ("scoresde.VPSDE", "scoresde.Sampler", "sde._target_"),
    ("beta_min: ", "beta_min: -", "sde.beta_min: -"),
]


def of_files() -> Iterator[Line]:
    """JSON files of run folders that are broken, read by the commands that need them."""
    kinds: dict[str, Any] = tests("test_hostile_results").FILES
    for k, (name, words) in enumerate(READERS.items()):
        for i, kind in enumerate(kinds):
            if kind != "200 MB" or k == 0:
                run = copied(f"file-{k}-{i}")
                tests("test_hostile_results").write(run / name, kinds[kind])
                yield Line(f"file: {name}", [*words[:-1], f"{words[-1]}{run}"], (f"{run}/{name}",))


def of_data() -> Iterator[Line]:
    """Files and folders of data, by tests/test_bad_data.py, and what its answers must name."""
    for k, (make, named) in enumerate(tests("test_bad_data").BAD.values()):
        place = Path(f"data-{k}")
        place.mkdir()
        try:
            source = make(place)
        except InputError:
            continue
        if option := SOURCES.get(type(source)):
            defaults = {name: one.default for name, one in inspect.signature(type(source)).parameters.items()}
            given = {name: getattr(source, name) for name in ("path", "folder", "key") if name in defaults}
            words = [f"data.{key}={value}" for key, value in given.items() if value != defaults[key]]
            for command in ("train", "doctor") if k % 4 == 0 else ("train",):
                yield Line(f"data: {option}", typed(command, f"data={option}", *words), named)


def all_lines() -> list[Line]:
    """Every malformed call, with its files in the working directory."""
    return [line for rule in (of_keys, of_settings, of_configurations, of_files, of_data) for line in rule()]


def faults(line: Line, given: Answer) -> str:
    """What is wrong with the answer to a malformed call; empty if nothing is."""
    said = [text for text in given.lines if not text.startswith("warning: ")]
    wrong = [
        f"status {given.code}" * (given.code != 2),
        f"{len(given.lines)} lines" * (not 1 <= len(given.lines) <= 3 or not said),
        "".join(f"does not name {name}; " for name in line.named if name not in given.said),
        "no remedy" * (not REMEDY.search(given.said)),
        f"{given.seconds:.1f} s" * (given.seconds > SECONDS),
        f"changes {', '.join(given.changed)}" * bool(given.changed),
    ]
    return ", ".join(filter(None, wrong))


def campaign(lines: Sequence[Line], show: bool = False) -> tuple[list[Answer], list[str]]:
    """The answers, and a line for each that is not as it should be."""
    answers, wrong = [], []
    for line in lines:
        answers.append(given := answer(line.words))
        text = f"{line.rule}: scoresde {' '.join(line.words)}\n    {given.said[-600:]}"
        if show:
            print(text, flush=True)
        if fault := faults(line, given):
            wrong.append(f"{fault}: {text}")
    return answers, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, nargs="?", default=250)
    parser.add_argument("--show", action="store_true", help="print every call and its answer")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, prepared(Path(place, "here")):
        every = all_lines()
        lines = spread(every, given.count)
        answers, wrong = campaign(lines, given.show)
    kinds = Counter(line.rule.partition(":")[0] for line in lines)
    print(*(f"{kind:<28}{count:>5}" for kind, count in kinds.items()), *wrong, sep="\n")
    seconds = sorted(one.seconds for one in answers)
    print(
        f"{len(lines)} of {len(every)} calls, {len(wrong)} wrong; CPU time of each at most {seconds[-1]:.2f} s, half of"
    )
    print(f"them below {seconds[len(seconds) // 2]:.2f} s; at most {peak():.0f} MB")


if __name__ == "__main__":
    main()
