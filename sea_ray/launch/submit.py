"""Jobs on a cluster: submitting a command, following it, asking after it, stopping it.

A job's id is made of its command and of the code that is sent, so that who submits the same again finds the job that is already
there: one that runs or has succeeded is followed, one that failed is submitted anew and does only what is missing, because
finished stages are reused.
"""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from sea_ray.artifacts import Store, digest_file, fingerprint
from sea_ray.config import ExperimentConfig
from sea_ray.errors import ConfigError, MachineError, nearest
from sea_ray.launch.compose import compose_experiment
from sea_ray.launch.console import print_json
from sea_ray.launch.machine import use_token
from sea_ray.launch.plan import agree_to_price

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

EXCLUDES = (".git", ".venv", "venv", "runs", "outputs", "wandb", "build", "dist", "__pycache__", ".pytest_cache", ".mypy_cache",
            ".ruff_cache", ".hypothesis")
"""Folders of the working directory that stay here, besides what .gitignore names."""
MAX_WORKING_DIR_BYTES = 50_000_000
"""The code alone has less than 6 MB; more is somebody's data, which belongs into a store that all nodes reach."""
FAILED_EXIT = 1


def submit(arguments: Sequence[str], console: Console, *, address: str, follow: bool = True, again: bool = False,
           yes: bool = False, python: str = "python", working_dir: Path | None = None) -> int:
    """Submit a command to a cluster and follow it; return its exit code, 0 when it succeeded.

    A run on machines that are paid by the hour is agreed to here, since a job can ask nobody.

    Args:
        arguments: command and overrides, such as ["run", "experiment=demo"].
        console: shows the job's output.
        address: of the cluster's dashboard, such as http://127.0.0.1:8265.
        follow: whether to wait for the end.
        again: whether a job that has succeeded is submitted once more, as when its text has changed.
        yes: what it costs is agreed to beforehand.
        python: the cluster's interpreter.
        working_dir: is sent; None is the present one.

    Raises:
        ConfigError: the command or an override is wrong; nothing is sent.
        MachineError: no cluster answers, it refuses the token, or the working directory is too large.
    """
    from ray.job_submission import JobStatus

    folder = working_dir or Path.cwd()
    config, entrypoint, secrets = _entrypoint(arguments, folder, python)
    files = sent_files(folder)
    with connected(address) as client:
        code = {file.relative_to(folder).as_posix(): digest_file(file) for file in files}
        job = f"{config.name}-{fingerprint([list(arguments), code])}"
        found = {details.submission_id: details.status for details in client.list_jobs()}.get(job)
        if found in (JobStatus.PENDING, JobStatus.RUNNING) or (found == JobStatus.SUCCEEDED and not again):
            console.print(f"job {job} is already there ({found.lower()}); nothing is submitted")
        else:
            if arguments[0] == "run" and not agree_to_price(config, Store(config.store.url), console, yes=yes):
                console.print("nothing was submitted")
                return 0
            if found is not None:
                console.print(f"job {job} had {found.lower()}; it is submitted again and does what is missing")
                client.delete_job(job)
            console.print(f"submit {sum(file.stat().st_size for file in files) / 1e6:.1f} MB of code as job {job}")
            client.submit_job(entrypoint=entrypoint, submission_id=job,
                              runtime_env={"working_dir": str(folder), "excludes": [f"{each}/" for each in EXCLUDES],
                                           "env_vars": secrets})
        console.print(f"  sea-ray status --address {address} {job}\n  sea-ray stop --address {address} {job}")
        return followed(client, job, console) if follow else 0


def _entrypoint(arguments: Sequence[str], folder: Path, python: str) -> tuple[ExperimentConfig, str, dict[str, str]]:
    """Return the experiment, the shell command and its environment; what is wrong with the configuration is told here and not
    there. A webhook goes by the environment: commands are shown to whoever lists the jobs.
    """
    command, *overrides = arguments or ("",)
    known = sorted(file.stem for file in (folder / "jobs").glob("*.py"))
    if command not in known:
        raise ConfigError("", "jobs/ of the working directory holds what can be submitted, and there is no "
                              f"{command!r}{nearest(command, known)}")
    config = compose_experiment(overrides)
    agreed = ["--yes"] if command == "run" and config.cluster.provider is not None else []
    secrets = {"SEA_RAY_WEBHOOK": config.ending.webhook} if config.ending.webhook else {}
    for name, value in secrets.items():
        overrides = [text.replace(value, f"${{oc.env:{name}}}") for text in overrides]
    return config, shlex.join([python, f"jobs/{command}.py", *agreed, *overrides]), secrets


