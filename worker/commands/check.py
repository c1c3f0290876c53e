"""Try configuration, weights, database and server; never takes an image.

example: emotion-worker check --config worker.ini
"""

import argparse
import io
import shutil
from contextlib import closing
from typing import TYPE_CHECKING, Literal

from worker.commands.common import add_configuration, configure
from worker.errors import ServerUnreachable, UsageError, WorkerError
from worker.terminal import safe

if TYPE_CHECKING:
    from worker.config import Config


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_configuration(parser, http=True)


def run(options: argparse.Namespace) -> int:
    """Try everything that a first run needs; the code is that of the first failure."""
    from worker.config import DEFAULT_FILE

    try:
        config = configure(options)
    except WorkerError as error:
        show("FAILED", "configuration", str(error))
        return error.exit_code
    default = (
        str(DEFAULT_FILE) if DEFAULT_FILE.is_file() else "defaults (there is no worker.ini here)"
    )
    show("ok", "configuration", str(options.config or default))
    codes = []
    metrics = [("ok", "metrics", check_metrics)] if config.metrics.address else []
    for good, what, attempt in (
        ("ok", "weights", check_weights),
        ("ok", "database", check_database),
        *metrics,
        ("reachable", "server", check_server),
    ):
        try:
            show(good, what, attempt(config))
        except WorkerError as error:
            show("FAILED", what, str(error))
            codes.append(error.exit_code)
    return codes[0] if codes else 0


def show(state: str, what: str, details: str) -> None:
    """Print one line of what was tried."""
    print(f"{state:<11}{what:<15}{safe(details)}", flush=True)


def check_weights(config: "Config") -> str:
    """Analyse a black picture, since detector and libraries are needed as well."""
    from PIL import Image

    from worker.analysis.pipeline import Pipeline

    pipeline, black = Pipeline(config), io.BytesIO()
    Image.new("L", (64, 64)).save(black, "PNG")
    pipeline.analyze(black.getvalue())
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


def check_metrics(config: "Config") -> str:
    """Take the address, for a moment."""
    from worker.daemon.metrics import Metrics, serve

    with serve(config.metrics.address, Metrics()) as url:
        return f"{url}/metrics and /healthz can be served"


def check_server(config: "Config") -> str:
    """Ask for the threshold, and of the other paths only what they take: an image that is asked
    for would be taken from the queue."""
    from worker.client import ServerClient

    server = config.server
    requests: dict[Literal["image_path", "results_path"], str]
    requests = {"image_path": f"GET {server.image_path}"}
    if server.results_path:
        requests["results_path"] = f"POST {server.results_path}"
    with closing(ServerClient(server, config.worker.id)) as client:
        try:
            threshold = client.pull_threshold()
            for key, request in requests.items():
                method, path = request.split(maxsplit=1)
                takes = client.methods(key)
                if takes is not None and method not in takes:
                    known = ", ".join(sorted(takes))
                    raise UsageError(f"{path} takes {known}, no {method}; look at [server] {key}")
        except ServerUnreachable as error:
            message = f"{error}; does the server run there, and is [server] url right?"
            raise ServerUnreachable(message) from error
    posts = "" if server.results_path else "; results are not posted ([server] results_path)"
    untried = " and ".join(requests.values())
    return f"{server.url}: threshold {threshold:g}; not tried: {untried}{posts}"
