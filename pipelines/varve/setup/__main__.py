"""What the Makefile runs: `python -m varve.setup install | airflow | preflight | lock | pack`."""

import argparse
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from varve.setup.console import SetupError, complain, say
from varve.setup.environment import BUILD_LOCK, DEV_LOCK, NOTEBOOK_LOCK, RUN_LOCK, Environment
from varve.setup.installer import Installer, pip_settings
from varve.setup.jars import Ivy, differences, expected_sums, install_jars, jars_folder
from varve.setup.java import find_java
from varve.setup.locks import write_jar_sums, write_locks
from varve.setup.pack import pack
from varve.setup.preflight import preflight
from varve.setup.proxies import java_options
from varve.setup.side_environment import AIRFLOW, bring_up

ROOT = Path(__file__).resolve().parents[3]


def main() -> int:
    """Exit status 0, 1 with one line on standard error, or 130 when interrupted."""
    arguments = _parser().parse_args()
    try:
        with _alone(ROOT):
            arguments.run(arguments)
    except SetupError as error:
        complain(f"Set-up stopped. {error}")
        return 1
    except KeyboardInterrupt:
        complain("Interrupted: run it again and it goes on where it stopped.")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m varve.setup", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    install = verbs.add_parser("install", help="bring .venv and its jars up to the locks")
    install.add_argument("--dev", action="store_true", help="with what checks and tests need")
    install.add_argument("--notebook", action="store_true", help="with JupyterLab")
    install.set_defaults(run=_install)
    airflow = verbs.add_parser("airflow", help="bring .venv-airflow up to its lock")
    airflow.set_defaults(run=_airflow)
    lock = verbs.add_parser("lock", help="write the lock files and the jars' sums anew")
    lock.add_argument("--upgrade", action="store_true", help="to the newest versions allowed")
    lock.set_defaults(run=_lock)
    packing = verbs.add_parser("pack", help="fill dist/ with what a cluster gets")
    packing.set_defaults(run=_pack)
    check = verbs.add_parser("preflight", help="whether this machine can run Varve")
    check.set_defaults(run=_preflight)
    return parser


def _preflight(_: argparse.Namespace) -> None:
    skip = os.environ.get("PREFLIGHT_SKIP", "").replace(",", " ").split()
    for line in preflight(os.environ, ROOT, skip=skip):
        say(f"  {line}")


def _install(arguments: argparse.Namespace) -> None:
    started = time.monotonic()
    environment = Environment(ROOT)
    locks = [BUILD_LOCK, DEV_LOCK if arguments.dev else RUN_LOCK]
    if arguments.notebook:
        locks.append(NOTEBOOK_LOCK)
    if environment.complete(locks) and not _jars_wrong(environment):
        if not environment.kernels_compiled():
            environment.compile_kernels()
        say(f"Set-up is complete ({time.monotonic() - started:.1f} s).")
        return
    say("Checking this machine ...")
    _preflight(arguments)
    env = dict(os.environ)
    environment.bring_up(locks, Installer(environment.folder, environment.scratch, env))
    install_jars(ROOT, environment.folder, lambda: find_java(env), _ivy(environment))
    if not environment.kernels_compiled():
        environment.compile_kernels()
    say(f"Set-up took {time.monotonic() - started:.0f} s.")


def _airflow(_: argparse.Namespace) -> None:
    started = time.monotonic()
    bring_up(AIRFLOW, ROOT, os.environ)
    say(f"Airflow is set up ({time.monotonic() - started:.1f} s).")


def _lock(arguments: argparse.Namespace) -> None:
    environment = Environment(ROOT)
    write_locks(ROOT, environment.python, dict(os.environ), upgrade=arguments.upgrade)
    write_jar_sums(ROOT, find_java(os.environ), _ivy(environment))
    say("Run `make setup-dev` to install what changed.")


def _pack(_: argparse.Namespace) -> None:
    pack(Environment(ROOT), dict(os.environ), ROOT / "dist")


def _ivy(environment: Environment) -> Ivy:
    env = dict(os.environ)
    settings = env.get("IVY_SETTINGS")
    return Ivy(
        environment.ivy(),
        env,
        options=java_options(env, pip_settings(env).get("proxy")),
        settings=Path(settings).expanduser().resolve() if settings else None,
        mirror=env.get("MAVEN_URL") or None,
    )


def _jars_wrong(environment: Environment) -> bool:
    folder = jars_folder(environment.folder)
    return any(differences(folder / kind, sums) for kind, sums in expected_sums(ROOT).items())


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One set-up at a time in a checkout; a second one waits."""
    folder = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Waiting for another set-up of this checkout to end ...")
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


if __name__ == "__main__":
    sys.exit(main())
