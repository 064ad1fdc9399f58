"""What a process tells its supervisor."""

import socket

from varve.services import supervised


def test_a_process_whose_ready_was_lost_in_a_full_queue_is_ready_with_its_next_word(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(supervised, "_said", set())
    monkeypatch.setenv(supervised.VARIABLE, str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as supervisor:
        supervisor.bind(str(tmp_path / "notify"))
        for _ in range(10_000):  # far more than any queue
            supervised.notify(supervised.PROGRESS)

        supervised.notify(supervised.READY)
        heard = []
        try:
            while True:
                heard.append(supervisor.recv(4_096).decode())
        except BlockingIOError:
            assert set(heard) == {supervised.PROGRESS}, "it was lost"

        supervised.notify(supervised.PROGRESS)
        assert supervisor.recv(4_096).decode().splitlines() == [
            supervised.READY,
            supervised.PROGRESS,
        ]
