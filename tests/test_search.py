"""Launchers, sweepers and searches: what they set exists, a missing plugin is one line, agents of W&B can call it."""

import os
import signal
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from scoresde.cli import plugins, sweep_job
from scoresde.cli.arguments import parted
from scoresde.cli.main import main
from scoresde.cli.stops import JobFailed, Terminated, queue_again, terminate
from scoresde.training.stop import handling

ROOT = Path(__file__).parents[1]
FAST = ["data=moons", "data.n=60", "model=mlp", "model.net.width=8", "model.net.blocks=1", "debug=tiny", "logger=none"]


def composed(*words):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", list(words))


@pytest.mark.parametrize("setting", ["launcher=submitit", "launcher=submitit_local", "launcher=ray", "sweeper=optuna"])
def test_a_missing_plugin_is_one_line_with_what_to_install(setting, capsys, tmp_path, monkeypatch):
    group, _, option = setting.partition("=")
    extra = option.partition("_")[0]
    if find_spec(f"hydra_plugins.hydra_{extra}_{group}"):
        pytest.skip("it is installed")
    monkeypatch.chdir(tmp_path)
    assert main(["train", "-m", setting, "seed=0,1", *FAST]) == 2
    said = f'error: {group}={extra}: its plugin is not installed; pip install "scoresde[{extra}]"\n'
    assert capsys.readouterr().err == said
    assert not any(path.is_dir() for path in tmp_path.glob("runs/*"))
    extras = (ROOT / "pyproject.toml").read_text()
    assert f'\n{extra} = ["hydra-{extra}-{group}' in extras


@pytest.mark.parametrize("file", sorted((ROOT / "conf" / "hparams_search").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_search_varies_keys_that_exist_over_ranges_that_hold_their_defaults(file):
    params = yaml.safe_load(file.read_text())["hydra"]["sweeper"]["params"]
    cfg = composed()
    for key, text in params.items():
        (override,) = OverridesParser.create().parse_overrides([f"{key}={text}"])
        assert override.is_sweep_override()
        value, range_ = OmegaConf.select(cfg, key), override.value()
        given = list(override.sweep_iterator()) if override.is_choice_sweep() else []
        assert value in given or range_.start <= value <= range_.end


def test_an_agent_of_wandb_can_call_the_program():
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args  # takes seconds

    sweep = yaml.safe_load((ROOT / "docs" / "howto" / "sweep.yaml").read_text())
    # what the server sends, as an agent of wandb 0.31 receives it
    given = {"optimizer.lr": 0.0027513, "trainer.ema": 0.995, "trainer.channels_last": True, "init": None}
    given |= {"model.net.multipliers": [1, 2]}
    sent = {"type": "run", "run_id": "qs1x2y3z", "args": {key: {"value": value} for key, value in given.items()}}
    command = create_sweep_command(sweep["command"])
    at = command.index("${args_no_hyphens}")
    words = [*command[:at], *create_sweep_command_args(sent)["args_no_hyphens"], *command[at + 1 :]]
    assert words[1:3] == ["scoresde", "train"]
    cfg = composed(*parted("train", words[3:])[1])
    assert {key: OmegaConf.select(cfg, key) for key in given} == given
    assert cfg.logger.mode == "online"
    assert set(sweep["parameters"]) <= set(given)


@pytest.mark.filterwarnings("default")  # of old versions that the plugin needs
def test_a_search_that_goes_on_proposes_the_same_jobs_and_runs_the_missing_ones(tmp_path, monkeypatch, capsys):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    monkeypatch.chdir(tmp_path)
    search = ["train", "sweeper=optuna", "optimizer.lr=tag(log,interval(1e-4,1e-2))", "samplers.dopri5.steps=3", *FAST]
    assert main([*search, "hydra.sweeper.n_trials=1"]) == 0
    assert main([*search, "hydra.sweeper.n_trials=2"]) == 0
    assert "job 1  optimizer.lr=" in capsys.readouterr().out
    (sweep,) = Path("runs").iterdir()
    assert len(list(sweep.glob("?-*"))) == 2
    assert (sweep / "optuna.db").exists()
    assert main([*search, "hydra.sweeper.n_trials=2", "sweep=new"]) == 0
    begun = [sorted(path.name[:-7] for path in one.glob("?-*")) for one in Path("runs").iterdir()]
    assert begun[0] == begun[1]


def test_a_job_of_slurm_passes_its_warning_on_to_submitit(monkeypatch):
    passed = []
    with handling([signal.SIGUSR2], lambda number, _: passed.append(number)):
        queue_again(SystemExit(128 + signal.SIGUSR2))
        assert not passed  # no submitit
        monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
        queue_again(Terminated(signal.SIGTERM))  # which nobody has taken: it would end the process
        queue_again(SystemExit(2))
        assert not passed
        queue_again(SystemExit(128 + signal.SIGUSR2))
    assert passed == [signal.SIGUSR2]


def test_ray_keeps_our_handlers_of_signals_and_all_lines(monkeypatch):
    ray = ModuleType("ray")
    ray.__spec__ = ModuleSpec("ray", None)
    ray.init = init = lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN)
    monkeypatch.setitem(sys.modules, "ray", ray)
    for name in plugins._RAY:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    with handling([signal.SIGTERM], terminate):
        ours = signal.getsignal(signal.SIGTERM)
        with plugins.quieted(["launcher=ray"]):
            ray.init()
            assert signal.getsignal(signal.SIGTERM) is ours
            assert os.environ["RAY_DEDUP_LOGS"] == "0"
    assert ray.init is init


@pytest.mark.parametrize(("launcher", "raised"), [("hydra_ray_launcher.RayLauncher", JobFailed), ("Basic", SystemExit)])
def test_a_job_that_is_stopped_does_not_end_a_worker_of_ray(launcher, raised, monkeypatch):
    cfg = OmegaConf.create({"launcher": {"_target_": launcher}})
    monkeypatch.setattr(sweep_job.HydraConfig, "get", lambda: cfg)
    with pytest.raises(raised), sweep_job.worker_kept():
        raise SystemExit(143)
