"""Email against a real SMTP server, with and without TLS and login."""

from __future__ import annotations

import asyncio
import email
import email.policy
import socket
import ssl
from contextlib import contextmanager

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from tests.certificates import write_certificates
from tests.unit.notify.test_receivers import NOW_MS, delivery_of
from varve.model.clock import ManualClock
from varve.notify.config import read_config
from varve.notify.groups import Outcome
from varve.notify.receivers.sender import ReceiverSender


class Mailbox:
    def __init__(self, answer: str = "250 OK") -> None:
        self.mails, self.envelopes, self.answer = [], [], answer
        self.secure: list[bool] = []

    async def handle_DATA(self, server, session, envelope):  # noqa: N802 - aiosmtpd's name
        self.envelopes.append(envelope)
        self.secure.append(session.ssl is not None)
        parsed = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.mails.append(parsed)
        return self.answer


def login(server, session, envelope, mechanism, auth_data) -> AuthResult:
    success = (auth_data.login, auth_data.password) == (b"user", b"hunter2")
    return AuthResult(success=success, handled=False)


@contextmanager
def serving(mailbox: Mailbox, **options):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    controller = Controller(mailbox, hostname="127.0.0.1", port=port, **options)
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


def send(port: int, more: str = "", *, resolved: bool = False):
    config = read_config(
        "route: {receiver: team, group_by: [alertname]}\n"
        "receivers:\n- name: team\n  email_configs:\n"
        "  - {to: 'Ops <ops@example.org>, b@example.org', from: varve@example.org,"
        f" smarthost: 'localhost:{port}', send_resolved: true{more}}}\n"
    )

    async def attempt():
        sender = ReceiverSender(config, ManualClock(NOW_MS), "http://varve.example")
        try:
            return await sender.send(delivery_of(config, resolved=resolved))
        finally:
            await sender.close()

    return asyncio.run(attempt())


@pytest.fixture
def certificates(tmp_path):
    write_certificates(tmp_path / "ca.pem", tmp_path / "server.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    return context, tmp_path / "ca.pem"


def test_a_mail_has_both_forms_and_its_headers():
    mailbox = Mailbox()
    with serving(mailbox) as port:
        result = send(
            port,
            ", require_tls: false, text: '{{ template \"__text_message\" . }}',"
            " headers: {Subject: 'own {{ .Status }}', X-A: \"b\\r\\nBcc: evil@example.org\"}",
        )

    assert result.outcome is Outcome.TAKEN, result.detail
    (mail,) = mailbox.mails
    assert mailbox.envelopes[0].rcpt_tos == ["ops@example.org", "b@example.org"]
    assert mail["Subject"] == "own firing"
    assert mail["X-A"] == "b Bcc: evil@example.org"
    assert mail["Bcc"] is None
    assert mail["Message-ID"].endswith("@example.org>")
    assert mail["Date"].datetime.timestamp() * 1000 == NOW_MS + 30_000
    assert [part.get_content_type() for part in mail.walk()] == [
        "multipart/alternative",
        "text/plain",
        "text/html",
    ]
    assert "<a> is down" in mail.get_body(("plain",)).get_content()
    html = mail.get_body(("html",)).get_content()
    assert "&lt;a&gt; is down" in html
    assert "http://varve.example/#/alerts?receiver=team" in html


def test_the_subject_says_what_it_is_about():
    mailbox = Mailbox()
    with serving(mailbox) as port:
        send(port, ", require_tls: false")
        send(port, ", require_tls: false", resolved=True)

    assert [mail["Subject"] for mail in mailbox.mails] == [
        "[FIRING:2] Down (page)",
        "[RESOLVED] Down (page)",
    ]


def test_mails_about_a_group_make_a_thread_a_day():
    mailbox = Mailbox()
    with serving(mailbox) as port:
        for _ in range(2):
            send(port, ", require_tls: false, threading: {enabled: true}")

    first, second = mailbox.mails
    assert first["References"] == second["References"] == first["In-Reply-To"]
    assert "-2026-01-05@" in first["References"]


def test_a_server_without_tls_gets_no_mail_that_requires_it():
    mailbox = Mailbox()
    with serving(mailbox) as port:
        result = send(port)

    assert result.outcome is Outcome.REFUSED
    assert "STARTTLS" in result.detail
    assert mailbox.mails == []


def test_starttls_and_a_login(certificates):
    context, ca = certificates
    mailbox = Mailbox()
    options = {
        "tls_context": context,
        "require_starttls": True,
        "authenticator": login,
        "auth_required": True,
    }
    with serving(mailbox, **options) as port:
        tls = f", tls_config: {{ca_file: '{ca}'}}, auth_username: user"
        right = send(port, f"{tls}, auth_password: hunter2")
        wrong = send(port, f"{tls}, auth_password: hunter3")
        unknown = send(port, ", auth_username: user, auth_password: hunter2")

    assert right.outcome is Outcome.TAKEN, right.detail
    assert mailbox.secure == [True]
    assert wrong.outcome is Outcome.REFUSED
    assert "hunter" not in wrong.detail
    assert unknown.outcome is Outcome.FAILED
    assert "certificate" in unknown.detail.lower()


def test_tls_from_the_first_byte(certificates):
    context, ca = certificates
    mailbox = Mailbox()
    with serving(mailbox, ssl_context=context) as port:
        result = send(port, f", force_implicit_tls: true, tls_config: {{ca_file: '{ca}'}}")

    assert result.outcome is Outcome.TAKEN, result.detail
    assert len(mailbox.mails) == 1


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [("451 later", Outcome.FAILED), ("554 never", Outcome.REFUSED)],
)
def test_what_a_server_says_for_good_is_not_tried_again(answer, outcome):
    with serving(Mailbox(answer)) as port:
        result = send(port, ", require_tls: false")

    assert result.outcome is outcome
    assert answer.split()[1] in result.detail


def test_a_server_that_is_not_there_is_tried_again():
    with serving(Mailbox()) as port:
        pass

    assert send(port).outcome is Outcome.FAILED
