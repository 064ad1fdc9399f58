"""The detector in a process of its own, which says where it is and may be killed at any time.

python anomaly_crash.py TABLES BOOTSTRAP_SERVERS TOPIC ALERTS_TOPIC
"""

from __future__ import annotations

import sys
import time

from varve.anomaly.detector import Detector
from varve.anomaly.judge import judge
from varve.anomaly.rules import Rules
from varve.kafka.alert_topic import send_alerts
from varve.kafka.client_options import Cluster
from varve.kafka.topic_sender import send_messages
from varve.model.clock import SystemClock
from varve.storage.store import Store

PAUSE_S = 0.02


def main() -> None:
    root, servers, topic, alerts = sys.argv[1:]
    cluster = Cluster(servers)
    detector = Detector(
        Store(root), Rules, lambda tasks: [judge(task) for task in tasks], SystemClock()
    )

    def send(messages: list[tuple[bytes, bytes]]) -> None:
        say(f"sending {len(messages)}")
        send_messages(cluster, topic, messages, client_id="crash")
        say("sent")

    say("started")
    while True:
        if detector.step() is not None:
            say(f"judged {detector.frontier_ms}")
            continue
        detector.tell(send, lambda events: send_alerts(cluster, alerts, events))
        say(f"told {detector.frontier_ms}")
        time.sleep(PAUSE_S)


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - whoever kills it reads that


if __name__ == "__main__":
    main()
