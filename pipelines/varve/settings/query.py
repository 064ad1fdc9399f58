"""The query service: address, limits, memory."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, SecretStr

from varve.settings.listener import Listener
from varve.settings.section import Secret


class Query(Listener):
    port: int = Field(9690, ge=1, le=65535)
    """Port it listens on. 9690: free on machines that run Prometheus (9090)."""
    admins: str = ""
    """Names of the tokens and users, comma separated, that may do all: see and end the queries of
    others, have the service read its secrets again. Empty: all of them may only read."""
    token: Secret = SecretStr("")
    """Token that `varve query --url` sends, written like one of tokens. The service of the same
    home asks commands for none."""
    route_prefix: str = Field("", pattern="^(/[A-Za-z0-9._~-]+)*$")
    """Path that all addresses begin with, such as /varve, for a proxy that hands on more than one
    service. Empty: none."""
    at_once: int = Field(4, ge=1)
    """Queries answered at once, and beside them as many requests for labels and the like. 4: each
    waits for storage and uses idle cores."""
    at_once_of_one: int = Field(0, ge=0)
    """Of these, how many of one token or user, or of one address where nobody has a token. 0: all,
    while nobody else waits."""
    most_waiting: int = Field(256, ge=0)
    """Requests that wait for their turn, of each kind; who has most of them gets 503 first, with
    when to come again. 256: some dashboards opened at once."""
    slow_s: float = Field(10, ge=0)
    """Seconds from which on a query is logged, with how long it waited. 0: none is."""
    sql: bool = True
    """Whether POST /api/v1/sql runs statements."""
    sql_memory_mb: int = Field(1_024, ge=64)
    """MiB that a statement may take, in a process of its own and so beside memory_mb. 1,024: joins
    and groups of some ten million rows."""
    sql_max_rows: int = Field(1_000_000, gt=0)
    """Rows of a statement's answer. 1 M: more than a notebook plots; jobs read the tables."""
    sql_max_mb: int = Field(64, ge=1)
    """MiB of a statement's answer, which is held whole. 64: a million rows of a few numbers."""
    sql_at_once: int = Field(2, ge=1)
    """Statements that run at once; beyond it clients get 503. 2: a laptop has room for their
    memory and the rest."""
    max_connections: int = Field(2_048, ge=8)
    """Connections at once. The one that is idle longest makes room for a new one; if none is, the
    new one is refused. 2,048: the browsers and dashboards of a company, 100 kB each at worst."""
    lookback_s: int = Field(300, gt=0)
    """Seconds an instant selector looks back. 300 as in Prometheus: dashboards moved here keep
    their answers."""
    poll_ms: int = Field(250, ge=10)
    """Milliseconds between looks at the tables' logs. 250: a small part of an answer's age."""
    max_points: int = Field(11_000, gt=0)
    """Points of one series in a range query. 11,000 as in Prometheus."""
    max_samples: int = Field(50_000_000, gt=0)
    """Samples one query may hold. 50 M as in Prometheus."""
    max_series: int = Field(1_000_000, gt=0)
    """Series that one selector of a query may match. 1,000,000: five times what limits.toml gives a
    metric; max_samples and memory_mb bound what is read of them."""
    timeout_s: float = Field(120, gt=0)
    """Seconds one query may take. 120 as in Prometheus."""
    cores: int = Field(0, ge=0)
    """Cores that queries use at once; a query on idle ones evaluates independent parts side by
    side. 0: all of the machine. 1 where other processes keep it busy: then threads only wait."""
    cache_mb: int = Field(512, ge=16)
    """MiB of decoded files kept in memory. 512: a small part of a laptop's memory."""
    footers_mb: int = Field(256, ge=0)
    """MiB of footers of files in object stores that are kept on local disk, in the home, so that a
    service that starts again asks for none of them. 256: of some hundred thousand files. 0: none
    are."""
    step_cache_mb: int = Field(64, ge=0)
    """MiB of steps of range queries that are kept, so that a panel that is refreshed computes new
    ones alone. 64: some hundred panels. 0: none are."""
    redis_url: Secret = SecretStr("")
    """Redis (redis://, rediss:// with TLS, unix://) that keeps these steps as well, for all query
    services over the same tables; who may write to it decides what they answer. Empty: none."""
    memory_mb: int = Field(2_048, ge=64)
    """MiB that the index of series, cached files, remembered selections and the queries under way
    take together, at least twice cache_mb; a query that does not fit is refused. 2,048: a heavy
    dashboard, with room for the index of some million series."""
    spark_remote: Secret = SecretStr("")
    """Spark Connect (sc://host:port/;token=...) whose executors compute the parts of a query that
    read over spark_rows; they need this package and a way to the tables. Empty: none do."""
    spark_rows: int = Field(200_000_000, ge=0)
    """Samples or rows of tiers that a selector of a query may read in this process. 200 M: some
    seconds of the cores of a machine, about what a Spark job takes to begin."""
    allowed_hosts: str = ""
    """Names, comma separated, under which clients may ask for the service, beside localhost, this
    machine's name and any address; * for all. Empty: a page whose name is made to point here (DNS
    rebinding) gets nothing."""
    allowed_origins: str = ""
    """Origins (https://host:port), comma separated, whose pages may send requests and read answers;
    * for all. Empty: the service's own page only."""

    def url(self) -> str:
        """The address of the service, without a slash at its end."""
        return super().url() + self.route_prefix

    _what_anybody_could: ClassVar[str] = "read"

    def memory_bytes(self) -> int:
        """What all of the service may hold."""
        return max(self.memory_mb, 2 * self.cache_mb) << 20
