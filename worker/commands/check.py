"""`check`: configuration, weights, database, server; one line each, and what to do."""

import shutil
from collections.abc import Callable

from worker.client.server_client import ServerClient
from worker.config import Config
from worker.daemon.metrics import Monitor, serve
from worker.database.database import Database, parse_rotation
from worker.errors import ServerUnreachable, WorkerError

BLANK = b"P5 64 64 255\n" + bytes(64 * 64)  # a black picture, as the simplest format has it


def check(config: Config, source: str, show: Callable[[str, bool, str], None]) -> list[WorkerError]:
    """Try everything that a first run needs; ``show`` gets what, whether it is good, and details.

    The image is never asked for: it would be taken from the server's queue. Returns the errors, in
    order. ``source`` names where the configuration came from.
    """
    errors = []
    show("configuration", True, source)
    metrics = [("metrics", _check_metrics)] if config.metrics.address else []
    for what, attempt in (
        ("weights", _check_weights),
        ("database", _check_database),
        *metrics,
        ("server", _check_server),
    ):
        try:
            show(what, True, attempt(config))
        except WorkerError as error:
            show(what, False, str(error))
            errors.append(error)
    return errors


def _check_weights(config: Config) -> str:
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


def _check_database(config: Config) -> str:
    path = config.database.path
    with Database(path, rotation=parse_rotation(config.database.rotate)) as database:
        free = shutil.disk_usage(path.parent).free
        owed = database.owed_count()
        return f"{path}: writable, {free / 1e9:.1f} GB free, {owed} results still to post"


def _check_metrics(config: Config) -> str:
    with serve(config.metrics.address, Monitor(), lambda: 0) as url:
        return f"{url}/metrics and /healthz can be served"


def _check_server(config: Config) -> str:
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
