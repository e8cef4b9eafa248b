"""Drawing samples with a progress bar."""

from collections.abc import Iterator, Sequence

from tqdm import tqdm

from scoresde.model import Model
from scoresde.sampling import Sampler, Samples


def draw(
    sampler: Sampler, model: Model, event_shape: Sequence[int], n: int, seed: int, batch_size: int, label: str
) -> Iterator[Samples]:
    """Yield n samples in batches, with a bar that counts samples and moves within a batch; silent when piped."""
    done, fraction = 0, 0.0
    with tqdm(total=n, desc=label, unit=" samples", disable=None, bar_format=_FORMAT) as bar:

        def on_step(count: int) -> None:
            nonlocal fraction  # an adaptive solver reports few steps: its bar jumps from batch to batch
            fraction = min(fraction + 1 / (sampler.steps + 1), 1.0)
            bar.update(int(done + fraction * count) - bar.n)

        for part in sampler.batches(model, event_shape, n, seed=seed, batch_size=batch_size, on_step=on_step):
            done, fraction = done + len(part.x), 0.0
            bar.update(done - bar.n)
            yield part


_FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{unit} [{elapsed}, {remaining} left]"
