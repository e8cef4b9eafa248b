"""Writes folders of results as the program at hand makes them: `python tests/golden.py tests/fixtures/COMMIT`.

test_old_results.py loads them ever after. What names a machine is taken out, and pictures, which nothing reads.
"""

import contextlib
import json
import platform
import sys
from pathlib import Path

import numpy as np
import torch
from score_sde_layout import checkpoint, config

from scoresde.cli.main import main

SMALL = ["debug=tiny", "model=mlp", "model.net.width=4", "data=array", "data.path=t.npy", "device=cpu", "logger=none"]
SMALL += ["trainer.steps=4", "trainer.checkpoint_every=2", "trainer.log_every=1", "trainer.keep_last=1", "n=6"]
SMALL += ["~samplers.predictor_corrector", "~samplers.dopri5", "samplers.dpmpp_2m.steps=2", "metrics=distances"]
SMALL += ["model.net.blocks=1", "model.net.embedding=4"]
SWEEP = ["train", "-m", "sweep=sweep", "seed=0,1", *SMALL]
FOREIGN = config("vpsde", nf=4, ch_mult=[1], attn_resolutions=[], beta_max=1.0)
SAMPLES = {
    "run/samples/tuned": ["run=run", "n=8", "device=cpu", "solver=tuned", "grid=tuned", "sampler.steps=5"],
    "converted/samples/ddim": ["run=converted", "n=2", "device=cpu", "solver=ddim", "sampler.steps=3"],
}
CALLS = [
    SWEEP,
    ["train", "run=run", *SMALL],
    ["tune", "run=run", "device=cpu", "sampler.steps=5", "tune.n=16", "tune.iterations=2", "tune.fine=10"],
    ["convert", "file=weights.pth", "config=config.json", "out=converted"],
    *(["sample", f"out={out}", *words] for out, words in SAMPLES.items()),
]


def write(place: Path) -> None:
    place.mkdir(parents=True)
    with contextlib.chdir(place):
        np.save("t.npy", np.random.default_rng(0).normal(size=(60, 2)))
        torch.save(checkpoint(FOREIGN)[0], "weights.pth")
        Path("config.json").write_text(json.dumps(FOREIGN))
        for words in CALLS:
            assert main(words) == 0, words
        for name in ("weights.pth", "config.json", "sweep/multirun.yaml"):
            Path(name).unlink()
        for file in sorted(Path().rglob("*"), reverse=True):
            if file.suffix in (".png", ".svg", ".lock") or file.name == ".lock":
                file.unlink()
            elif file.is_dir() and not any(file.iterdir()):
                file.rmdir()
        for file in Path().rglob("*.json"):
            text = file.read_text()
            for own, name in ((json.dumps(platform.node()), '"elsewhere"'), (platform.platform(), platform.system())):
                text = text.replace(own, name)
            file.write_text(text)


if __name__ == "__main__":
    torch.set_num_threads(1)
    write(Path(sys.argv[1]))
