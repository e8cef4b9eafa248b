"""Dated results of benchmarks, with the hardware they were measured on."""

import json
import platform
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import torch


def hardware() -> dict[str, object]:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line), cpu)
    gpu = {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda} if torch.cuda.is_available() else {}
    return {
        "cpu": cpu,
        **gpu,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def save(name: str, content: Mapping[str, Any], file: Path | None = None) -> Path:
    """Write `content` to `file`, by default benchmarks/results/<name>-<date>.json, and return the file."""
    now = datetime.now().astimezone()
    file = file or Path(__file__).parent / "results" / f"{name}-{now:%Y-%m-%d}.json"
    file.parent.mkdir(exist_ok=True, parents=True)
    report = {"date": now.isoformat(timespec="seconds"), **hardware(), **content}
    file.write_text(json.dumps(report, indent=1) + "\n")
    return file
