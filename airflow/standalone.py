"""`make airflow`: an Airflow on a data folder of Varve, on loopback.

.venv-airflow/bin/python airflow/standalone.py [--home DIR] [--port N]
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from environment import PROJECT, environment

_PASSWORDS = "simple_auth_manager_passwords.json.generated"
_USER = "admin"
_ENDING_S = 20
_ANSWER_S = 1
# `airflow standalone` would serve logs on every interface of the machine: here they are files.
_COMPONENTS = (
    ["api-server"],
    ["dag-processor"],
    ["scheduler", "--skip-serve-logs"],
)


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs Airflow on a data folder of Varve.")
    parser.add_argument("--home", type=Path, default=PROJECT / ".varve", help="data folder")
    parser.add_argument("--port", type=int, default=8080, help="of the page (default: 8080)")
    parser.add_argument("--host", default="127.0.0.1", help="to listen on (default: loopback)")
    args = parser.parse_args()
    home = args.home.resolve()
    if not (home / "tables").is_dir() and "AIRFLOW_VAR_VARVE_SETTINGS" not in os.environ:
        print(f"airflow: no tables under {home}: run `make demo` first, or name it with --home")
        return 1
    if _taken(args.port):
        print(f"airflow: port {args.port} is taken: choose one with PORT=... (make) or --port")
        return 1
    folder = home / "airflow"
    folder.mkdir(parents=True, exist_ok=True)
    secret = _kept(folder / "jwt-secret", lambda: secrets.token_urlsafe(32))
    passwords = _kept(folder / _PASSWORDS, lambda: json.dumps({_USER: secrets.token_urlsafe(9)}))
    env = environment(os.environ, home, args.port, secret, args.host)
    airflow = str(Path(sys.executable).parent / "airflow")
    print("Airflow is starting, which takes a minute or so ...", flush=True)
    for command in (
        ["db", "migrate"],
        ["pools", "import", str(PROJECT / "airflow" / "pools.json")],
    ):
        done = subprocess.run(
            [airflow, *command], env=env, capture_output=True, text=True, check=False
        )
        if done.returncode:
            print(f"airflow: `airflow {' '.join(command)}` failed:\n{done.stdout}{done.stderr}")
            return 1

    def say_where() -> bool:
        """As soon as somebody answers there, and whether that is so."""
        if is_there := _answers(args.host, args.port):
            print(
                f"Airflow: http://127.0.0.1:{args.port}  user {_USER}, password"
                f" {json.loads(passwords)[_USER]}\n"
                f"Its logs are in {folder / 'logs'}; Ctrl-C ends it.",
                flush=True,
            )
        return is_there

    commands = [[airflow, *command] for command in _COMPONENTS]
    return _run_until_one_ends(commands, env, folder, say_where)


def _run_until_one_ends(
    commands: list[list[str]], env: dict[str, str], folder: Path, has_said: Callable[[], bool]
) -> int:
    """0 if we were told to stop, else 1. What is left is ended in order, within some seconds.
    has_said: called until it returns true.
    """
    told: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda got, _: told.append(got))
    running = []
    for command in commands:
        with (folder / f"{command[1]}.log").open("ab") as log:
            running.append(
                subprocess.Popen(
                    command,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C is ours alone
                )
            )
    is_said = False
    while not told and all(process.poll() is None for process in running):
        is_said = is_said or has_said()
        time.sleep(0.5)
    ended = [c[1] for c, p in zip(commands, running, strict=True) if p.poll() is not None]
    for process in running:
        if process.poll() is None:
            process.terminate()
    for process in running:
        try:
            process.wait(_ENDING_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if not told:
        print(f"airflow: {', '.join(ended)} ended: see {folder / ended[0]}.log")
    return 0 if told else 1


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _answers(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(_ANSWER_S)
        return probe.connect_ex((host, port)) == 0


def _kept(file: Path, make: Callable[[], str]) -> str:
    """The text of a file that only its owner reads; made once."""
    if not file.exists():
        new = file.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(make())
        new.replace(file)
    return file.read_text()


if __name__ == "__main__":
    sys.exit(main())
