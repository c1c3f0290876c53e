"""`check`: configuration, weights, database, server; one line each, and what to do."""

from collections.abc import Callable

from worker.config import Config
from worker.database import Database, parse_rotation
from worker.errors import WorkerError
from worker.server_client import ServerClient


def check(config: Config, source: str, show: Callable[[str, bool, str], None]) -> list[WorkerError]:
    """Try everything that a first run needs; ``show`` gets what, whether it is good, and details.

    The image is never asked for: it would be taken from the server's queue. Returns the errors, in
    order. ``source`` names where the configuration came from.
    """
    errors = []
    show("configuration", True, source)
    for what, attempt in (
        ("weights", _check_weights),
        ("database", _check_database),
        ("server", _check_server),
    ):
        try:
            show(what, True, attempt(config))
        except WorkerError as error:
            show(what, False, str(error))
            errors.append(error)
    return errors


def _check_weights(config: Config) -> str:
    from worker.classification import Classifier

    classifier = Classifier(config.classification.weights, config.classification.classes)
    facts = classifier.facts
    return (
        f"{config.classification.weights}: {facts.network}, {len(classifier.classes)} classes, "
        f"accuracy {facts.validation_accuracy:.1%} on the FER+ validation faces"
    )


def _check_database(config: Config) -> str:
    with Database(
        config.database.path, rotation=parse_rotation(config.database.rotate)
    ) as database:
        return f"{config.database.path}: writable, {database.owed_count()} results still to post"


def _check_server(config: Config) -> str:
    client = ServerClient(config.server, config.worker.id)
    try:
        threshold = client.pull_threshold()
    finally:
        client.close()
    return f"{config.server.url}: threshold {threshold:g}"
