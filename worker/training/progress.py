"""A training run as a person sees it: a bar with loss and time left; in a pipe, a line an epoch."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from worker.training.train import Progress, Report


@contextmanager
def show_training() -> Iterator[Report]:
    """Gives the function that `train` reports to."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Bar(*columns, disable=not sys.stdout.isatty()) as bar:
        task = bar.add_task("preparing")

        def report(progress: Progress) -> None:
            where = f"epoch {progress.epoch}/{progress.epochs}"
            if progress.note:
                bar.console.print(progress.note, soft_wrap=True)
            elif progress.accuracy is not None:
                bar.console.print(
                    f"{where}: loss {progress.loss:.4f}, "
                    f"validation accuracy {progress.accuracy:.4f}"
                )
            elif progress.loss is None:
                bar.update(
                    task,
                    total=progress.batches,
                    completed=progress.batch,
                    description=f"{where}: the teachers look at a view",
                )
            else:
                done = progress.epoch - 1 + progress.batch / progress.batches
                left = f"{progress.seconds_left / 60:.0f} min left"
                bar.update(
                    task,
                    total=progress.epochs,
                    completed=done,
                    description=f"{where}, loss {progress.loss:.3f}, {left}",
                )

        yield report
