"""The commands, thin. Heavy modules are imported by the command that needs them: the daemon's
first request must not wait for torch."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from worker.commands.common import (
    EXIT_DATABASE,
    EXIT_FAILED,
    EXIT_REFUSED,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    configure,
    load,
    new_alarm,
)
from worker.commands.model import MODEL_COMMANDS
from worker.commands.options import build_parser
from worker.daemon.alarm import Alarm
from worker.errors import (
    DiskRefuses,
    RetryLater,
    ServerRefuses,
    Stop,
    UsageError,
    WorkerError,
    package_missing,
)

EXIT_INTERRUPTED = 128 + 2
FOLLOW_EVERY = 0.5  # seconds
LOOPBACK = ("127.0.0.1", "localhost")


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code that README.md lists."""
    parser = build_parser()
    # `run` may be left out, so that `python run_worker.py --url …` starts the daemon.
    first = arguments[0] if arguments else ""
    named = bool(first) and (not first.startswith("-") or first in ("-h", "--help", "--version"))
    options = parser.parse_args(arguments if named else ["run", *arguments])
    try:
        return COMMANDS[options.command](options)
    except WorkerError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return exit_code(error)
    except ModuleNotFoundError as error:
        print(f"{parser.prog}: {package_missing(error)}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has enough; without this, Python complains again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


def exit_code(error: WorkerError) -> int:
    """The exit code of a command that this error ended."""
    match error:
        case Stop():
            return error.exit_code
        case ServerRefuses(status=401 | 403):
            return EXIT_REFUSED
        case ServerRefuses():
            return EXIT_USAGE
        case RetryLater() if not isinstance(error, DiskRefuses):
            return EXIT_UNREACHABLE
        case _:
            return EXIT_FAILED


def _run(options: argparse.Namespace) -> int:
    alarm = Alarm()
    alarm.install(hangup=True)
    config = configure(options)
    from worker.analysis.analyst import Analysts

    with Analysts(config) as analysts:  # it loads while the rest is imported
        from worker.daemon.scheduler import run

        run(config, alarm, analysts, lambda: load(options))
    return 0


def _once(options: argparse.Namespace) -> int:
    alarm, config = new_alarm(), configure(options)
    from worker.analysis.analyst import Analysts

    with Analysts(config) as analysts:
        from worker.daemon.scheduler import run_once

        owed = run_once(config, alarm, analysts)
    if owed:
        print(f"{owed} results are still to post", file=sys.stderr)
    return EXIT_FAILED if owed else 0


def _demo(options: argparse.Namespace) -> int:
    alarm, config = new_alarm(), configure(options)
    from rich.console import Console

    from worker.commands.demo import demo
    from worker.terminal import save_svg

    drawn = bool(options.svg)
    console = Console(record=drawn, force_terminal=drawn or None, width=110 if drawn else None)
    complete = demo(config, alarm, console, options.output)
    if drawn:
        save_svg(console, options.svg, "make demo")
    return 0 if complete else EXIT_FAILED


def _demo_server(options: argparse.Namespace) -> int:
    alarm = new_alarm()
    from worker.client.bearer_token import read_token
    from worker.config import TOKEN_VARIABLE
    from worker.demo_server.app import create_app, load_folder
    from worker.demo_server.image_queue import DEFAULT_THRESHOLD, ImageQueue, MemoryQueue
    from worker.web import DemoServer

    token = read_token(load(options).server)
    if token is None and options.host not in LOOPBACK:
        raise UsageError(
            f"--host {options.host} lets other machines in: set {TOKEN_VARIABLE} or [server] "
            "token_file, here and for the workers"
        )
    queue: ImageQueue
    if options.queue:
        from worker.demo_server.redis_queue import RedisQueue

        queue = RedisQueue(options.queue, threshold=options.threshold, lease_seconds=options.lease)
    else:
        start = DEFAULT_THRESHOLD if options.threshold is None else options.threshold
        queue = MemoryQueue(threshold=start, lease_seconds=options.lease)
    for folder in options.folder:
        load_folder(queue, folder)
    app = create_app(queue, token=token)
    with DemoServer(app, host=options.host, port=options.port) as server:
        print(f"serving on {server.url}; stop with Ctrl-C", flush=True)
        while not alarm.stop_requested:
            alarm.wait(3600)
    return 0


def _check(options: argparse.Namespace) -> int:
    from rich.console import Console

    from worker.commands.check import check
    from worker.config import DEFAULT_FILE
    from worker.terminal import safe

    console = Console(soft_wrap=True, highlight=False, markup=False)

    def show(what: str, good: bool, details: str) -> None:
        console.print(f"{'ok' if good else 'FAILED':<7}{what:<15}{safe(details)}")

    try:
        config = configure(options)
    except WorkerError as error:
        show("configuration", False, str(error))
        return exit_code(error)
    here = "worker.ini" if DEFAULT_FILE.is_file() else "defaults (there is no worker.ini here)"
    errors = check(config, str(options.config or here), show)
    return exit_code(errors[0]) if errors else 0


def _results(options: argparse.Namespace) -> int:
    config = configure(options)
    from rich.console import Console

    from worker.database.database import follow_records, posting_states, repair, verify
    from worker.terminal import safe, show_table
    from worker.viewing import results

    paths = results.distinct(options.database or [config.database.path])
    if options.verify:
        found = [verify(path) for path in paths]
        print("\n".join(line for each in found for line in each.lines()))
        return 0 if all(each.sound for each in found) else EXIT_DATABASE
    chosen = results.Filter(
        emotion=options.emotion,
        file=options.file,
        since=results.parse_time(options.since) if options.since else None,
        until=results.parse_time(options.until) if options.until else None,
    )
    for path in paths:
        repair(path)
    if options.follow:
        alarm = new_alarm()

        def wait() -> bool:
            sys.stdout.flush()
            alarm.wait(FOLLOW_EVERY)
            return not alarm.stop_requested

        every = results.checked(follow_records(paths, wait), "what follows")
        selected = results.select(every, chosen, None)
        if options.last:  # of those that are there already
            there = sum(1 for _ in results.select(results.read_files(paths), chosen, None))
            selected = islice(selected, max(0, there - options.last), None)
    else:
        selected = results.select(results.read_files(paths), chosen, options.last)
    if options.counts:
        rows = [(name, f"{count}") for name, count in results.counts(selected).items()]
        show_table("", ("what", "how many"), rows, Console())
    elif options.json:
        results.write_json(selected, sys.stdout)
    elif options.csv:
        results.write_csv(selected, sys.stdout)
    elif options.seed_format:
        results.write_seed_format(selected, sys.stdout)
    elif options.follow:
        for row in results.table_rows(selected):
            print("\t".join(map(safe, row)))
    else:
        columns = ("processed", "file", "threshold", "faces", "post")
        posts = {
            task: reason or state for path in paths for task, state, reason in posting_states(path)
        }
        title = ", ".join(map(str, paths))
        show_table(title, columns, results.table_rows(selected, posts), Console())
    return 0


def _report(options: argparse.Namespace) -> int:
    config = configure(options)
    from worker.database.database import repair
    from worker.files import replace_file
    from worker.record import utc_now
    from worker.viewing.report import count_records, render
    from worker.viewing.results import Filter, distinct, parse_time, read_files, select

    paths = distinct(options.database or [config.database.path])
    since = parse_time(options.since) if options.since else None
    for path in paths:
        repair(path)
    totals = count_records(select(read_files(paths), Filter(since=since), None))
    made = f"made {utc_now()}" + (f", records since {since.isoformat()}" if since else "")
    small = {}
    if config.database.keep_images:
        from worker.viewing.thumbnails import thumbnails  # loads OpenCV and torch

        small = thumbnails(totals.latest, config.database.keep_images)
    title = ", ".join(path.name for path in paths)
    replace_file(options.output, render(totals, title, made, small))
    print(f"{options.output}: {totals.images} images, {totals.faces} faces")
    return 0


def _analyze(options: argparse.Namespace) -> int:
    config = configure(options)
    from contextlib import ExitStack

    from rich.console import Console

    from worker.terminal import progress_bar, show_table
    from worker.viewing.analyze import analyze_files, expected_records, find_files
    from worker.viewing.results import table_rows

    sources = find_files(options.paths, videos=True)
    total = sum(expected_records(source, config, options.every) for source in sources)
    records = []
    with ExitStack() as stack:
        database = None
        if options.database:
            from worker.database.database import Database

            database = stack.enter_context(Database(options.database))
        progress = stack.enter_context(progress_bar())
        task = progress.add_task("analysing", total=total)
        flags = (options.threshold, options.annotated, options.every)
        for record in analyze_files(sources, config, *flags):
            if database is not None:
                database.append(record)
            if options.json:
                print(json.dumps(record, ensure_ascii=False), flush=True)
            records.append(record)
            progress.advance(task)
    if not options.json:
        rows = [row[1:] for row in table_rows(records)]
        show_table("", ("file", "threshold", "faces"), rows, Console())
    failed = sum("error" in record for record in records)
    if failed:
        print(f"{failed} of {len(records)} could not be analysed", file=sys.stderr)
    return EXIT_FAILED if failed else 0


def _live(options: argparse.Namespace) -> int:
    alarm, config = new_alarm(), configure(options)
    from worker.analysis.pipeline import Pipeline
    from worker.viewing import live

    output: Path | None = options.output
    if output and output.resolve() == Path(options.source).resolve():
        raise UsageError(f"--output {output} is the source; name another file")
    with live.open_source(options.source, config.server.max_image_pixels) as video:
        if output:
            sink = live.file(output, video.rate)
        else:
            sink = live.page(*options.serve) if options.serve else live.window()
        with sink as show:
            shown, rate = live.play(
                video,
                Pipeline(config).find_faces,
                options.threshold,
                show,
                lambda: alarm.stop_requested,
                hurry=output is not None,
            )
    print(f"{shown} frames, {rate:.1f} a second")
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "once": _once,
    "demo": _demo,
    "demo-server": _demo_server,
    "check": _check,
    "results": _results,
    "report": _report,
    "analyze": _analyze,
    "live": _live,
    **MODEL_COMMANDS,
}
