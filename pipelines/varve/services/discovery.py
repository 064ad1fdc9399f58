"""Finds what runs for a home: by the home itself, not by a port that another home may have.

A service says in the header Varve-Home of every answer what it answers for; `varve up` says in
its status which Kafka it uses.
"""

from __future__ import annotations

import http.client
import urllib.error

from varve.model.errors import TemporaryError
from varve.services.home import Home, identity
from varve.services.own_services import opener_of_home
from varve.services.status import Record, read_status
from varve.settings import Settings

HEADER = "Varve-Home"
"""The header of every answer that says whose it is: `services.home.identity` of its settings."""

_TIMEOUT_S = 5.0


def query_service(settings: Settings) -> str:
    """The address of the query service of this home, without a slash at its end.

    That is the one the service itself has noted in the home, or the settings' query.host and
    query.port. Raises TemporaryError if nobody answers there or it answers for another home.
    """
    noted = _running(settings, "query")
    url = str(noted.detail["url"]) if noted and "url" in noted.detail else settings.query.url()
    try:
        with opener_of_home(settings).open(f"{url}/-/ready", timeout=_TIMEOUT_S) as answer:
            theirs = answer.headers.get(HEADER)
    except urllib.error.HTTPError as err:  # it is not ready, but it is there
        theirs = err.headers.get(HEADER)
    except (OSError, http.client.HTTPException) as err:
        raise TemporaryError(f"no query service at {url}") from err
    if theirs != identity(settings) and not (noted and theirs is None):
        raise TemporaryError(f"no query service of this home: at {url} another home's answers")
    return url


def with_running_kafka(settings: Settings) -> Settings:
    """The settings with the Kafka that this home's `varve up` uses.

    Raises TemporaryError if that would be its own broker and it does not run: at the broker's
    port may be another home's.
    """
    up = _running(settings, "up")
    if up is not None and "kafka" in up.detail:
        kafka = settings.kafka.model_copy(update={"bootstrap_servers": up.detail["kafka"]})
        return settings.model_copy(update={"kafka": kafka})
    if not settings.kafka.bootstrap_servers:
        raise TemporaryError("no Kafka: the broker of this home does not run")
    return settings


def _running(settings: Settings, component: str) -> Record | None:
    """What a component of this home says, if it runs."""
    record = read_status(Home.at(settings.home).path).get(component)
    return record if record is not None and record.alive() else None
