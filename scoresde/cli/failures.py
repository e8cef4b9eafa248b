"""How a task reports to `main` that it failed: neither of these passes through Hydra's own handling of exceptions."""

VARIABLE = "SCORESDE_FAILURES"  # environment variable: the file to which the jobs of a sweep append how they failed


class TaskFailed(BaseException):
    """The one task of a command failed; its cause is what `main` reports. Hydra catches only `Exception`."""
