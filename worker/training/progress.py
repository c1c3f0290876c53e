"""A training run as a person sees it: a bar with loss and time left; in a pipe, a line an epoch."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from worker.training.train import Progress


@contextmanager
def show_training(epochs: int) -> Iterator[Callable[[Progress], None]]:
    """Gives the function that `train` reports to."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Bar(*columns, disable=not sys.stdout.isatty()) as bar:
        task = bar.add_task("preparing", total=float(epochs))
        loss = 0.0

        def report(progress: Progress) -> None:
            nonlocal loss
            if progress.accuracy is not None:
                bar.console.print(
                    f"epoch {progress.epoch}/{progress.epochs}: loss {loss:.4f}, "
                    f"validation accuracy {progress.accuracy:.4f}"
                )
                return
            loss = progress.loss
            left = f"{progress.seconds_left / 60:.0f} min left"
            bar.update(
                task,
                completed=progress.epoch - 1 + progress.batch / progress.batches,
                description=f"epoch {progress.epoch}/{epochs}, loss {loss:.3f}, {left}",
            )

        yield report