def sent_files(folder: Path) -> list[Path]:
    """Return the files of a working directory that are sent, .gitignore aside.

    Raises:
        MachineError: they are too many; the largest are named.
    """
    sizes = {file: file.stat().st_size for file in _walked(folder)}
    total = sum(sizes.values())
    if total > MAX_WORKING_DIR_BYTES:
        largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:5]
        raise MachineError(f"{folder} has {total / 1e6:,.0f} MB, and {MAX_WORKING_DIR_BYTES / 1e6:.0f} MB at most are sent: put "
                           "data into a store that all nodes reach; the largest are "
                           + ", ".join(f"{file.relative_to(folder)} ({sizes[file] / 1e6:,.1f} MB)" for file in largest))
    return sorted(sizes)


def _walked(folder: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in EXCLUDES and not name.endswith(".egg-info")]
        yield from (Path(here) / name for name in files if not (Path(here) / name).is_symlink())


@contextmanager
def connected(address: str) -> Iterator[JobSubmissionClient]:
    """Yield a client of a cluster's jobs.

    Raises:
        MachineError: it doesn't answer, or it refuses the token.
    """
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    use_token()
    try:
        yield JobSubmissionClient(address)
    except AuthenticationError as error:
        raise MachineError(f"{address} refuses the token: put the cluster's into RAY_AUTH_TOKEN or ~/.ray/auth_token and set "
                           "RAY_AUTH_MODE=token") from error
    except (ConnectionError, ValueError) as error:
        raise MachineError(f"no cluster answers at {address}: name its dashboard, such as http://127.0.0.1:8265 (`ray dashboard "
                           "cluster.yaml` opens a tunnel to it)") from error


def followed(client: JobSubmissionClient, job: str, console: Console) -> int:
    """Show a job's output until it ends; return 0 if it succeeded. Ctrl-C ends the following, not the job."""
    from ray.job_submission import JobStatus

    async def show() -> None:
        async for text in client.tail_job_logs(job):
            console.out(text, end="")

    try:
        asyncio.run(show())
    except KeyboardInterrupt:
        console.print(f"\njob {job} goes on without being watched")
        raise
    info = client.get_job_info(job)
    console.print(f"job {job}: {info.status.lower()}" + (f", {info.message}" if info.message else ""))
    return 0 if info.status == JobStatus.SUCCEEDED else FAILED_EXIT


def status(arguments: Sequence[str], console: Console, *, address: str, as_json: bool = False) -> int:
    """Show the jobs of a cluster, or the output of one and follow it while it runs; for machines only how it stands."""
    with connected(address) as client:
        jobs = {details.submission_id: details for details in client.list_jobs() if details.submission_id}
        if not arguments or as_json:
            shown = {_known(arguments[0], jobs)} if arguments else jobs.keys()
            rows = sorted((pair for pair in jobs.items() if pair[0] in shown), key=lambda item: item[1].start_time or 0)
            for job, details in rows:
                console.print(f"{details.status:10} {job}  {details.entrypoint}")
            if as_json:
                print_json({"jobs": [{"job": job, "status": str(details.status), "command": details.entrypoint,
                                      "message": details.message, "started_ms": details.start_time, "ended_ms": details.end_time}
                                     for job, details in rows]})
            return 0
        return followed(client, _known(arguments[0], jobs), console)


def stop(arguments: Sequence[str], console: Console, *, address: str) -> int:
    """Stop a job; what it had finished is reused when it is submitted again."""
    if not arguments:
        raise ConfigError("", "name the job that is to stop; `sea-ray status` lists them")
    with connected(address) as client:
        job = _known(arguments[0], {details.submission_id for details in client.list_jobs() if details.submission_id})
        if not client.stop_job(job):
            console.print(f"job {job} had ended already")
            return 0
        console.print(f"job {job} is stopping; what is finished is reused when it is submitted again")
        return 0


def _known(job: str, jobs: Iterable[str]) -> str:
    if job not in (known := list(jobs)):
        raise ConfigError("", f"there is no job {job!r} on this cluster{nearest(job, known)}")
    return job
