"""Hostile names of classes, files, folders and settings: is anything executed, written elsewhere, or connected to?

    python benchmarks/campaigns/hostile.py 80 64 16 [--show]

So many of each, by fixed rules from the lists of tests/. Each call is a child of this process with an audit hook, which
sees programs that are started, libraries that are loaded, code of a stranger that is imported, sockets, and changes
outside of the working directory, through links too. Each must end in one line, or without any of the stranger's wishes
fulfilled, within 3 s of CPU time and 500 MB.
"""

import argparse
import os
import pickle
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from calls import MEGABYTES, READERS, SECONDS, Answer, answer, copied, peak, prepared, tests, typed
from malformed import spread

EXECUTED = {"os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "ctypes.dlopen", "pty.spawn"}
CONNECTED = {"socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"}
WRITTEN = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "os.link", "os.symlink"}
MARK = "seen: "  # what begins a line of the hook
NAMES = """
os.popen os.execv os.posix_spawn os.remove shutil.rmtree subprocess.run subprocess.check_output runpy.run_path
importlib.import_module pickle.loads marshal.loads ctypes.CDLL socket.create_connection urllib.request.urlopen
http.client.HTTPConnection webbrowser.open pathlib.Path.write_text logging.FileHandler tempfile.mkdtemp
multiprocessing.Process threading.Thread torch.hub.load torch.utils.cpp_extension.load torch.save numpy.save
numpy.memmap pandas.read_pickle hydra.utils.instantiate omegaconf.OmegaConf.load yaml.unsafe_load joblib.load
code.interact pdb.run timeit.timeit trap.Trap trap scoresde.files.os.system scoresde.files.shutil.rmtree
scoresde.cli.main.main torch.optim.optimizer.functools.partial torch.nn.parallel.distributed.os.system
torch.nn.Module.__init__.__globals__
"""  # besides those of tests/test_build.py


class Attack(NamedTuple):
    """A call with something hostile in it: its kind, what it is called in the table, and the words."""

    kind: str
    name: str
    words: list[str]


