"""Texts meant to break the PromQL engine, and the judge of what it makes of them.

Whatever is asked, there is to be a result or an error of ours, within a bound of time and memory:
`make fuzz-promql` asks for minutes, test_fuzzing.py for a moment.
"""

import json
import random
import re
import resource
import signal
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

from tests.unit.promql.differential import stored
from tests.unit.promql.random_queries import Generator, random_data
from varve.promql import result_json
from varve.promql.engine import Engine, Options
from varve.promql.errors import QueryError
from varve.promql.evaluation.limits import Limits
from varve.promql.explain import explain
from varve.promql.function_table import AGGREGATIONS, FUNCTIONS
from varve.promql.histograms.native_histogram import FloatHistogram
from varve.promql.kernels import warm_up
from varve.promql.syntax.cursor import ParseError
from varve.promql.syntax.parser import parse
from varve.promql.syntax.printer import to_text
from varve.promql.testing import MemoryStorage

LIMITS = Limits(max_samples=1_000_000, max_series=10_000, max_points=11_000, timeout_s=2.0)
BOUND_S = 4.0
"""CPU seconds a query may take: its timeout, and what may pass until it is looked at."""
MOST_MEMORY = 1 << 30
"""Bytes of address space a query may add."""

NUMBERS = ["0", "-1", "1e308", "-1e308", "5e-324", "NaN", "Inf", "-Inf", "9223372036854775808"]
NUMBERS += ["1e19", "-9223372036854775809", "0x7fffffffffffffff", "1" * 400, "0.1", "4294967296"]
DURATIONS = ["1ms", "0s", "100y", "292y", "293y", "1e300", "9999999999999999999y", "-1s", "1s"]
DURATIONS += ["5m", "30d", "(1s+1s)", "-(5m)", "step()", "range()", "(1/0)", "2^62", "1e9", "1d1ms"]
TIMES = ["0", "-1", "1e18", "9223372036854775", "-9223372036854775", "1e300", "NaN", "Inf", "end()"]
TEXTS = [
    '""',
    '"(a*)*b"',
    '"((a{0,100}){0,100}){0,100}"',
    '"[[:^alpha:]"',
    '"\\xff"',
    '".*.*.*.*x"',
]
TEXTS += [
    '"$1$1$1$1$1$1$1$1"',
    '"x{1000}"',
    '"(.{1,1000}){1,1000}"',
    f'"{"a|" * 5000}b"',
    '"\\u0000"',
]
SYMBOLS = [*"(){}[],:=<>+-*/%^@#\n\\ ", "=~", "!~", "offset ", "@ ", " by (", " on (", "bool "]
MODIFIERS = [" offset {d}", " @ {t}", "[{d}]", "[{d}:{d}]", "[{d}:]", " anchored", " smoothed"]
WORDS = [
    *FUNCTIONS,
    *AGGREGATIONS,
    "and",
    "or",
    "unless",
    "group_left",
    "fill",
    "ignoring",
    "atan2",
]

OWN_CORPUS = [
    "sum by (job) (rate(a_total[5m]))",
    "histogram_quantile(0.9, sum by (le) (rate(h_bucket[5m])))",
    'label_replace(b, "x", "$1-$2", "job", "(.)(.*)")',
    'count_values without (job) ("v", b)',
    "topk(3, b) / on (job) group_left (instance) sum by (job) (c)",
    "max_over_time(rate(a_total[1m])[10m:30s] @ end() offset 1m)",
    "h - h offset 1m",
    "info(b)",
]


def corpus(shared):
    """Queries to mutate: those of Prometheus' scripts where they are at hand, and ours."""
    found = set(OWN_CORPUS)
    folder = Path(shared) / "promqltest" / "testdata"
    for script in sorted(folder.glob("*.test")) if folder.is_dir() else ():
        for line in script.read_text(errors="surrogateescape").splitlines():
            match = re.match(r"\s*eval\S*\s+(?:instant at \S+|range from .* step \S+)\s+(.+)", line)
            if match:
                found.add(match[1])
    return sorted(found)


def storage(r):
    """Floats of every kind, classic and native histograms: a few thousand samples."""
    data = {
        labels: [(t, stored(v), 0) for t, v in points] for labels, points in random_data(r).items()
    }
    for i in range(4):
        data[("__name__", "h"), ("instance", str(i)), ("job", "x")] = [
            (t, _histogram(r, t), 0) for t in range(0, 1_200_000, 30_000)
        ]
    return MemoryStorage.of(data)


