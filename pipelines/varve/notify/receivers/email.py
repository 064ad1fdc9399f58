"""Email by SMTP, with TLS and every way to log in that servers offer."""

from __future__ import annotations

import email.utils
import re
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP

import aiosmtplib

from varve.notify.config.basic_receivers import EmailConfig
from varve.notify.config.fields import read_secret
from varve.notify.config.http_client import TlsConfig
from varve.notify.driver import Result
from varve.notify.groups import Outcome
from varve.notify.message import Message
from varve.notify.receivers.tls import tls_context
from varve.notify.templates import Rendering

_SUBJECT = '{{ template "email.default.subject" . }}'
_IMPLICIT_TLS_PORT = 465
_TIMEOUT_S = 30.0


async def send_email(
    message: Message,
    rendering: Rendering,
    config: EmailConfig,
    *,
    idempotency_key: str,
    now_ms: int,
) -> Result:
    """One attempt. What a server says for good (5xx) is not tried again, the rest is."""
    mail = email_of(message, rendering, config, idempotency_key=idempotency_key, now_ms=now_ms)
    recipients = _addresses(rendering.text(config.to))
    senders = _addresses(rendering.text(config.from_))
    if not recipients or len(senders) != 1:
        return Result(Outcome.REFUSED, "from is no address, or to has none")
    host, _, port = config.smarthost.rpartition(":")
    implicit = config.force_implicit_tls
    if implicit is None:
        implicit = port == str(_IMPLICIT_TLS_PORT)
    try:
        tls = tls_context(config.tls_config or TlsConfig())
        client = aiosmtplib.SMTP(
            hostname=host.strip("[]"),
            port=int(port),
            local_hostname=config.hello,
            use_tls=implicit,
            start_tls=False,
            tls_context=tls,
            timeout=_TIMEOUT_S,
        )
        async with client:
            await _secure(client, config, implicit=implicit)
            await _log_in(client, config, implicit=implicit)
            refused, _ = await client.sendmail(senders[0], recipients, mail.as_bytes(policy=SMTP))
        if refused:
            return Result(Outcome.TAKEN, f"some recipients were refused: {sorted(refused)}")
    except _Unfit as err:
        return Result(Outcome.REFUSED, str(err))
    except aiosmtplib.SMTPRecipientsRefused as err:
        codes = {refusal.code for refusal in err.recipients}
        outcome = Outcome.REFUSED if min(codes) >= 500 else Outcome.FAILED
        return Result(outcome, f"every recipient was refused: {sorted(codes)}")
    except aiosmtplib.SMTPResponseException as err:
        outcome = Outcome.REFUSED if err.code >= 500 else Outcome.FAILED
        return Result(outcome, f"{err.code} {err.message}"[:300])
    except (aiosmtplib.SMTPException, OSError, ValueError) as err:
        return Result(Outcome.FAILED, f"{type(err).__name__}: {err}"[:300])
    return Result(Outcome.TAKEN)


def email_of(
    message: Message,
    rendering: Rendering,
    config: EmailConfig,
    *,
    idempotency_key: str,
    now_ms: int,
) -> EmailMessage:
    """The mail: text and HTML as alternatives, and headers. Raises TemplateError."""
    mail = EmailMessage(policy=SMTP)
    headers = {name.lower(): (name, text) for name, text in config.headers.items()}
    sender = rendering.text(config.from_)
    standard = {
        "From": config.from_,
        "To": config.to,
        "Subject": _SUBJECT,
    }
    for name, text in standard.items():
        given = headers.pop(name.lower(), None)
        mail[name] = _one_line(rendering.text(given[1] if given else text))
    domain = (_addresses(sender) or ["localhost"])[0].rpartition("@")[2]
    if "message-id" not in headers:
        mail["Message-ID"] = f"<{idempotency_key}@{domain}>"
    if "date" not in headers:
        mail["Date"] = email.utils.format_datetime(datetime.fromtimestamp(now_ms / 1000, UTC))
    if config.threading.enabled:
        thread = message.group_hash[:32]
        if config.threading.thread_by_date == "daily":
            thread += f"-{datetime.fromtimestamp(now_ms / 1000, UTC):%Y-%m-%d}"
        for name in ("In-Reply-To", "References"):
            mail[name] = f"<{thread}@{domain}>"
    for name, text in headers.values():
        mail[name] = _one_line(rendering.text(text))
    text, html = rendering.text(config.text), rendering.html(config.html) if config.html else ""
    if text:
        mail.set_content(text)
    if html and text:
        mail.add_alternative(html, subtype="html")
    elif html:
        mail.set_content(html, subtype="html")
    elif not text:
        mail.set_content("")
    return mail


class _Unfit(Exception):
    """The server lacks what the configuration wants of it."""


async def _secure(client: aiosmtplib.SMTP, config: EmailConfig, *, implicit: bool) -> None:
    await client.ehlo()
    if implicit:
        return
    if client.supports_extension("starttls"):
        server_name = config.tls_config.server_name if config.tls_config else ""
        await client.starttls(server_hostname=server_name or None)
        await client.ehlo()
    elif config.require_tls:
        raise _Unfit("the server offers no STARTTLS, and require_tls is true")


async def _log_in(client: aiosmtplib.SMTP, config: EmailConfig, *, implicit: bool) -> None:
    """CRAM-MD5 with a secret, PLAIN or LOGIN with a password: the first the server knows."""
    user = config.auth_username
    if not user:
        return
    offered = {method.lower() for method in client.server_auth_methods}
    password = read_secret(config.auth_password, config.auth_password_file)
    secret = read_secret(config.auth_secret, config.auth_secret_file)
    if "cram-md5" in offered and secret:
        await client.auth_crammd5(user, secret)
        return
    if not password:
        raise _Unfit(f"no way to log in: the server knows {', '.join(sorted(offered)) or 'none'}")
    if not (implicit or client.get_transport_info("sslcontext") or _is_local(config.smarthost)):
        raise _Unfit("a password is sent over TLS only")
    if "plain" in offered:
        await client.auth_plain(user, password)
    elif "login" in offered:
        await client.auth_login(user, password)
    else:
        raise _Unfit(f"no way to log in: the server knows {', '.join(sorted(offered)) or 'none'}")


def _is_local(smarthost: str) -> bool:
    host = smarthost.rpartition(":")[0].strip("[]")
    return host in {"localhost", "127.0.0.1", "::1"}


def _addresses(text: str) -> list[str]:
    found = [address for _, address in email.utils.getaddresses([text])]
    return [address for address in found if "@" in address]


def _one_line(text: str) -> str:
    """A header has one line: what a label has more cannot add headers."""
    return re.sub(r"[\r\n]+", " ", text).strip()
