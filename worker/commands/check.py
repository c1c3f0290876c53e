"""`check`: configuration, weights, database, server; one line each, and what to do."""

import argparse
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING

from worker.commands.common import add_configuration, configure
from worker.errors import ServerUnreachable, WorkerError

if TYPE_CHECKING:
    from worker.config import Config

HELP = "try configuration, weights, database and server"
EXAMPLE = "check --config worker.ini"
BLANK = b"P5 64 64 255\n" + bytes(64 * 64)  # a black picture, as the simplest format has it


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_configuration(parser, http=True)


def run(options: argparse.Namespace) -> int:
    from worker.cli import exit_code
    from worker.config import DEFAULT_FILE

    try:
        config = configure(options)
    except WorkerError as error:
        show("FAILED", "configuration", str(error))
        return exit_code(error)
    here = "worker.ini" if DEFAULT_FILE.is_file() else "defaults (there is no worker.ini here)"
    show("ok", "configuration", str(options.config or here))
    errors = check(config, show)
    return exit_code(errors[0]) if errors else 0


def show(state: str, what: str, details: str) -> None:
    """Print a line of what was tried."""
    from worker.terminal import safe

    print(f"{state:<11}{what:<15}{safe(details)}")


def check(config: "Config", show: Callable[[str, str, str], None]) -> list[WorkerError]:
    """Try everything that a first run needs; ``show`` gets state, what, and details.

    The image is never asked for: it would be taken from the server's queue. Returns the errors, in
    order.
    """
    errors = []
    metrics = [("ok", "metrics", check_metrics)] if config.metrics.address else []
    for state, what, attempt in (
        ("ok", "weights", check_weights),
        ("ok", "database", check_database),
        *metrics,
        ("reachable", "server", check_server),
    ):
        try:
            show(state, what, attempt(config))
        except WorkerError as error:
            show("FAILED", what, str(error))
            errors.append(error)
    return errors


def check_weights(config: "Config") -> str:
    """Analyse a picture, since detector and libraries are needed as well."""
    from worker.analysis.pipeline import Pipeline

    pipeline = Pipeline(config)
    pipeline.analyze(BLANK)
    facts = pipeline.classifier.facts
    return (
        f"{config.classification.weights}: {facts.network}, "
        f"{len(pipeline.classifier.classes)} classes, "
        f"accuracy {facts.validation_accuracy:.1%} on the FER+ validation faces"
    )


def check_database(config: "Config") -> str:
    """Open it as the daemon does, for a moment."""
    from worker.database.database import Database, parse_rotation

    path = config.database.path
    with Database(path, rotation=parse_rotation(config.database.rotate)) as database:
        free = shutil.disk_usage(path.parent).free
        owed = database.owed_count()
        return f"{path}: writable, {free / 1e9:.1f} GB free, {owed} results still to post"


def check_metrics(config: "Config") -> str:
    """Take the address, for a moment."""
    from worker.daemon.metrics import Monitor, serve

    with serve(config.metrics.address, Monitor(), lambda: 0) as url:
        return f"{url}/metrics and /healthz can be served"


def check_server(config: "Config") -> str:
    """Ask for the threshold, which takes nothing from the server."""
    from worker.client.server_client import ServerClient

    server = config.server
    client = ServerClient(server, config.worker.id)
    try:
        threshold = client.pull_threshold()
    except ServerUnreachable as error:
        message = f"{error}; does the server run there, and is [server] url right?"
        raise ServerUnreachable(message) from error
    finally:
        client.close()
    posts = f"posted to {server.results_path}" if server.results_path else "not posted"
    return f"{server.url}: threshold {threshold:g}; results are {posts} ([server] results_path)"
