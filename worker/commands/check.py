"""Try configuration, weights, database and server; never takes an image.

example: emotion-worker check --config worker.ini
"""

import argparse
import shutil
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Literal

from worker.commands.common import add_configuration, configure, load
from worker.errors import ServerUnreachable, UsageError, WorkerError
from worker.terminal import safe

if TYPE_CHECKING:
    from worker.config import Config


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_configuration(parser, http=True)


def run(options: argparse.Namespace) -> int:
    """Try everything that a first run needs; the code is that of the first failure."""
    if code := attempt("configuration", lambda: check_configuration(options)):
        return code
    config = load(options)
    codes = [
        attempt("weights", lambda: check_weights(config)),
        attempt("database", lambda: check_database(config)),
        attempt("server", lambda: check_server(config), "reachable"),
    ]
    return next(filter(None, codes), 0)


def attempt(what: str, check: Callable[[], str], good: str = "ok") -> int:
    """Print one line of what was tried; returns the exit code that it stands for."""
    try:
        state, details, code = good, check(), 0
    except WorkerError as error:
        state, details, code = "FAILED", str(error), error.exit_code
    print(f"{state:<11}{what:<15}{safe(details)}", flush=True)
    return code


def check_configuration(options: argparse.Namespace) -> str:
    """Read every key, set up the log."""
    from worker.config import DEFAULT_FILE

    configure(options)
    file = options.config or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    return str(file or "defaults (there is no worker.ini here)")


def check_weights(config: "Config") -> str:
    """Search a black picture, since detector and libraries are needed as well."""
    import numpy as np

    from worker.analysis.pipeline import Pipeline

    pipeline = Pipeline(config)
    pipeline.find_faces(np.zeros((64, 64), np.uint8))
    facts = pipeline.classifier.facts
    return (
        f"{config.classification.weights}: {facts.network}, "
        f"{len(pipeline.classifier.classes)} classes, "
        f"accuracy {facts.validation_accuracy:.1%} on the FER+ validation faces"
    )


def check_database(config: "Config") -> str:
    """Open it as the daemon does, for a moment."""
    from worker.database import Database, parse_rotation

    path = config.database.path
    with Database(path, rotation=parse_rotation(config.database.rotate)) as database:
        free = shutil.disk_usage(path.parent).free
        owed = database.owed_count()
        return f"{path}: writable, {free / 1e9:.1f} GB free, {owed} results still to post"


def check_server(config: "Config") -> str:
    """Ask for the threshold, and of the other paths only what they take: an image that is asked
    for would be taken from the queue."""
    from worker.client import ServerClient

    server = config.server
    requests: list[tuple[Literal["image_path", "results_path"], str, str]]
    requests = [("image_path", "GET", server.image_path)]
    if server.results_path:
        requests.append(("results_path", "POST", server.results_path))
    with closing(ServerClient(server, config.worker.id)) as client:
        try:
            threshold = client.pull_threshold()
        except ServerUnreachable as error:
            message = f"{error}; does the server run there, and is [server] url right?"
            raise ServerUnreachable(message) from error
        for key, method, path in requests:
            takes = client.methods(key)
            if takes and method not in takes:
                known = ", ".join(sorted(takes))
                raise UsageError(f"{path} takes {known}, no {method}; look at [server] {key}")
    posts = "" if server.results_path else "; results are not posted ([server] results_path)"
    untried = " and ".join(f"{method} {path}" for _, method, path in requests)
    return f"{server.url}: threshold {threshold:g}; not tried: {untried}{posts}"
