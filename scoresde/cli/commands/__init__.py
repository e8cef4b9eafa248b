"""The commands of the program, one module each: a `Command` row with its settings and its work.

A module here imports nothing heavy: help and mistakes are answered from it, without torch.
"""
