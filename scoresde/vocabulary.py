"""What other programs call the settings and options of this one, for the line that answers an unknown name."""

from collections.abc import Collection, Mapping

_STEPS = ("trainer.steps", "sampler.steps", "budgets")
_KEYS: dict[str, tuple[str, ...]] = {  # the first that the command has is meant
    **dict.fromkeys(("steps", "num_steps", "max_steps", "total_steps", "iterations", "iters", "n_iters"), _STEPS),
    **dict.fromkeys(("num_inference_steps", "sampling_steps", "nfe"), ("sampler.steps", "budgets")),
    **dict.fromkeys(("lr", "learning_rate"), ("optimizer.lr",)),
    **dict.fromkeys(("batch", "bs", "batchsize", "train_batch_size"), ("trainer.batch_size", "batch_size")),
    **dict.fromkeys(("sampler", "scheduler"), ("solver", "solvers", "solver@samplers.dpmpp_2m.solver")),
    **dict.fromkeys(("guidance_scale", "cfg_scale", "cfg"), ("guidance",)),
    **dict.fromkeys(("num_samples", "n_samples", "samples"), ("n",)),
    **dict.fromkeys(("gpu", "cuda", "accelerator"), ("device",)),
    **dict.fromkeys(("dataset", "data_path", "data_dir"), ("data",)),
    **dict.fromkeys(("fp16", "bf16", "amp", "mixed_precision"), ("trainer.precision", "precision")),
    **dict.fromkeys(("resume", "ckpt", "checkpoint_path", "resume_from"), ("run",)),
    **dict.fromkeys(("schedule", "noise_schedule", "beta_schedule"), ("sde",)),
    **dict.fromkeys(("wandb", "log"), ("logger",)),
    **dict.fromkeys(("out", "output", "output_dir", "outdir", "save_dir", "logdir"), ("out", "run")),
    "grad_clip": ("trainer.clip",),
    "ema_decay": ("trainer.ema",),
}
_EPOCHS = "training is counted in steps, of trainer.batch_size items each; write trainer.steps=..."
_DATA_LOADER = "data are read by the program itself; there is nothing to set"
_DEVICE = "a run uses one device; write device=cuda:0"
_ABSENT = {
    **dict.fromkeys(("epochs", "epoch", "max_epochs", "num_epochs", "n_epochs"), _EPOCHS),
    **dict.fromkeys(("num_workers", "workers", "pin_memory", "prefetch"), _DATA_LOADER),
    **dict.fromkeys(("gpus", "devices", "nodes", "num_gpus", "world_size"), _DEVICE),
}
_OPTIONS: dict[str, dict[str, str]] = {
    "solver": {
        **dict.fromkeys(("dpmpp", "dpmsolverpp", "dpm_solverpp", "dpmpp_2"), "solver=dpmpp_2m"),
        **dict.fromkeys(("dpm", "dpm_solver", "dpm2"), "solver=dpm_solver_2"),
        **dict.fromkeys(("ddpm", "euler_a", "euler_ancestral"), "solver=ancestral"),
        **dict.fromkeys(("plms", "pndm"), "solver=ipndm"),
        **dict.fromkeys(("unipc", "uni_pc"), "solver=unipc_2"),
        **dict.fromkeys(("pc", "predictor_corrector"), "solver=reverse_diffusion corrector=langevin"),
        **dict.fromkeys(("ode", "rk45"), "solver=scipy"),
        "edm": "solver=heun grid=karras",
    },
    "data": {
        "mnist": "data=huggingface data.path=ylecun/mnist data.size=28",
        "cifar10": "data=huggingface data.path=uoft-cs/cifar10 data.size=32",
        "cifar100": "data=huggingface data.path=uoft-cs/cifar100 data.size=32",
        **dict.fromkeys(("csv", "table", "npy", "npz", "numpy"), "data=array data.path=table.csv"),
        **dict.fromkeys(("images", "image_folder", "imagefolder"), "data=folder data.path=photos"),
        "hf": "data=huggingface data.path=OWNER/NAME",
    },
    "loss": {
        **dict.fromkeys(("flow", "flow_matching", "fm", "cfm", "rectified"), "loss=velocity"),
        **dict.fromkeys(("ddpm", "simple", "mse", "eps"), "loss=noise"),
    },
    "sde": {
        **dict.fromkeys(("ddpm", "linear"), "sde=vp"),
        **dict.fromkeys(("flow", "flow_matching", "fm", "rectified_flow", "ot"), "sde=rectified"),
        **dict.fromkeys(("smld", "ncsn"), "sde=ve"),
    },
    "metrics": {"fid": "metrics=frechet", "kid": "metrics=classifier", "mmd": "metrics=distances"},
    "model": {"ncsn": "model=ncsnpp", "dhariwal": "model=adm", "transformer": "model=dit"},
}


def meant_key(key: str, known: Collection[str]) -> str:
    """The rest of the line about a key that the command does not have; empty if the word says nothing."""
    word = key.rpartition(".")[2].lower()
    if word in _ABSENT and "trainer.steps" in known:
        return f"; {_ABSENT[word]}"
    there = next((name for name in _KEYS.get(word, ()) if name in known), None)
    return f"; did you mean {there}?" if there else ""


def meant_option(group: str, option: str, known: Collection[str]) -> str:
    """Likewise of an option that the group does not have."""
    word = option.lower().replace("++", "pp").replace("-", "_").replace(" ", "_").replace("__", "_")
    names: Mapping[str, str] = _OPTIONS.get(group, {})
    found = f"{group}={word}" if word in known else names.get(word) or names.get(word.replace("_", ""))
    return f"; did you mean {found}?" if found else ""
