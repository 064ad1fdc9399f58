from hypothesis import given
from hypothesis import strategies as st

from varve.kafka.topics import Bounds, TopicPlan, retention
from varve.local.broker import MAX_MESSAGE_BYTES
from varve.local.components import topic_plans
from varve.settings import Settings

MIB = 2**20


def _greatest(settings):
    return int(settings["retention.bytes"]) + int(settings["segment.bytes"])


@given(st.integers(10 * MIB, 10**12), st.sampled_from([0.7, 0.2, 0.04]), st.integers(1, 64))
def test_a_topic_stays_within_its_share_wherever_its_messages_allow_it(total, share, partitions):
    plan = TopicPlan("t", partitions, share, message_bytes=2 * MIB)

    settings = retention(Bounds(7_200_000, total), plan, partitions)

    assert _greatest(settings) * partitions <= max(total * share, 5 * MIB * partitions)
    assert int(settings["segment.bytes"]) > plan.message_bytes


@given(st.integers(1, 10**10))
def test_a_quiet_topic_still_rolls_its_segment_well_within_the_retention(retention_ms):
    settings = retention(Bounds(retention_ms, 10**9), TopicPlan("t", 4, 0.5), 4)

    assert int(settings["segment.ms"]) <= max(retention_ms / 4, 1_000)


def test_by_default_all_topics_together_stay_within_the_setting_and_take_the_longest_message():
    defaults = Settings()
    bounds = Bounds(defaults.kafka.retention_s * 1000, defaults.kafka.retention_bytes)
    plans = topic_plans(defaults)

    kept = [retention(bounds, plan, plan.partitions) for plan in plans]

    total = sum(_greatest(k) * p.partitions for k, p in zip(kept, plans, strict=True))
    assert total <= defaults.kafka.retention_bytes
    raw = kept[0]
    assert int(raw["segment.bytes"]) > MAX_MESSAGE_BYTES


def test_several_processes_of_a_gateway_get_the_topic_of_their_leaders():
    alone = [plan.name for plan in topic_plans(Settings())]
    several = Settings.model_validate({"gateway": {"processes": 2}})

    names = {plan.name: plan.partitions for plan in topic_plans(several)}

    assert names.keys() - set(alone) == {"gateway-leaders"}
    assert names["gateway-leaders"] == 1
