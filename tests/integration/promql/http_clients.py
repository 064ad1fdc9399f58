"""Requests as clients of Prometheus' HTTP API send them, about the series of shared_queries.py.

Each client has its addresses, methods, and ways to write times and forms. What Prometheus 2.42 and
3 answer otherwise is kept away from, or excepted in http_differences.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from random import Random

import httpx

from tests.integration.promql.shared_queries import BASE_MS, SPAN_S, Queries

BEGIN_S = BASE_MS // 1000
END_S = BEGIN_S + SPAN_S
Pairs = tuple[tuple[str, str], ...]

_METRICS = ("c_total", "g", "w", "b_bucket", "nothing")
_LABELS = ("__name__", "instance", "job", "zone", "le", "nope")
_SELECTORS = (
    "c_total",
    "g",
    '{__name__="w"}',
    '{__name__=~".*o.*"}',
    'g{zone="eu",instance=~"0|1"}',
    '{job=~".+",zone!="us"}',
    '{le="+Inf"}',
    "nothing",
)
_DASHBOARD = (
    "rate(c_total[1m0s])",
    "sum by (job) (rate(c_total[4m0s]))",
    'sum(rate(c_total{job=~"x|y"}[2m])) by (instance)',
    "histogram_quantile(0.95, sum by (le) (rate(b_bucket[5m])))",
    'g{zone=~"eu"}',
    "avg without (instance) (g)",
    "topk(3, g)",
    "c_total offset 5m",
    "count(g) or vector(0)",
    "max_over_time(g[10m]) > 20",
    "sum(g) / count(g) * 100",
    "nothing",
    "vector(1)",
    "time()",
)


@dataclass(frozen=True, slots=True)
class Sent:
    """A request: parameters of the address, of the form, and how the form is sent."""

    client: str
    method: str
    path: str
    params: Pairs = ()
    form: Pairs = ()
    is_multipart: bool = False
    headers: Pairs = field(default=())

    def to(self, server: httpx.Client) -> httpx.Response:
        headers = dict(self.headers)
        if self.is_multipart:
            files = [(name, (None, value)) for name, value in self.form]
            return server.request(
                self.method, self.path, params=self.params, files=files, headers=headers
            )
        if not self.form:
            return server.request(self.method, self.path, params=self.params, headers=headers)
        body = str(httpx.QueryParams(self.form)).encode()
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        return server.request(
            self.method, self.path, params=self.params, content=body, headers=headers
        )


def request(r: Random) -> Sent:
    """A request of one of the clients."""
    client = r.choice(
        (_grafana, _grafana, _perses, _go_client, _python_client, _by_hand, _mistaken)
    )
    return client(r)


def _api(path: str) -> str:
    return f"/api/v1/{path}"


def _span_s(r: Random, step_s: int) -> tuple[int, int]:
    """Start and end, multiples of the step, as panels ask for them."""
    end = r.randrange(BEGIN_S + 600, END_S + 600) // step_s * step_s
    return (end - r.choice((300, 900, 1_800, 3_600)) // step_s * step_s), end


def _everything() -> Pairs:
    """A range that holds all samples. Of a shorter one Prometheus' head has all series, too."""
    return (("start", str(BEGIN_S)), ("end", str(END_S)))


def _lookups(r: Random, start_and_end: Pairs) -> Sent:
    """Labels, values, series: what a query builder, completion and variables ask for."""
    match = (("match[]", r.choice(_SELECTORS)),)
    kind = r.randrange(5)
    if kind == 0:
        return Sent("", "GET", _api("labels"), start_and_end)
    if kind == 1:
        return Sent("", "GET", _api("labels"), start_and_end + match)
    label = r.choice(_LABELS)
    if kind == 2:
        return Sent("", "GET", _api(f"label/{label}/values"), start_and_end)
    if kind == 3:
        return Sent("", "GET", _api(f"label/{label}/values"), start_and_end + match)
    more = (("match[]", r.choice(_SELECTORS)),) if r.random() < 0.3 else ()
    return Sent("", "GET", _api("series"), match + more + start_and_end)


def _of(client: str, sent: Sent, *, post: bool = False, headers: Pairs = ()) -> Sent:
    if post:
        return Sent(client, "POST", sent.path, (), sent.params + sent.form, headers=headers)
    return Sent(client, sent.method, sent.path, sent.params, sent.form, headers=headers)


def _expression(r: Random) -> str:
    return r.choice(_DASHBOARD)