class Harm:
    """Writes a file when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> Any:
        return Path.write_text, (self.proof, "it ran")


def changed(name: str, parts: dict[str, Any]) -> Path:
    """A copy of the run whose configuration has other parts; those with dots in their names are inner ones."""
    copy = copied(name)
    cfg = yaml.safe_load((copy / "config.yaml").read_text())
    for key, value in parts.items():
        *parents, last = key.split(".")
        place = cfg
        for part in parents:
            place = place.setdefault(part, {})
        place[last] = value
    (copy / "config.yaml").write_text(yaml.safe_dump(cfg))
    return copy


def targets(count: int) -> Iterator[Attack]:
    """Names of what is no class for a configuration, in each place of one, typed or in a run folder."""
    (mark,) = tests("test_build").test_refuses_what_must_not_be_named.pytestmark
    names, slots = [*mark.args[1], *NAMES.split()], tests("test_stranger").SLOTS
    commands = ("sample", "train", "evaluate", "tune", "doctor")
    for k in range(count):
        name, slot = names[k % len(names)], slots[k % len(slots)]
        if k % 2:
            words = typed("train", f"++{slot}={{_target_:{'null' if name is None else name}}}")
        else:
            own = slot if slot.partition(".")[0] in ("sde", "data", "model") else "sde"
            run = changed(f"target-{k}", {own: {"_target_": name, "args": ["touch ../proof"]}})
            command = "doctor" if own.startswith("data") else commands[k // 2 % (4 if own == "model" else 5)]
            words = typed(command, f"run={run}")
        yield Attack("target", f"{slot}: {name}", words)


def files(count: int) -> Iterator[Attack]:
    """Files and folders that want to be executed, followed, or to exhaust what there is."""
    yield from spread([*_configurations(), *_json_files(), *_weights(), *_data(), *_links()], count)


def _configurations() -> Iterator[Attack]:
    for k, (kind, (content, _)) in enumerate(tests("test_damaged").CONFIGS.items()):
        run = copied(f"config-{k}")
        (run / "config.yaml").write_bytes(content)
        yield Attack("file", f"config.yaml: {kind}", typed(("sample", "train", "ema")[k % 3], f"run={run}"))


def _json_files() -> Iterator[Attack]:
    module = tests("test_hostile_results")
    for k, (name, words) in enumerate(READERS.items()):
        for i, (kind, content) in enumerate(module.FILES.items()):
            run = copied(f"json-{k}-{i}")
            module.write(run / name, content)
            yield Attack("file", f"{name}: {kind}", [*words[:-1], f"{words[-1]}{run}"])


def _weights() -> Iterator[Attack]:
    layout, proof = tests("score_sde_layout"), Path("..", "proof").absolute()
    torch.save(layout.checkpoint(layout.config("vpsde"))[0], "weights.pth")
    for name, (content, _) in tests("test_convert_cli").HOSTILE.items():
        Path(name).write_text("" if isinstance(content, int) else content)
        os.truncate(name, content if isinstance(content, int) else len(content))
        yield Attack("file", f"config={name}", ["convert", "file=weights.pth", f"config={name}", "out=new"])
    Path("pickle.pth").write_bytes(pickle.dumps(Harm(proof)))
    torch.save(Harm(proof), "zip.pth")
    torch.save({"model": layout.checkpoint(layout.config("vpsde"))[0]["model"], "step": Harm(proof)}, "beside.pth")
    np.savez("harm.npz", allow_pickle=True, a=np.array([Harm(proof)], dtype=object))
    for name in ("pickle.pth", "zip.pth", "beside.pth", "harm.npz"):
        yield Attack("file", f"file={name}", ["convert", f"file={name}", "sde=vp", "model=ddpmpp", "out=new"])
    run = copied("unpickled")
    checkpoint = max((run / "checkpoints").glob("step-*"))
    for name in ("model", "ema", "optimizer"):
        (checkpoint / f"{name}.safetensors").write_bytes(Path("zip.pth").read_bytes())
    yield Attack("file", "a pickle as safetensors", typed("sample", f"run={run}"))


def _data() -> Iterator[Attack]:
    bomb = np.array([Harm(Path("..", "proof").absolute())] * 4, dtype=object)
    np.save("bomb.npy", bomb)
    np.savez("bomb.npz", allow_pickle=True, a=bomb)
    Path("formula.csv").write_text("a,b\n1,=cmd|'/c touch ../proof'!A0\n1,2\n")
    os.mkfifo("pipe.npy")
    header = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x01\x86\xa0\x00\x01\x86\xa0\x08\x02\x00\x00\x00"
    Path("bombs").mkdir()
    for k in range(3):
        Path("bombs", f"{k}.png").write_bytes(header + b"\x00" * 64)
    with Path("large.npy").open("wb") as file:  # its header promises 80 TB
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**13, 1)})
    for name in ("bomb.npy", "bomb.npz", "formula.csv", "large.npy", "pipe.npy"):
        yield Attack("file", f"data={name}", typed("train", "data=array", f"data.path={name}"))
    yield Attack("file", "images of 30 GB", typed("train", "data=folder", "data.path=bombs", "model=unet"))
    yield Attack("file", "samples that are a pickle", typed("evaluate", "samples=bomb.npz", "run=run"))


def _links() -> Iterator[Attack]:
    """Parts of a run folder that lie elsewhere, where something could be read or overwritten."""
    theirs = Path("..", "theirs").absolute()
    theirs.mkdir()
    for k, name in enumerate(("config.yaml", "samples", "checkpoints", "metrics.jsonl", "summary.json", "wandb")):
        run = copied(f"link-{k}")
        there = theirs / f"{k}-{name}"
        (run / name).rename(there) if (run / name).exists() else there.mkdir()
        (run / name).symlink_to(there)
        for words in (["train", "trainer.steps=29", "logger=none"], ["sample", "n=2"]):
            yield Attack("file", f"{name} is a link", [*words, f"run={run}"])
    pipe = copied("link-pipe")
    (pipe / "config.yaml").unlink()
    os.mkfifo(pipe / "config.yaml")
    yield Attack("file", "config.yaml is a pipe", typed("sample", f"run={pipe}"))
    itself = copied("link-loop")
    (itself / "loop").symlink_to(itself.absolute())
    yield Attack("file", "a folder within itself", typed("collect", f"folder={itself}"))


def tricks(count: int) -> Iterator[Attack]:
    """Settings that mean something to Hydra, OmegaConf or the program, typed or stored."""
    proof, harm = Path("..", "proof").absolute(), {"_target_": "os.system", "command": "touch ../proof"}
    Path("trap.py").write_text("import os\nos.system('touch ../proof')\n\n\nclass Trap:\n    pass\n")
    Path("evil").mkdir()
    evil = {"hydra": {"callbacks": {"own": {"_target_": "trap.Trap"}}}, "defaults": ["/train", "_self_"]}
    Path("evil/evil.yaml").write_text(yaml.safe_dump(evil))
    typed_ones = {
        "a callback": ["+hydra.callbacks.own._target_=trap.Trap"],
        "a callback of the system": ["+hydra.callbacks.own={_target_:os.system,command:'touch ../proof'}"],
        "another launcher": ["-m", "seed=0,1", "hydra.launcher._target_=trap.Trap"],
        "another sweeper": ["-m", "seed=0,1", "hydra.sweeper._target_=trap.Trap"],
        "another folder of Hydra": [f"hydra.run.dir={proof}", "hydra.output_subdir=x"],
        "a working directory": ["hydra.job.chdir=true", f"hydra.run.dir={proof}"],
        "a pickle of Hydra": ["--experimental-rerun=pickle.pth"],
        "configurations of a folder": ["-cd", "evil", "-cn", "evil"],
        "a search path": ["hydra.searchpath=[file://evil]", "experiment=evil"],
        "a log file": [f"hydra/job_logging=default hydra.job_logging.handlers.file.filename={proof}"],
        "a partial object": ["++model.net={_target_:os.system,_partial_:true}"],
        "positional arguments": ["++sde._args_=[a]"],
    }
    stored: dict[str, dict[str, Any]] = {
        "its own permission": {"allow": ["trap"], "model.net": {"_target_": "trap.Trap"}},
        "its own folder": {"run": str(proof), "out": str(proof)},
        "an online logger": {"logger": {"_target_": "scoresde.loggers.WandbLogger", "mode": "online"}},
        "the environment": {"name": "${oc.env:HOME}"},
        "a file as logger": {"logger": {"_target_": "scoresde.loggers.MetricsFile", "path": str(proof)}},
        "data that are fetched": {"data": {"_target_": "scoresde.data.HuggingFace", "path": "they/set"}},
        "a cache elsewhere": {"data.cache": str(proof)},
        "a configuration of Hydra": {"hydra": {"callbacks": {"own": harm}}},
    }
    rest = [Attack("trick", name, typed("train", *words)) for name, words in typed_ones.items()]
    for k, (name, parts) in enumerate(stored.items()):
        run = changed(f"stored-{k}", parts)
        rest.append(Attack("trick", f"stored: {name}", ["train", f"run={run}", "trainer.steps=21", "logger=none"]))
    yield from spread(rest, count)


def spied(place: Path) -> Callable[[], object]:
    """What a child calls first: from then on it prints a line for each event that a stranger may not cause."""

    def outside(name: Any) -> bool:
        if isinstance(name, int) or name is None:
            return False
        where = os.path.realpath(os.fsdecode(name))
        return not where.startswith((f"{place}{os.sep}", "/dev/", "/proc/")) and where != str(place)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        what = ""
        if (event in EXECUTED and arguments[0] is not None) or (
            event == "import" and str(arguments[0]).partition(".")[0] == "trap"
        ):
            what = "executed"
        elif event in CONNECTED:
            what = "connected"
        elif (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        ):
            what = "written" * outside(arguments[0])
        elif event in WRITTEN:
            what = "written" * any(map(outside, arguments[: 1 + (event in ("os.rename", "os.link"))]))
        if what:
            os.write(2, f"{MARK}{what} {event} {str(arguments)[:200]}\n".encode())

    return lambda: sys.addaudithook(hook)


def faults(given: Answer, proof: Path) -> str:
    """What a call did that it may not do; empty if nothing."""
    said = [line for line in given.lines if not line.startswith((MARK, "warning: "))]
    wrong = [line.removeprefix(MARK) for line in given.lines if line.startswith(MARK)]
    wrong += ["executed: its file is there"] * proof.exists()
    wrong += [f"status {given.code}"] * (given.code not in (0, 2))
    errors = sum(line.startswith("error: ") for line in said)
    wrong += [f"{errors} errors in {len(said)} lines"] * (given.code == 2 and (errors != 1 or len(said) > 3))
    wrong += [f"{given.seconds:.1f} s"] * (given.code == 2 and given.seconds > SECONDS)
    return ", ".join(wrong)


def campaign(
    kinds: Sequence[Sequence[Attack]], show: bool = False, megabytes: float = MEGABYTES
) -> tuple[list[str], list[str]]:
    """The table by kind, and a line for each attack that did what it may not; a child has the memory of its parent."""
    here, rows, wrong, most = Path.cwd(), [], [], 0.0
    proof = here.parent / "proof"
    watch = spied(here)
    for attacks in filter(None, kinds):
        answers = []
        for attack in attacks:
            answers.append(given := answer(attack.words, watch))
            fault = faults(given, proof)
            most, before = peak(), most
            fault += f", {most:.0f} MB" * (most > max(before, megabytes))
            shutil.rmtree(proof) if proof.is_dir() else proof.unlink(missing_ok=True)
            text = f"{attack.name}: scoresde {' '.join(attack.words)}\n    {given.said[-600:]}"
            if show:
                print(text, flush=True)
            wrong += [f"{fault}: {text}"] if fault else []
        refused = [one.seconds for one in answers if one.code == 2]
        numbers = f"{len(answers):>6}{len(refused):>10}{len(answers) - len(refused):>10}{max(refused, default=0):>8.2f}"
        rows.append(f"{attacks[0].kind:<10}{numbers}")
    head = f"{'kind':<10}{'calls':>6}{'refused':>10}{'harmless':>10}{'CPU s':>8}"
    return [head, *rows, f"at most {most:.0f} MB"], wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, usual in (("targets", 80), ("files", 64), ("tricks", 16)):
        parser.add_argument(name, type=int, nargs="?", default=usual)
    parser.add_argument("--show", action="store_true", help="print every call and its answer")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, prepared(Path(place, "here")):
        kinds = [[*targets(given.targets)], [*files(given.files)], [*tricks(given.tricks)]]
        rows, wrong = campaign(kinds, given.show)
    print(*rows, f"did what it may not: {len(wrong)}", *wrong, sep="\n")


if __name__ == "__main__":
    main()
