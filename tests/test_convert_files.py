"""Weights inside of the wrappers that people train and save them in, and folders of diffusers with several files."""

import argparse
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from scoresde import InputError
from scoresde.convert.files import read_file

RAW = {"all_modules.0.weight": torch.arange(6.0).reshape(2, 3), "all_modules.1.bias": torch.tensor([7.0])}
AVERAGE = {name: 0.5 * tensor for name, tensor in RAW.items()}


def put(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def same(found: Any, wanted: dict[str, Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[k], wanted[k]) for k in wanted)


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "model.", "ema_model.", "net.", "module._orig_mod.", "model._orig_mod.module.model."],
)
@pytest.mark.parametrize("section", [None, "model", "state_dict", "net_model", "ema_model"])
def test_any_nesting_of_wrappers_is_taken_off(prefix: str, section: str | None, tmp_path: Path) -> None:
    weights = put(prefix, RAW)
    torch.save(weights if section is None else {section: weights, "epoch": 3}, tmp_path / "net.pt")
    source = read_file(tmp_path / "net.pt")
    assert same(source.raw, RAW)
    assert source.averages is None
    assert source.beside == ({} if section is None else {"epoch": 3})


def test_parts_that_were_compiled_by_themselves_have_their_own_names_again(tmp_path: Path) -> None:
    torch.save({"module.all_modules.0._orig_mod.weight": RAW["all_modules.0.weight"]}, tmp_path / "net.pt")
    assert list(read_file(tmp_path / "net.pt").raw) == ["all_modules.0.weight"]


COUNT = {"ema_model.n_averaged": torch.tensor(9)}
LUCID = {"online_model.model": RAW, "ema_model.model": AVERAGE}
BOTH: dict[str, Any] = {
    "torchcfm": {"net_model": RAW, "ema_model": AVERAGE, "step": 9, "sched": {"last_epoch": 1}},
    "one dictionary": put("model.", RAW) | put("ema_model.module.", AVERAGE) | COUNT,
    "lightning": {"state_dict": put("net._orig_mod.", RAW) | put("ema.", AVERAGE), "callbacks": {}, "step": 9},
    "lightning's average": {"current_model_state": put("model.", RAW), "state_dict": put("net.", AVERAGE), "step": 9},
    "lucidrains": {
        "model": put("model.", RAW),
        "ema": {k: v for name, t in LUCID.items() for k, v in put(name + ".", t).items()}
        | {"initted": torch.tensor(True), "step": torch.tensor([9])},
    },
    "facebook's dit": {"model": RAW, "ema": put("module.", AVERAGE), "args": argparse.Namespace(a=1), "step": 9},
    "sections in sections": {"ema": {"module": AVERAGE, "decay": 0.9}, "model": {"module": RAW}, "step": 9},
}


@pytest.mark.parametrize("kind", BOTH)
def test_averages_beside_raw_weights_are_told_apart(kind: str, tmp_path: Path) -> None:
    torch.save(BOTH[kind], tmp_path / "net.pt")
    source = read_file(tmp_path / "net.pt")
    assert same(source.raw, RAW)
    assert same(source.averages, AVERAGE)
    assert 9 in source.beside.values()


def test_two_networks_under_one_name_are_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": put("model.", RAW) | put("net.", AVERAGE)}, tmp_path / "net.pt")
    with pytest.raises(InputError, match=r"holds all_modules\.0\.weight twice, once as net\.all_modules"):
        read_file(tmp_path / "net.pt")
    torch.save({"state_dict": put("model.", RAW) | put("net.", RAW)}, tmp_path / "net.pt")  # one network, twice there
    assert same(read_file(tmp_path / "net.pt").raw, RAW)


def folder(place: Path, *files: str) -> Path:
    """A folder of diffusers with these files of weights; those of a variant hold the averages."""
    place.mkdir()
    (place / "config.json").write_text("{}")
    for name in files:
        tensors = AVERAGE if "fp16" in name else RAW
        save_file(tensors, place / name) if name.endswith("safetensors") else torch.save(tensors, place / name)
    return place


BASE = "diffusion_pytorch_model"


@pytest.mark.parametrize(
    ("files", "taken"),
    [
        (["safetensors", "fp16.safetensors", "bin", "fp16.bin"], "safetensors"),
        (["fp16.safetensors", "bin", "fp16.bin"], "bin"),
        (["fp16.safetensors", "fp16.bin"], "fp16.safetensors"),
        (["bin"], "bin"),
    ],
)
def test_full_precision_comes_first_and_then_safetensors(files: list[str], taken: str, tmp_path: Path) -> None:
    source = read_file(folder(tmp_path / "net", *(f"{BASE}.{name}" for name in files)))
    assert source.path.name == f"{BASE}.{taken}"
    assert same(source.raw, AVERAGE if "fp16" in taken else RAW)


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_weights_in_several_files_are_read_by_their_index(kind: str, tmp_path: Path) -> None:
    place = folder(tmp_path / "net", f"{BASE}.fp16.safetensors")
    names = {}
    for i, (name, tensor) in enumerate(RAW.items()):
        names[name] = f"{BASE}-0000{i + 1}-of-00002.{kind}"
        write = save_file if kind == "safetensors" else torch.save
        write({name: tensor}, place / names[name])
    index = place / f"{BASE}.{kind}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    assert same(read_file(place).raw, RAW)
    index.write_text(json.dumps({"weight_map": {**names, "all_modules.1.bias": "../secret.bin"}}))
    with pytest.raises(InputError, match=r"lists \.\./secret\.bin, which is not in its folder"):
        read_file(place)
    index.write_text(json.dumps({"weight_map": {**names, "all_modules.1.bias": "lost.bin"}}))
    with pytest.raises(InputError, match=r"lost\.bin cannot be read"):
        read_file(place)


def test_an_average_in_a_folder_of_its_own_and_what_cannot_be_chosen(tmp_path: Path) -> None:
    folder(tmp_path / "unet", f"{BASE}.safetensors")
    folder(tmp_path / "unet_ema", f"{BASE}.fp16.safetensors")
    source = read_file(tmp_path)
    assert same(source.raw, RAW)
    assert same(source.averages, AVERAGE)
    several = folder(tmp_path / "several", f"{BASE}.fp16.bin", f"{BASE}.bf16.bin")
    with pytest.raises(InputError, match=r"holds \S+\.bf16\.bin, \S+\.fp16\.bin"):
        read_file(several)
    with pytest.raises(InputError, match="holds neither"):
        read_file(folder(tmp_path / "none"))


class Harm(nn.Module):
    """An object of a class, which only a pickle can hold."""


def test_a_pickle_in_a_folder_is_read_as_weights_only(tmp_path: Path) -> None:
    place = folder(tmp_path / "net")
    torch.save(Harm(), place / f"{BASE}.bin")
    with pytest.raises(InputError, match="nothing of it was run"):
        read_file(place)


def test_an_archive_is_read_by_the_reader_of_data_which_weighs_it_first(tmp_path: Path) -> None:
    np.savez(tmp_path / "net.npz", **{name: tensor.numpy() for name, tensor in RAW.items()})
    assert same(read_file(tmp_path / "net.npz").raw, RAW)
    with zipfile.ZipFile(tmp_path / "large.npz", "w") as archive, archive.open("a.npy", "w") as out:
        about = {"descr": "<f4", "fortran_order": False, "shape": (2**40, 900)}
        np.lib.format.write_array_header_1_0(out, about)
    with pytest.raises(InputError, match=r"^file: .*large\.npz, array a, announces 3\.96 PB, .* fit into memory"):
        read_file(tmp_path / "large.npz")
