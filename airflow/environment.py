"""The environment variables that an Airflow of this checkout runs with. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


def environment(
    env: Mapping[str, str], home: Path, port: int, secret: str, host: str = "127.0.0.1"
) -> dict[str, str]:
    """`env` for an Airflow that keeps all it has in <home>/airflow, listens on `host`, and whose
    DAGs work on Varve's data folder `home`. secret: signs what its processes tell each other.

    What is set in `env` already stays, but for where Airflow's own home is: it is never ~/airflow.
    """
    url = f"http://127.0.0.1:{port}"
    settings = {
        "CORE__DAGS_FOLDER": str(PROJECT / "airflow" / "dags"),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "API__HOST": host,
        "API__PORT": str(port),
        "API__BASE_URL": url,
        "API__WORKERS": "1",
        "API_AUTH__JWT_SECRET": secret,
        "VAR_VARVE_PROJECT": str(PROJECT),
        "VAR_VARVE_SETTINGS": f"--home {_quoted(home)}",
    }
    defaults = {f"AIRFLOW__{name}": value for name, value in settings.items() if "VAR_" not in name}
    defaults |= {f"AIRFLOW_{name}": value for name, value in settings.items() if "VAR_" in name}
    return {**defaults, **env, "AIRFLOW_HOME": str(home / "airflow")}


def _quoted(path: Path) -> str:
    """As shlex.split reads it."""
    return "'" + str(path).replace("'", "'\"'\"'") + "'"
