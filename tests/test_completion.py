"""Completion at a TAB, as bash does it."""

import os
import pty
import re
import resource
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scoresde.cli.command import all_commands
from scoresde.cli.completion import completion, words
from scoresde.cli.keys import keys
from scoresde.cli.main import main
from scoresde.named import options

BASH = shutil.which("bash")
needs_bash = pytest.mark.skipif(BASH is None, reason="there is no bash")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with runs, and with the program on the path."""
    for name in ("runs/moons", "runs/my run", "runs/sweep/0-seed_0", ".hidden"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("moons", "my run", "sweep/0-seed_0"):
        (tmp_path / "runs" / name / "config.yaml").touch()
    (tmp_path / "table.csv").touch()
    program = tmp_path / "bin" / "scoresde"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m scoresde "$@"\n')
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return tmp_path


def test_commands_groups_keys_options_and_folders(here):
    first = {row.words.partition(" ")[0] for row in all_commands().values()}
    assert words("scoresde ") == sorted([*first, "completion", "--help", "--version"])
    assert words("scoresde sam") == words("scoresde   sam") == ["sample"]
    assert words("scoresde train sde=") == [f"sde={name}" for name in sorted(options("sde"))]
    assert words("scoresde train -m sde=vp,v") == ["sde=vp,ve", "sde=vp,vp"]
    assert words("scoresde compare solvers=[heun,ddi") == ["solvers=[heun,ddim"]
    assert words("scoresde train solver@samplers.dopri5.solver=heu") == [
        "solver@samplers.dopri5.solver=heun",
        "solver@samplers.dopri5.solver=heun_churn",
    ]
    assert words("scoresde sample form") == ["format="]
    assert words("scoresde sample format=") == ["format=npz", "format=png"]
    assert words("scoresde sample compile=") == ["compile=false", "compile=true"]
    assert words("scoresde sample run=") == ["run=bin/", "run=runs/"]
    assert words("scoresde sample run=runs/") == ["run=runs/moons", "run=runs/my run", "run=runs/sweep/"]
    assert words(r"scoresde sample run=runs/my\ r") == ["run=runs/my run"]
    assert words("scoresde train data.path=t") == ["data.path=table.csv"]
    assert words("scoresde convert file=runs/moons/c") == ["file=runs/moons/config.yaml"]
    assert words("scoresde completion ") == ["bash", "fish", "zsh"]
    assert words("scoresde nothing ") == words("scoresde sample run=no/such/") == []


def test_every_key_is_reached_part_by_part_and_follows_the_options_that_are_typed(here):
    for name in all_commands():
        for key in keys(name):
            begun = ""
            while f"{key.name}=" != begun:
                (begun,) = (w for w in words(f"scoresde {name} {begun}") if f"{key.name}=".startswith(w) and w != begun)
    assert "sde.sigma_max=" in words("scoresde train sde=ve sde.")
    assert "sde.beta_max=" in words("scoresde train sde.")


def replies(*lines: str) -> list[list[str]]:
    """What the function of the script gives readline for these lines."""
    asked = "".join(
        f"COMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}; _scoresde scoresde; printf '%s\\n' \"${{COMPREPLY[@]}}\" --;"
        for line in lines
    )
    script = f"source <(scoresde completion bash)\ncomplete -p scoresde\n{asked}"
    done = subprocess.run([BASH, "--norc", "-c", script], capture_output=True, text=True, check=True)
    registered, *found = done.stdout.splitlines()
    assert registered == "complete -o nospace -F _scoresde scoresde"
    return [block.splitlines() for block in "\n".join(found).removesuffix("--").split("--\n")]


@needs_bash
def test_bash_gets_what_stands_behind_its_word_breaks(here):
    sets, folder, blank, command, place = replies(
        "scoresde train sde=v",
        "scoresde sample run=runs/s",
        "scoresde sample run=runs/my",
        "scoresde com",
        "scoresde train solver@samp",
    )
    assert sets == ["ve ", "vp "]  # the word after =, and a blank after what is complete
    assert folder == ["runs/sweep/"]
    assert blank == ["runs/my\\ run "]
    assert command == ["compare ", "completion "]
    assert place == ["samplers."]


@needs_bash
def test_a_tab_in_a_terminal_completes_the_line(here):
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ |= {"PS1": "> ", "TERM": "dumb"}
        os.execv(BASH, [BASH, "--norc", "-i"])
    shown = ""

    def until(pattern: str) -> None:
        nonlocal shown
        end = time.monotonic() + 30
        while not re.search(pattern, shown) and time.monotonic() < end:
            if select.select([terminal], [], [], 1)[0]:
                shown += os.read(terminal, 4096).decode()
        assert re.search(pattern, shown), shown

    os.write(terminal, b"source <(scoresde completion bash); echo re''ady\n")
    until("\nready")
    os.write(terminal, b"echo scoresde; scoresde sample run=runs/my\t")
    until(r"run=runs/my\\ run ")
    os.write(terminal, b"\x15scoresde list form\tj\t")
    until("list format=json")
    os.write(terminal, b"\x15exit\n")
    os.waitpid(pid, 0)
    os.close(terminal)


def test_a_tab_takes_no_torch_and_less_than_a_third_of_a_second(here):
    code = "import sys; from scoresde.cli.main import main; main(['completion', 'words', 'scoresde train sde.']); "
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code += "print({'torch', 'hydra', 'numpy', 'scipy', 'pydantic'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.splitlines()[-1] == "set()"
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell(shell, capsys):
    assert main(["completion", shell]) == 0
    assert capsys.readouterr().out == completion([shell])
    if program := shutil.which(shell):
        assert subprocess.run([program, "-n"], input=completion([shell]), text=True, check=True).returncode == 0


def test_another_shell_is_one_line(capsys):
    assert main(["completion", "tcsh"]) == 2
    assert capsys.readouterr().err == "error: completion: 'tcsh' is not possible; give one of bash, zsh, fish\n"
