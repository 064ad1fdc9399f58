"""One query's failure does not end the others."""

import itertools

import pytest

from varve.services.query_supervision import LONGEST_WAIT_S, Start, supervise


class Time:
    """A clock that each wait moves on by a second, and what happens at some of them. Is the event
    that stops the queries, too.
    """

    def __init__(self, until_s=1_000, **at):
        self.now_s, self.until_s = 0.0, until_s
        self.events = at

    def seconds(self):
        return self.now_s

    def is_set(self):
        return self.now_s >= self.until_s

    def wait(self, _):
        self.now_s += 1
        for happens in self.events.pop(f"s{self.now_s:g}", ()):
            happens()


class Query:
    """A query that fails when it is told to."""

    def __init__(self, log, name):
        self.log, self.name = log, name
        self.failure, self.done = None, False
        log.append(f"{name} starts")

    def raise_failure(self):
        if self.failure is not None:
            raise self.failure

    def stop(self):
        self.log.append(f"{self.name} ends")


class Deployment:
    def __init__(self, *names, broken=()):
        self.log, self.running, self.states = [], {}, []
        self.broken = set(broken)
        self.starts = [Start(name, self.starter(name)) for name in names]

    def starter(self, name):
        def start(session):
            assert session == "session"
            if name in self.broken:
                raise OSError(f"{name} cannot start")
            self.running[name] = Query(self.log, name)
            return self.running[name]

        return start

    def fail(self, name, error):
        def happens():
            self.running[name].failure = error

        return happens

    def run(self, time):
        supervise(
            "session",
            self.starts,
            time,
            is_done=lambda query: query.done,
            on_change=self.states.append,
            clock_s=time.seconds,
        )


def test_a_query_that_fails_starts_again_while_the_others_go_on():
    queries = Deployment("bulk", "critical")

    queries.run(Time(20, s5=[queries.fail("bulk", OSError("storage away"))]))

    assert queries.log == [
        *("bulk starts", "critical starts"),
        *("bulk ends", "bulk starts"),
        *("bulk ends", "critical ends"),
    ]
    assert queries.states == [
        {"bulk": "", "critical": ""},
        {"bulk": "storage away", "critical": ""},
        {"bulk": "", "critical": ""},
    ]


def test_one_that_cannot_start_is_tried_for_as_long_as_it_takes_and_ever_less_often():
    queries = Deployment("bulk", "critical", broken=["bulk"])
    tried = []
    starts = queries.starter("bulk")

    def noted(session):
        tried.append(time.now_s)
        return starts(session)

    queries.starts[0] = Start("bulk", noted)
    time = Time(400, s300=[queries.broken.clear])

    queries.run(time)

    waits = [b - a for a, b in itertools.pairwise(tried)]
    assert waits[:6] == [1, 2, 4, 8, 16, 32]
    assert set(waits[6:]) == {LONGEST_WAIT_S}
    assert queries.states[-1] == {"bulk": "", "critical": ""}


def test_one_that_ran_well_for_a_minute_is_started_again_at_once():
    queries = Deployment("bulk", "critical")
    faults = {f"s{at}": [queries.fail("bulk", OSError("away"))] for at in (100, 200, 300)}

    queries.run(Time(310, **faults))

    assert queries.log.count("bulk starts") == 4


def test_the_failure_is_raised_once_no_query_runs_and_all_are_ended():
    queries = Deployment("bulk", "critical")
    first, second = OSError("first"), ValueError("second")
    time = Time(
        100,
        s50=[queries.fail("bulk", first), queries.fail("critical", second)],
    )

    with pytest.raises(OSError, match="first"):
        queries.run(time)

    assert queries.log.count("bulk ends") == queries.log.count("critical ends") == 1


def test_the_failure_of_the_only_query_is_raised_at_once():
    alone = Deployment("bulk", broken=["bulk"])

    with pytest.raises(OSError, match="cannot start"):
        alone.run(Time(10))


def test_it_ends_when_all_have_stored_what_was_available():
    queries = Deployment("bulk", "critical")

    def done(name):
        return lambda: setattr(queries.running[name], "done", True)

    time = Time(100, s3=[done("bulk")], s6=[done("critical")])
    queries.run(time)

    assert time.now_s == 6


def test_a_query_that_cannot_be_ended_in_order_is_started_again_all_the_same():
    queries = Deployment("bulk", "critical")

    def break_it():
        def fail():
            raise RuntimeError("the session is confused")

        queries.running["bulk"].stop = fail
        queries.running["bulk"].failure = OSError("away")

    queries.run(Time(20, s5=[break_it]))

    assert queries.log.count("bulk starts") == 2
