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
    return {
        "cpu": cpu,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def save(name: str, content: Mapping[str, Any]) -> Path:
    """Write `content` to benchmarks/results/<name>-<date>.json and return the file."""
    now = datetime.now().astimezone()
    file = Path(__file__).parent / "results" / f"{name}-{now:%Y-%m-%d}.json"
    file.parent.mkdir(exist_ok=True)
    report = {"date": now.isoformat(timespec="seconds"), **hardware(), **content}
    file.write_text(json.dumps(report, indent=1) + "\n")
    return file