def _grafana(r: Random) -> Sent:
    """Its Prometheus data source, by POST as it is set up by default."""
    headers = (("X-Dashboard-Uid", "d"), ("X-Panel-Id", "2"), ("Accept-Encoding", "gzip"))
    kind = r.randrange(8)
    if kind < 4:
        step_s = r.choice((15, 30, 60, 300))
        start, end = _span_s(r, step_s)
        asked = (
            ("query", _expression(r)),
            ("start", f"{start}"),
            ("end", f"{end}"),
            ("step", str(step_s)),
        )
        timeout = (("timeout", "60s"),) if r.random() < 0.3 else ()
        return Sent("grafana", "POST", _api("query_range"), (), asked + timeout, headers=headers)
    if kind == 4:
        at = f"{r.randrange(BEGIN_S, END_S)}.{r.randrange(1000):03}".rstrip("0").rstrip(".")
        form = (("query", _expression(r)), ("time", at))
        return Sent("grafana", "POST", _api("query"), (), form, headers=headers)
    if kind == 5:
        fixed = (
            Sent("", "GET", _api("status/buildinfo")),
            Sent("", "GET", _api("rules")),
            Sent("", "GET", _api("alerts")),
            Sent("", "GET", _api("metadata"), (("limit", "40000"),)),
            Sent("", "GET", _api("metadata"), (("metric", "nothing"),)),
            Sent("", "POST", _api("query"), (), (("query", "1+1"), ("time", f"{END_S}"))),
            Sent(
                "",
                "POST",
                _api("query_exemplars"),
                (),
                (("query", "b_bucket"), *_everything()),
            ),
        )
        return _of("grafana", r.choice(fixed), headers=headers)
    looked_up = _lookups(r, _everything())
    can_post = "/label/" not in looked_up.path
    return _of("grafana", looked_up, post=can_post and r.random() < 0.5, headers=headers)


def _perses(r: Random) -> Sent:
    """Its plug-in, by GET; times have no fractions."""
    if r.random() < 0.4:
        return _of("perses", _lookups(r, _everything()))
    if r.random() < 0.2:
        form = (("query", _expression(r)), ("time", str(r.randrange(BEGIN_S, END_S))))
        return Sent("perses", "GET", _api("query"), form)
    step_s = r.choice((15, 60))
    start, end = _span_s(r, step_s)
    asked = (("query", _expression(r)), ("start", str(start)), ("end", str(end)))
    return Sent("perses", "GET", _api("query_range"), (*asked, ("step", str(step_s))))


def _go_client(r: Random) -> Sent:
    """client_golang, which promtool is built with: forms, times with fractions."""

    def text(at_s: float) -> str:
        return f"{at_s:.3f}".rstrip("0").rstrip(".")

    queries = Queries(r)
    at = BEGIN_S + r.randrange(SPAN_S) + 0.5
    kind = r.randrange(6)
    if kind < 2:
        form: Pairs = (("query", queries.next()), ("time", text(at)))
        if r.random() < 0.3:
            form += (("timeout", "2m0s"),)
        return Sent("go", "POST", _api("query"), (), form)
    if kind < 4:
        end = at + 30 * r.randrange(1, 20)
        times = (("start", text(at)), ("end", text(end)), ("step", r.choice(("30", "30.000"))))
        return Sent("go", "POST", _api("query_range"), (), (("query", queries.next()), *times))
    if kind == 4:
        return _of("go", _lookups(r, _everything()))
    fixed = ("status/config", "status/flags", "status/runtimeinfo", "status/buildinfo")
    others = ("status/tsdb", "status/walreplay", "targets", "alertmanagers", "alerts", "rules")
    return Sent("go", "GET", _api(r.choice((*fixed, *others))))


def _python_client(r: Random) -> Sent:
    """prometheus-api-client and requests: GET, floats as Python writes them, a step with a unit."""
    at = BEGIN_S + r.randrange(SPAN_S) + 0.5
    kind = r.randrange(4)
    if kind == 0:
        return Sent("python", "GET", _api("label/__name__/values"))
    if kind == 1:
        query = f"{r.choice(_METRICS)}[{r.choice(('5m', '600s', '1h'))}]"
        return Sent("python", "GET", _api("query"), (("query", query), ("time", str(at))))
    if kind == 2:
        return Sent(
            "python", "GET", _api("query"), (("query", Queries(r).next()), ("time", str(at)))
        )
    step = r.choice(("30s", "1m", "90", "1m30s", "0.5m" if r.random() < 0.1 else "2m"))
    times = (("start", str(at)), ("end", str(at + 900)), ("step", step))
    return Sent("python", "GET", _api("query_range"), (("query", Queries(r).next()), *times))


