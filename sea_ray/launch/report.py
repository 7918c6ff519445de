"""`sea-ray report`: the page of a run again, or of what is there of one that has not finished."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console

from sea_ray.errors import ConfigError
from sea_ray.launch.reading import has_finished, load_asked, named_run, read_experiment, read_progress, read_study
from sea_ray.launch.run import read_run_file, write_run_report, write_study_report
from sea_ray.upkeep import RUN


def report(arguments: Sequence[str], console: Console) -> int:
    """Write report.html of a run from its results, say where it lies, and return the exit code.

    Of a run that has not finished the page shows what is there and what is not.

    Args:
        arguments: run=NAME and store.url=URL.
        console: where a person looks.

    Raises:
        ConfigError: no such run.
        DataError: what it wrote is half there.
        SeaRayError: the results of a run are no longer in the store.
    """
    store, name, _ = named_run(arguments)
    file = store.root / name / "report.html"
    if has_finished(store, name):
        record = read_run_file(store.root / name / RUN)
        try:
            if "experiment" in record:
                store.publish(write_run_report(store, read_experiment(store, record), record))
            else:
                store.publish(write_study_report(store, read_study(store, record), record)[0])
        except ConfigError as error:
            store.fetch(file)
            console.print(f"the page is as its run wrote it; it can't be made again here ({error})", markup=False)
        console.print(f"report      {file}")
        return 0
    asked = load_asked(store, name)
    progress = read_progress(store, asked)
    from sea_ray.report.page import write_report
    from sea_ray.unfinished_report import unfinished_data

    write_report(unfinished_data(progress, asked, time.strftime("%Y-%m-%d %H:%M %Z")), file)
    console.print(f"{name} has not finished: {len(progress.finished)} of {len(progress.stages)} stages are there")
    for title, stages in (("there", [stage for stage, _ in progress.finished]), ("not yet", progress.waiting)):
        console.print(f"{title:<11} {', '.join(stage.name for stage in stages) or 'nothing'}", markup=False)
    console.print(f"report      {file}")
    return 0
