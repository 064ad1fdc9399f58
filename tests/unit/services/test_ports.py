import os
import socket

import pytest

from varve.model.errors import NeedsOperator
from varve.services.ports import require_free


def test_the_holder_of_a_port_and_the_setting_are_named():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        with pytest.raises(NeedsOperator) as caught:
            require_free("127.0.0.1", port, "query.port")

    text = str(caught.value)
    assert f"port {port} is taken by" in text
    assert f"(pid {os.getpid()})" in text
    assert "VARVE_QUERY__PORT" in text


def test_a_port_that_was_just_closed_is_free():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        server.accept()[0].close()  # leaves it in TIME_WAIT
        client.close()

    require_free("127.0.0.1", port, "query.port")


def test_an_address_that_is_not_ours_is_an_error_of_its_own():
    for host in ("192.0.2.1", "no such host"):
        with pytest.raises(NeedsOperator, match=rf"cannot listen on {host}:9690: .+query.host"):
            require_free(host, 9690, "query.port")