def _histogram(r, t):
    n = float(t // 30_000)
    if r.random() < 0.2:
        bounds = (0.1, 1.0, 5.0)
        return FloatHistogram(-53, n, n, positive={0: n}, custom_values=bounds)
    return FloatHistogram(r.choice((0, 3, 8)), n, n, 0.001, 0.0, {1: n / 2, 5: n / 2}, {})


class Fuzzer:
    """Texts, without end."""

    def __init__(self, r, seeds):
        self.r = r
        self.seeds = seeds
        self.generator = Generator(r, dict.fromkeys(_Anything(), 0))

    def text(self):
        kind = self.r.random()
        if kind < 0.45:
            return self.mutated(self.r.choice(self.seeds))
        if kind < 0.65:
            return self.mutated(self.generator.query())
        if kind < 0.75:
            return self.garbage()
        if kind < 0.85:
            return self.nested()
        return self.extreme()

    def filled(self, template):
        r = self.r
        return template.format(
            d=r.choice(DURATIONS), t=r.choice(TIMES), n=r.choice(NUMBERS), s=r.choice(TEXTS)
        )

    def mutated(self, text):
        for _ in range(self.r.choice((1, 1, 2, 3, 8))):
            text = self.once(text)
        return text[:20_000]

    def once(self, text):
        r = self.r
        at = r.randrange(len(text) + 1)
        kind = r.randrange(9)
        if kind == 0:
            return text[:at] + text[at + r.choice((1, 1, 2, 5)) :]
        if kind == 1:
            return text[:at] + r.choice(SYMBOLS + WORDS) + text[at:]
        if kind == 2:
            return re.sub(r"\d[\d.]*(?![\w\"])", lambda m: self.number(m[0]), text)
        if kind == 3:
            return re.sub(r"\d+(ms|[smhdwy])", lambda m: self.duration(m[0]), text)
        if kind == 4:
            return re.sub(r'"[^"]*"', lambda m: r.choice((m[0], r.choice(TEXTS))), text)
        if kind == 5:
            return self.wrapped(text)
        if kind == 6:
            return text + self.filled(r.choice(MODIFIERS))
        if kind == 7:
            other = r.choice(self.seeds)
            return text[:at] + other[r.randrange(len(other) + 1) :]
        return re.sub(r"\b[a-z_]+\b(?=\()", lambda m: self.word(m[0]), text)

    def number(self, known):
        return self.r.choice((known, self.r.choice(NUMBERS)))

    def duration(self, known):
        return self.r.choice((known, self.r.choice(DURATIONS)))

    def word(self, known):
        return self.r.choice((known, self.r.choice(WORDS)))

    def wrapped(self, text):
        around = ["({})", "-({})", "sum({})", "abs({})", "({}) + ({})", "({}) or b", "topk(1, {})"]
        around += ["rate(({})[5m:1s])", "({})[30d:1s]", "scalar({})", "count_values('v', {})"]
        around += ["histogram_quantile(0.5, {})", "quantile_over_time(0.5, ({})[1d:])"]
        return self.r.choice(around).replace("{}", text)

    def garbage(self):
        r = self.r
        if r.random() < 0.3:
            raw = bytes(r.randrange(256) for _ in range(r.randrange(40)))
            return raw.decode("utf-8", "surrogateescape")
        tokens = SYMBOLS + WORDS + NUMBERS + DURATIONS + TEXTS + ["b", "a_total", "h", "__name__"]
        return " ".join(r.choice(tokens) for _ in range(r.randrange(40)))

    def nested(self):
        r = self.r
        depth = r.choice((50, 149, 151, 1000, 10_000))
        before, inside, after = r.choice(
            (
                ("(", "1", ")"),
                ("(", "", ""),
                ("-", "b", ""),
                ("+ -", "1", ""),
                ("abs(", "b", ")"),
                ("sum(", "b", ")"),
                ("sum by (", "b", ")"),
                ("max_over_time((", "b", ")[5m:1m])"),
                ("", "b", "[5m:1m]"),
                ("2^", "b", ""),
                ("b^", "b", ""),
                ("", "b", " + b"),
                ("", "1", " + 1 * 2 ^ 3"),
                ("", "b", " or b"),
                ("", "b", " offset 1s"),
                ("", "b", " @ 1"),
                ("{", "", "}"),
                ("[", "", "]"),
                ("b[1m + (", "1", ")]"),
                ("", "b == bool ", "1 == bool "),
                ("#\n", "b", ""),
                ("b / on (job) group_left () (", "b", ")"),
            )
        )
        return before * depth + inside + after * r.choice((depth, depth, depth - 1))

    def extreme(self):
        templates = [
            'count_over_time({{__name__=~".+"}}[{d}:{d}])',
            "sum(rate({{__name__=~{s}}}[{d}] offset {d}))",
            "b[{d}] @ {t}",
            "b offset {d} @ {t}",
            "topk({n}, b)",
            "bottomk by (job) ({n}, b)",
            "limitk({n}, b)",
            "limit_ratio({n}, b)",
            "quantile({n}, b)",
            "count_values({s}, b * {n} + time())",
            "count_values('v', rand({n}))",
            "quantile_over_time({n}, b[{d}:{d}])",
            "predict_linear(b[{d}], {n})",
            "double_exponential_smoothing(b[{d}], {n}, {n})",
            'label_replace(b, "x", {s}, "job", {s})',
            "label_join(b, {s}, {s}, {s}, {s})",
            "label_join(b, 'x', '-'" + ", 'job'" * 3000 + ")",
            "histogram_quantile({n}, {{__name__=~'h.*'}})",
            "histogram_fraction({n}, {n}, h)",
            "histogram_quantiles(h, {s}, {n}, {n})",
            "h * {n}",
            "h </ {n}",
            "h >/ {n}",
            "rate(h[{d}]) / {n}",
            "round(b, {n})",
            "clamp(b, {n}, {n})",
            "month(vector({n}))",
            "year(b * {n})",
            "days_in_month(vector({n}))",
            "vector({n}) ^ {n} % {n} atan2 {n}",
            "sum_over_time(vector({n})[{d}:{d}])",
            "sum_over_time((sum_over_time(b[{d}:{d}]))[{d}:{d}])",
            "b and on () b or on ({d}) b",
            "{{job=~{s}}}",
            "{{job!~{s}}}",
            "info(b, {{__name__=~{s}}})",
            "sort_by_label(b, {s})",
            "rate(a_total[{d}] anchored)",
            "increase(a_total[{d}] smoothed)",
            "b smoothed offset {d}",
            "timestamp(b offset {d})",
            "absent(b{{x={s}}})",
            "absent_over_time(b[{d}:{d}])",
            "scalar(b) + {n} > bool {n}",
            "(" + " or ".join(["b", "c", "h", "a_total"] * 200) + ")",
            "b" + " * b" * 500,
        ]
        return self.filled(self.r.choice(templates))


class _Anything(list):
    """Every name that the generator may count."""

    def __init__(self):
        from tests.unit.promql.random_queries import ALL

        super().__init__(ALL)


class Judge:
    """Asks an engine, and tells what is wrong about what it did."""

    def __init__(self, r, limits=LIMITS):
        warm_up()  # or compiling would count as a query's time
        self.r = r
        self.engine = Engine(storage(r), Options(limits=limits))
        self.kinds = {"answered": 0, "refused by the parser": 0, "refused by the engine": 0}

    def times(self):
        """Start, end and step in ms; step 0 is an instant query."""
        r = self.r
        start = r.choice((0, 600_000, 600_000, 600_001, -(10**15), 10**15, 2**53))
        step = r.choice((0, 0, 1, 1000, 15_000, 15_000, 2**40))
        return start, start + step * r.choice((0, 1, 10, 10, 100, 10_999)), step

    def wrong(self, query):
        """None if the engine gave an answer or an error of its own within the bounds."""
        start, end, step = self.times()
        body = None
        began = time.process_time()
        try:
            with bounded(BOUND_S * 5, MOST_MEMORY):
                body = self.ask(query, start, end, step)
        except ParseError as error:
            self.kinds["refused by the parser"] += 1
            size = len(query.encode("utf-8", "surrogateescape"))
            if not 0 <= error.span.start <= error.span.end <= size:
                return f"a parse error outside of the text: {error.span}"
        except QueryError:
            self.kinds["refused by the engine"] += 1
        except BaseException:  # noqa: BLE001 - whatever it is, no user should meet it
            return f"from {start} to {end} step {step}: {traceback.format_exc(limit=-6)}"
        else:
            self.kinds["answered"] += 1
        took = time.process_time() - began
        if body is not None and "result" not in json.loads(body):
            return f"from {start} to {end} step {step}: no answer: {body[:200]!r}"
        if took > BOUND_S:
            return f"from {start} to {end} step {step}: {took:.1f} s of CPU"
        return None

    def ask(self, query, start, end, step):
        tree = parse(query)
        text = to_text(tree)
        assert to_text(parse(text)) == text, "what is printed is another query"
        explain(self.engine, query, start, end, step)
        if step:
            result = self.engine.range(query, start, end, step)
        else:
            result = self.engine.instant(query, start)
        return result_json.to_json(result)


class TooSlowError(BaseException):
    """Not even an error came in time."""


@contextmanager
def bounded(seconds, more_bytes):
    """Ends what takes too long by TooSlowError, and what takes too much by MemoryError."""

    def too_slow(_signal, _frame):
        raise TooSlowError

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more_bytes, before[1]))
    handler = signal.signal(signal.SIGALRM, too_slow)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def seeded(seed):
    return random.Random(seed)
