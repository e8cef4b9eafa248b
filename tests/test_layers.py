"""Imports run downward only, and `import scoresde` stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "scoresde"
# from the bottom up; a module may import what is on lower floors, and its own folder
FLOORS = (
    {"errors", "progress", "_lazy", "_secrets", "_version"},
