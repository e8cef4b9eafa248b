"""Sweeps: several jobs from one command, and what is known of each of them on disk."""
