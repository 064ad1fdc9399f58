"""Gateways that read the same claims know the same leaders, and one leader at a time."""

from hypothesis import given
from hypothesis import strategies as st

from varve.gateway.leaders import AgreedLeaders, Claim
from varve.gateway.replicas import NO_REPLICA, Replicas

FAILOVER_MS = 30_000
PAIR = {"cluster": "eu", "job": "node"}

claims = st.lists(
    st.builds(
        Claim, st.sampled_from(["eu", "us"]), st.sampled_from("abc"), st.integers(0, 200_000)
    ),
    max_size=40,
)


def leaders(agreed):
    return {claim.cluster: claim.replica for claim in agreed.claims()}


@given(claims)
def test_a_leader_changes_only_after_its_silence(log):
    agreed, alive_ms = AgreedLeaders(FAILOVER_MS), {}
    for claim in log:
        before = leaders(agreed).get(claim.cluster)

        changed = agreed.apply(claim)

        after = leaders(agreed)[claim.cluster]
        assert changed == (before != after)
        if changed and before is not None:
            assert claim.at_ms - alive_ms[claim.cluster] >= FAILOVER_MS
            assert after == claim.replica
        if after == claim.replica:
            alive_ms[claim.cluster] = max(claim.at_ms, alive_ms.get(claim.cluster, 0))
            if changed:
                alive_ms[claim.cluster] = claim.at_ms


@given(claims, st.integers(0, 40))
def test_who_reads_from_a_silence_on_knows_what_all_others_know(log, cut):
    log = sorted(log, key=lambda claim: claim.at_ms)
    behind = [c._replace(at_ms=c.at_ms + 300_000) for c in log[cut:]]
    early, late = AgreedLeaders(FAILOVER_MS), AgreedLeaders(FAILOVER_MS)
    for claim in [*log[:cut], *behind]:
        early.apply(claim)
    for claim in behind:
        late.apply(claim)

    for cluster, replica in leaders(late).items():
        assert leaders(early)[cluster] == replica


def test_claims_are_sent_to_begin_to_renew_and_to_take_over():
    agreed = AgreedLeaders(FAILOVER_MS)
    both = [("eu", "a"), ("eu", "b")]

    def due(seen, now_ms):
        return [claim.replica for claim in agreed.due(seen, now_ms)]

    assert due(both[:1], 1_000) == ["a"]
    assert due(both[:1], 1_500) == []  # it is on its way
    agreed.apply(Claim("eu", "a", 1_000))
    assert due(both, 5_000) == []
    assert due(both, 11_000) == ["a"]
    agreed.apply(Claim("eu", "a", 11_000))
    assert due(both[1:], 40_999) == []
    assert due(both[1:], 41_000) == ["b"]


def test_a_gateway_that_agrees_takes_the_leader_it_is_told_and_not_the_one_it_sees():
    replicas = Replicas(FAILOVER_MS)
    _, a = replicas.told_apart(PAIR | {"__replica__": "a"})
    _, b = replicas.told_apart(PAIR | {"__replica__": "b"})

    def see(number, now_ms):
        replicas.begin(now_ms)
        taken = bool(replicas.accepted[number])
        replicas.seen[number] += 1
        replicas.note(now_ms)
        return taken

    assert see(a, 1_000)
    replicas.is_agreed = True
    replicas.lead("eu", "b")
    assert not see(a, 2_000)
    assert see(b, 2_000)
    assert not see(a, 900_000)  # b may be seen by another gateway
    assert replicas.seen_since(900_000) == [("eu", "a")]
    replicas.lead("eu", "c")  # nobody has seen it here
    assert not see(b, 900_001)
    assert replicas.leaders() == {"eu": "c"}
    assert replicas.accepted[NO_REPLICA]
    replicas.is_agreed = False
    assert see(a, 2_000_000)  # alone again, by what it sees itself
