"""Names of the positions kept in the tables: every transaction id that a commit may move.

A piece of work keeps how far it is in the table it writes, in the same commit as its rows. The
functions give the transaction id; the stored version under that id is the position itself.
docs/architecture.md has the table of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

COMPLETE = "complete:"
REJECTS = "rejects:"
REPLAY = "replay:"
EXPIRED = "expired:"


def offset(query: str, topic_id: str, partition: int) -> str:
    """On samples: the next Kafka offset that the query reads of the partition."""
    return f"{query}:{topic_id}:{partition}"


def epoch(query: str, topic_id: str, partition: int) -> str:
    """On samples: the leader epoch as of which the query's `offset` of the partition was stored.

    Kafka gives offsets again after a log was cut short, but in a later epoch.
    """
    return f"epoch:{query}:{topic_id}:{partition}"


def batch(query: str) -> str:
    """On samples: the number of the query's last batch."""
    return f"batch:{query}"


def complete(query: str) -> str:
    """On samples: everything produced up to this time (ms, inclusive) is stored."""
    return f"{COMPLETE}{query}"


def rejects(query: str) -> str:
    """On samples and on quarantine: the query's last batch that refused something.

    Where the two differ, the commit of that batch's rejects is still owed.
    """
    return f"{REJECTS}{query}"


def replay(query: str) -> str:
    """On samples and on quarantine: the last replay of quarantined samples.

    Where the two differ, the removal of what was replayed from quarantine is still owed.
    """
    return f"{REPLAY}{query}"


def deletion() -> str:
    """On samples: the number of the last deletion of samples by an operator.

    On a rollup table: the last deletion that its rows say nothing of any more. Where the two
    differ, the rest of the deletion is still owed.
    """
    return "deletion"


def deleting() -> str:
    """On samples: the number of the last deletion that has begun; where it is over `deletion`, some
    samples of colder roots may have gone, and the others are still to go.
    """
    return "deleting"


def arrived() -> str:
    """On a table of a colder root: the number of the last move of files into it."""
    return "arrived"


def moved() -> str:
    """On the same table of the root above: the last move whose files have been removed there.

    Where it is behind `arrived`, that removal is owed.
    """
    return "moved"


def given_up() -> str:
    """On that table, too: the last move that was given up. Its copies in the colder root are being
    taken back, so none of its files may be removed above.
    """
    return "given_up"


def moved_until() -> str:
    """On that table, too: rows up to this time, ms, may be in colder roots."""
    return "moved_until"


def registry() -> str:
    """On series: the number of the last registration of series."""
    return "registry"


def trim() -> str:
    """On series: the number of the last trimming that was begun.

    On samples, histograms, exemplars and rollup tables: moves whenever one is begun or gone on
    with. Whoever adds rows of series that he found registered names it as `unmoved`.
    """
    return "trim"


def trimmed() -> str:
    """On series: the last trimming that is finished. Where it is behind `trim`, the condemned
    series are still there.
    """
    return "trimmed"


def rewrite(table: str) -> str:
    """On any table: the number of commits that removed files from it."""
    return f"rewrite:{table}"


def frontier(tier: str) -> str:
    """On the tier's table: the end of its last closed window, ms, inclusive."""
    return f"frontier:{tier}"


def source(tier: str) -> str:
    """On the tier's table: the version of the table below up to which all late rows that touch a
    closed window are repaired. That table's log is needed from there on.
    """
    return f"source:{tier}"


def turn(tier: str) -> str:
    """On the tier's table: the number of its last commit, from 0.

    Every commit moves it, so of rivals only one wins and the others notice.
    """
    return f"turn:{tier}"


def repairs(tier: str) -> str:
    """On the tier's table: the last commit whose repairs must be noted in the table repairs.

    On repairs: the last commit whose repairs are noted there.
    """
    return f"repairs:{tier}"


def events() -> str:
    """On anomalies: the number of the last commit that has events of episodes.

    On episodes: the last commit to anomalies whose events are there. Where the two differ, they are
    still owed.
    """
    return "events:anomalies"


def expired(matcher: str = "") -> str:
    """On samples: raw samples up to this time, ms, may have been deleted.

    On a rollup table: rows of windows up to this time may have been deleted, or were never made, as
    they were closed only after their samples had gone. matcher: text of a SeriesMatcher whose
    series this is about; empty for all series. What it means must not depend on settings, which
    may change: what has gone has gone.
    """
    return f"{EXPIRED}{matcher or 'default'}"


def expired_classes(at: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Of the positions of samples or a rollup table, the `expired` of series that a matcher selects
    and that have expired further than all series have: the matcher's text and the time, ms.
    """
    everyone = at.get(expired())
    for name, until_ms in at.items():
        if not name.startswith(EXPIRED) or name == expired():
            continue
        if everyone is None or until_ms > everyone:
            yield name.removeprefix(EXPIRED), until_ms


def dropped(matcher: str) -> str:
    """On samples and rollup tables: rows up to this time, ms, of a matcher's series have been
    deleted. Those between it and `expired` are about to be.
    """
    return f"dropped:{matcher}"


def backfilled(source: str) -> str:
    """On samples and rollup tables: up to this time, ms, the table has what it is to have of a
    source of history, such as a block, by its name.
    """
    return f"backfilled:{source}"


def rules(shard: int) -> str:
    """On alerts: the number of the last commit about a shard of the groups of rules.

    Of two processes that believe to hold the shard, one notices the other by it.
    """
    return f"rules:{shard}"


def rules_members() -> str:
    """On alerts: how often a process that holds no shard has said that it lives."""
    return "rules-members"


def evaluated(group: str) -> str:
    """On alerts: the last slot, ms, for which the alerting rules of a group were evaluated."""
    return f"evaluated:{group}"


def recorded(group: str) -> str:
    """On alerts: the last slot, ms, of which no rule of a group is left to evaluate."""
    return f"recorded:{group}"
