"""What the application needs to answer requests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from varve.access.browsers import BrowserRules
from varve.access.credentials import Credentials
from varve.api.active_queries import ActiveQueries
from varve.api.call import AskServices, Process, no_services
from varve.model.clock import Clock
from varve.query.evaluation import Options
from varve.query.memory import UNBOUNDED, MemoryBudget
from varve.query.snapshots import Snapshots
from varve.query.sql_processes import SqlProcesses
from varve.query.view import View
from varve.storage.store import Store
from varve.telemetry.metrics import QueryMetrics
from varve.telemetry.registry import Telemetry


@dataclass
class Service:
    """A query service that answers from the newest view.

    `options` bound every query; a request may ask for a shorter time, never for more. `view` gives
    None until the tables are open. `state` gives the reason why answers cannot be trusted, or "";
    `lag` why they miss what was stored last, or "".
    `components` gives what else runs in the home, for the page: its state, and of each component
    name, state and note; it may block for a moment.
    `browsers` says which hosts and pages are answered, `credentials` who is; `reread_credentials`
    gives those that the settings have now, or raises NeedsOperator. `memory` is what all of it may
    hold. `process` is what it says of itself. `snapshots` opens earlier versions; None where there
    are none. `sql` runs SQL; None if that is off. All addresses are below `route_prefix`. Setting
    `stopping` ends the queries under way. `rules` asks the rules services, `scraping` those that
    scrape; they may block for some seconds. `store` is where the tables lie.

    `threads` is how many queries are answered at once, and how many requests for metadata beside
    them, of one principal `places_of_one` (0: all of them); `most_waiting` more may wait of each
    kind, and of SQL, of which `sql_at_once` run. `active` has the queries under way. One that takes
    `slow_s` is logged, none if it is 0.
    """

    options: Options
    clock: Clock
    view: Callable[[], View | None]
    state: Callable[[], str]
    lag: Callable[[], str] = lambda: ""
    browsers: BrowserRules = field(default_factory=BrowserRules)
    credentials: Credentials = field(default_factory=lambda: Credentials({}, {}))
    reread_credentials: Callable[[], Credentials] = lambda: Credentials({}, {})
    memory: MemoryBudget = field(default_factory=lambda: MemoryBudget(UNBOUNDED))
    metrics: QueryMetrics = field(default_factory=lambda: QueryMetrics(Telemetry()))
    components: Callable[[], Mapping[str, Any]] = lambda: {"state": "ready", "components": []}
    threads: int = 4
    process: Process = field(default_factory=Process)
    stopping: threading.Event = field(default_factory=threading.Event)
    snapshots: Snapshots | None = None
    sql: SqlProcesses | None = None
    sql_at_once: int = 2
    most_waiting: int = 256
    places_of_one: int = 0
    active: ActiveQueries = field(default_factory=ActiveQueries)
    slow_s: float = 0.0
    route_prefix: str = ""
    rules: AskServices = no_services
    scraping: AskServices = no_services
    store: Store | None = None