def _by_hand(r: Random) -> Sent:
    """curl and scripts: RFC 3339, forms in parts, parameters in both places, statistics."""
    moment = datetime.fromtimestamp(r.randrange(BEGIN_S, END_S) + 0.5, UTC)
    zone = timezone(timedelta(hours=r.choice((-8, 0, 2)), minutes=r.choice((0, 30))))
    iso = r.choice((moment, moment.astimezone(zone))).isoformat(timespec="milliseconds")
    iso = iso.replace("+00:00", r.choice(("Z", "+00:00")))
    later = (moment + timedelta(minutes=10)).isoformat().replace("+00:00", "Z")
    query = ("query", Queries(r).next())
    kinds: tuple[Callable[[], Sent], ...] = (
        lambda: Sent("curl", "GET", _api("query"), (query, ("time", iso))),
        lambda: Sent("curl", "POST", _api("query"), (), (query, ("time", iso)), is_multipart=True),
        lambda: Sent("curl", "POST", _api("query"), (("query", "1 +"), ("time", iso)), (query,)),
        lambda: Sent("curl", "GET", _api("query"), (query, ("time", iso), ("stats", "all"))),
        lambda: Sent(
            "curl",
            "GET",
            _api("query_range"),
            (query, ("start", iso), ("end", later), ("step", "2m")),
        ),
        lambda: Sent("curl", "GET", _api("format_query"), (query,)),
        lambda: Sent("curl", "POST", _api("format_query"), (), (query,)),
        lambda: Sent("curl", "GET", "/federate", (("match[]", "nothing"),)),
        lambda: Sent("curl", "GET", r.choice(("/-/healthy", "/-/ready", "/version"))),
        lambda: Sent("curl", "OPTIONS", _api(r.choice(("query", "labels", "series")))),
    )
    return r.choice(kinds)()


def _mistaken(r: Random) -> Sent:
    """Requests with something wrong: each has to be told so in the same way."""
    at, later, step = ("start", str(BEGIN_S)), ("end", str(END_S)), ("step", "60")
    bad = r.choice(("", "soon", "1x", "12:30", "2023-11-14 22:13:20", "0x10", "1_0", " 1"))
    query = ("query", r.choice(("g", "sum(g)", "rate(c_total[5m])")))
    wrong_query = r.choice(
        (
            "",
            "sum(",
            "g{",
            "g{job=x}",
            "rate(g)",
            "g[5m] + 1",
            "sum by (job g",
            '{job=""}',
            "nosuch(g)",
            "1 + + ",
            "g offset",
            "g[5m:]]",
            "count_values(g)",
            "label_replace(g)",
            "g and 1",
            '"a" + 1',
            'g{job=~"("}',
            "\x00",
        )
    )
    wrong_match = r.choice(("", "{}", '{a=""}', "1", "g[5m]", "sum(g)", "{job=~'('}", "{__name__"))
    fails = r.choice(
        (
            "g * on (job) g",
            "g + on (zone) group_left c_total",
            'label_replace(g, "a", "$1", "job", "(")',
            'label_replace(g, "~", "$1", "job", "x")',
            'count_values("~", g)',
            "quantile(g, g)",
        )
    )
    options = (
        ("GET", "query", (("query", wrong_query), ("time", str(END_S)))),
        ("POST", "query", (("query", wrong_query), ("time", str(END_S)))),
        ("GET", "query", (query, ("time", bad or "x"))),
        ("GET", "query", (query, ("time", str(END_S)), ("timeout", bad or "y"))),
        ("GET", "query", (("query", fails), ("time", str(END_S - 600)))),
        ("GET", "query", ()),
        ("GET", "query_range", (query, ("start", bad), later, step)),
        ("GET", "query_range", (query, at, ("end", bad), step)),
        ("POST", "query_range", (query, at, later, ("step", bad))),
        ("POST", "query_range", (("query", wrong_query), at, later, step)),
        ("GET", "query_range", (query, at, later, ("step", r.choice(("0", "-1", "0s", "0.1"))))),
        ("GET", "query_range", (query, ("start", str(END_S)), ("end", str(BEGIN_S)), step)),
        ("GET", "query_range", (("query", r.choice(("g[5m]", '"a"'))), at, later, step)),
        ("GET", "query_range", (("query", fails), at, later, step)),
        ("GET", "series", ()),
        ("GET", "series", (("match[]", wrong_match),)),
        ("GET", "series", (("match[]", "g"), ("match[]", wrong_match))),
        ("GET", "series", (("match[]", "g"), ("start", bad or "z"))),
        ("GET", "series", (("match[]", "g"), ("start", str(END_S)), ("end", str(BEGIN_S)))),
        ("GET", "labels", (("match[]", wrong_match),)),
        ("POST", "labels", (("start", bad or "z"),)),
        ("GET", "label/job/values", (("end", bad or "z"),)),
        ("GET", "label/job/values", (("match[]", wrong_match),)),
        ("GET", "label/job/values", (("start", str(END_S)), ("end", str(BEGIN_S)))),
        ("GET", "query_exemplars", (("query", wrong_query), at, later)),
        ("GET", "query_exemplars", (query, ("start", str(END_S)), ("end", str(BEGIN_S)))),
        ("GET", "metadata", (("limit", bad or "all"),)),
        ("GET", "rules", (("type", bad or "all"),)),
        ("GET", "format_query", (("query", wrong_query),)),
        ("GET", r.choice(("nowhere", "query/x", "label//values", "label/job")), ()),
        (r.choice(("PUT", "DELETE", "PATCH")), r.choice(("query", "series", "rules")), ()),
        ("POST", r.choice(("metadata", "status/tsdb", "targets", "label/job/values")), ()),
    )
    method, path, pairs = r.choice(options)
    if method == "POST":
        return Sent("mistaken", method, _api(path), (), pairs)
    return Sent("mistaken", method, _api(path), pairs)
