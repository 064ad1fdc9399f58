"""What the Makefile runs: `python -m varve.setup install | preflight | lock | pack`."""

import argparse
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from varve.setup.console import SetupError, complain, say
from varve.setup.environment import BUILD_LOCK, DEV_LOCK, RUN_LOCK, Environment
from varve.setup.installer import Installer, pip_settings
from varve.setup.jars import Ivy, differences, expected_sums, install_jars, jars_folder
from varve.setup.java import find_java
from varve.setup.preflight import preflight
from varve.setup.proxies import java_options

ROOT = Path(__file__).resolve().parents[3]


def main() -> int:
    """Exit status 0, 1 with one line on standard error, or 130 when interrupted."""
    arguments = _parser().parse_args()
    try:
        with _alone(ROOT):
            arguments.run(arguments)
    except SetupError as error:
        complain(f"varve: {error}")
        return 1
    except KeyboardInterrupt:
        complain("varve: interrupted; run it again and it goes on where it stopped.")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m varve.setup", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    install = verbs.add_parser("install", help="bring .venv and its jars up to the locks")
    install.add_argument("--dev", action="store_true", help="with what checks and tests need")
    install.set_defaults(run=_install)
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
    if environment.complete(locks) and not _jars_wrong(environment):
        say(f"Set-up is complete ({time.monotonic() - started:.1f} s).")
        return
    say("Checking this machine ...")
    _preflight(arguments)
    env = dict(os.environ)
    environment.bring_up(locks, Installer(environment.folder, environment.scratch, env))
    install_jars(
        ROOT,
        environment.folder,
        lambda: find_java(env),
        Ivy(
            environment.ivy(),
            env,
            options=java_options(env, pip_settings(env).get("proxy")),
            settings=_path(env.get("IVY_SETTINGS")),
            mirror=env.get("MAVEN_URL") or None,
        ),
    )
    say(f"Set-up took {time.monotonic() - started:.0f} s.")


def _jars_wrong(environment: Environment) -> bool:
    folder = jars_folder(environment.folder)
    return any(differences(folder / kind, sums) for kind, sums in expected_sums(ROOT).items())


def _path(text: str | None) -> Path | None:
    return Path(text).expanduser().resolve() if text else None


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
