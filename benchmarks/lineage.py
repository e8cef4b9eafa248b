"""The five of the lineage on the digits at equal training time: `python benchmarks/lineage.py`.

Each is its preset, trained from the command line with the same U-Net for the same CPU time on one thread; the number of
steps follows from two short trainings that are timed. Printed for the sampler of the paper and for `auto` with 20
evaluations on the same network: the sliced Wasserstein distance of samples to held-out digits over that of training
digits, the distance to the nearest training item over that of held-out digits, and the evaluations of a sample, with
95 % intervals over the seeds. The picture has samples of the first seed; run it with OMP_NUM_THREADS=1.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from record import save

from scoresde import Sampler, load
from scoresde.build import build
from scoresde.figures import style
from scoresde.results import Results
from scoresde.results.interval import student

# the sampler of the paper, and what the preset needs here
_CHAIN, _LANGEVIN = "predictor_corrector", "annealed_langevin"  # where presets put their own
_NET = "{_target_: scoresde.nets.UNet, channels: 32, outputs: 2, dropout: 0.1}"
_DIGITS = ("data=digits", "sde.levels=1000", f"samplers.{_CHAIN}.steps=1000", "~model.net", f"+model.net={_NET}")
FIVE: dict[str, tuple[str, tuple[str, ...]]] = {
    "diffusion, 2015": (_CHAIN, ("experiment=diffusion_2015", *_DIGITS)),
    "NCSN, 2019": (_LANGEVIN, ("experiment=ncsn",)),
    "DDPM, 2020": (_CHAIN, ("experiment=ddpm",)),
    "improved DDPM, 2021": (_CHAIN, ("experiment=improved_ddpm",)),
    "score SDE, 2021": (_CHAIN, ("experiment=score_sde",)),
}
# all with one optimizer and one batch size
_DEFAULT = ("predictor_corrector", "dpmpp_2m", "dopri5")  # samplers of `scoresde train`
_SAME = ("optimizer.lr=0.001", "trainer.batch_size=64", "trainer.evaluate_every=100000")
TODAY = "+samplers.today={_target_: scoresde.sampling.Sampler, steps: 20}"  # of `auto`, the default
KEYS = ("sliced_wasserstein", "nearest_train")
PROBE = (50, 250)  # steps that are timed
_SHOWN = (6, 5)  # rows and columns of images


def train(folder: Path, words: Sequence[str], seed: int, steps: int, n: int) -> float:
    """Train from the command line and draw n samples with each sampler; returns the CPU seconds of all."""
    settings = [f"run={folder}", f"seed={seed}", f"trainer.steps={steps}", f"n={n}", "trainer.auto_check=0"]
    command = [sys.executable, "-m", "scoresde", "train", *words, *_SAME, *settings, TODAY, "logger=none", "device=cpu"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def steps_for(seconds: float, folder: Path, words: Sequence[str]) -> int:
    """The steps of a training that take so many CPU seconds, from two short ones that differ in their number."""
    few, many = (train(folder / f"probe-{steps}", words, 0, steps, 2) for steps in PROBE)
    return round(seconds * (PROBE[1] - PROBE[0]) / (many - few))


def measured(run: Path, sampler: str) -> dict[str, float]:
    """The ratios of `KEYS`, and the evaluations, of one sampler of a training."""
    results = Results.of_content(json.loads((run / "summary.json").read_text())["results"], run)
    row = next(row for row in results.rows if row.name == sampler)
    assert row.nfe is not None, row.error
    return {"nfe": row.nfe, **{key: results.ratio(row, results.quantities[key]).mean for key in KEYS}}


def picture(runs: dict[str, Path], rows: dict[str, Any], file: Path) -> None:
    """Samples of the sampler of each paper, side by side, with what they cost and how far they are from the data."""
    figure, axes = style.panels(1, len(runs), 2.05, 2.25)
    for (name, folder), ax in zip(runs.items(), axes[0], strict=True):
        run, own, (down, across) = load(folder, device="cpu"), rows[name]["paper"], _SHOWN
        sampler = build(run.config["samplers"][FIVE[name][0]], "sampler", (), Sampler)
        drawn = run.sample(down * across, seed=1, sampler=sampler)
        ax.imshow(style.tiled(drawn.data, *style.greys(drawn.data, drawn.transform), across), interpolation="nearest")
        ax.set_axis_off()
        ax.set_title(f"{name}\n{own['nfe'][0]:.0f} evaluations, {own[KEYS[0]][0]:.2f}", fontsize=9, color=style.INK)
    style.save(figure, file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=120.0, help="CPU seconds of a training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--n", type=int, default=500, help="samples of each sampler")
    parser.add_argument("--only", nargs="*", default=list(FIVE), choices=list(FIVE), metavar="NAME")
    parser.add_argument(
        "--folder", type=Path, help="where the runs are kept; those that are there are not trained again"
    )
    parser.add_argument("--picture", type=Path, default=Path(__file__).parents[1] / "docs" / "lineage" / "five.png")
    a = parser.parse_args()
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        home = a.folder or Path(temporary)
        first = {name: home / name.replace(", ", "-").replace(" ", "-") / "0" for name in a.only}
        print("                                        steps  sampler            evaluations   distance      nearest")
        for name in a.only:
            rows[name] = five(name, first[name].parent, a)
            for kind, own in rows[name].items():
                if isinstance(own, dict):
                    shown = "  ".join(f"{mean:8.3f} ± {half or 0:.3f}" for mean, half in (own[key] for key in KEYS))
                    print(f"{name:24} {rows[name]['steps']:20}  {kind:10} {own['nfe'][0]:10.0f}  {shown}", flush=True)
        picture(first, rows, a.picture)
    print(f"written to {save('lineage', {'seconds': a.seconds, 'n': a.n, 'seeds': a.seeds, 'rows': rows})}")


def five(name: str, home: Path, a: argparse.Namespace) -> dict[str, Any]:
    """Train one of the five with each seed, and measure it: means with half-widths of their intervals."""
    sampler, own = FIVE[name]
    words = [*own, *(f"samplers.{other}._target_=null" for other in _DEFAULT if other != sampler)]
    steps = home / "steps"
    if not steps.is_file():
        found = steps_for(a.seconds, home, words)
        steps.write_text(str(found))
    for seed in range(a.seeds):
        if not (home / str(seed) / "summary.json").is_file():
            train(home / str(seed), words, seed, int(steps.read_text()), a.n)
    kinds = {"paper": sampler, "today": "today"}
    values = {kind: [measured(home / str(seed), one) for seed in range(a.seeds)] for kind, one in kinds.items()}
    means = {
        kind: {key: student([run[key] for run in runs])[:2] for key in ("nfe", *KEYS)} for kind, runs in values.items()
    }
    return {"steps": int(steps.read_text()), **means}


if __name__ == "__main__":
    main()
