"""Amazon SNS, signed by Signature Version 4."""

from __future__ import annotations

import configparser
import hashlib
import hmac
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit
from xml.etree import ElementTree as ET

from varve.notify.config.http_client import SigV4
from varve.notify.config.paging_receivers import SnsConfig
from varve.notify.driver import Result
from varve.notify.groups import Outcome
from varve.notify.receivers.call import Call, cut
from varve.notify.receivers.http_client import result_of

_FORM = "application/x-www-form-urlencoded; charset=utf-8"
_SMS_CHARACTERS = 1600
_MESSAGE_BYTES = 256 * 1024
_ROLE_LASTS_S = 3600


@dataclass(frozen=True)
class Credentials:
    access_key: str
    secret_key: str
    session: str = ""


async def sns(call: Call, config: SnsConfig) -> Result:
    region = _region(config)
    if not region:
        return Result(Outcome.REFUSED, "no AWS region: set sigv4.region or AWS_REGION")
    url = call.text(config.api_url) or f"https://sns.{region}.amazonaws.com/"
    topic, target = call.text(config.topic_arn), call.text(config.target_arn)
    phone = call.text(config.phone_number)
    message = call.text(config.message).encode()[:_MESSAGE_BYTES].decode(errors="ignore")
    form = {"Action": "Publish", "Version": "2010-03-31", "Message": message or "(no details)"}
    if phone:
        form |= {"PhoneNumber": phone, "Message": cut(form["Message"], _SMS_CHARACTERS)}
    else:
        form["TopicArn" if topic else "TargetArn"] = topic or target
        if subject := cut(" ".join(call.text(config.subject).split()), 100):
            form["Subject"] = subject
    if topic.endswith(".fifo"):
        form["MessageDeduplicationId"] = call.idempotency_key
        form["MessageGroupId"] = call.message.group_hash
    for i, (name, value) in enumerate(sorted(call.texts(config.attributes).items()), start=1):
        entry = f"MessageAttributes.entry.{i}"
        form[f"{entry}.Name"] = name
        form[f"{entry}.Value.DataType"] = "String"
        form[f"{entry}.Value.StringValue"] = value
    credentials = await _credentials(call, config.sigv4, region)
    if isinstance(credentials, Result):
        return credentials
    body = urlencode(form).encode()
    headers = signed(
        "sns", region, credentials, url, body, datetime.fromtimestamp(call.now_ms() / 1000, UTC)
    )
    return result_of(await call.client.request("POST", url, content=body, headers=headers))


def signed(
    service: str, region: str, credentials: Credentials, url: str, body: bytes, now: datetime
) -> dict[str, str]:
    """Headers of a signed POST of a form. Source: AWS, Signature Version 4."""
    parts = urlsplit(url)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    headers = {"content-type": _FORM, "host": parts.netloc, "x-amz-date": stamp}
    if credentials.session:
        headers["x-amz-security-token"] = credentials.session
    names = ";".join(sorted(headers))
    canonical = "\n".join(
        [
            "POST",
            quote(parts.path or "/"),
            parts.query,
            *(f"{name}:{headers[name]}" for name in sorted(headers)),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        ]
    )
    scope = f"{day}/{region}/{service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{credentials.secret_key}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope},"
        f" SignedHeaders={names}, Signature={signature}"
    )
    return headers


def _region(config: SnsConfig) -> str:
    """As it is set, of the topic, or of the environment."""
    named = config.topic_arn.split(":") if config.topic_arn.startswith("arn:") else []
    return (
        config.sigv4.region
        or (named[3] if len(named) > 3 and "{{" not in named[3] else "")
        or os.environ.get("AWS_REGION", "")
        or os.environ.get("AWS_DEFAULT_REGION", "")
    )


async def _credentials(call: Call, config: SigV4, region: str) -> Credentials | Result:
    """Of the configuration, a profile or the environment, and of a role if there is one."""
    own = _own_credentials(config)
    if own is None:
        return Result(
            Outcome.REFUSED,
            "no AWS credentials: set access_key and secret_key, profile, or AWS_ACCESS_KEY_ID",
        )
    if not config.role_arn:
        return own
    if call.now_ms() < call.memory.get("role_until_ms", 0):
        return Credentials(**call.memory["role"])
    url = f"https://sts.{region}.amazonaws.com/"
    form = {
        "Action": "AssumeRole",
        "Version": "2011-06-15",
        "RoleArn": config.role_arn,
        "RoleSessionName": "varve-notify",
        "DurationSeconds": str(_ROLE_LASTS_S),
    }
    if config.external_id:
        form["ExternalId"] = config.external_id
    body = urlencode(form).encode()
    now = datetime.fromtimestamp(call.now_ms() / 1000, UTC)
    headers = signed("sts", region, own, url, body, now)
    response = await call.client.request("POST", url, content=body, headers=headers)
    if not response.is_success:
        return result_of(response)
    found = {
        (element.tag.rpartition("}")[2]): element.text or ""
        for element in ET.fromstring(response.content).iter()  # noqa: S314
    }
    role = {
        "access_key": found.get("AccessKeyId", ""),
        "secret_key": found.get("SecretAccessKey", ""),
        "session": found.get("SessionToken", ""),
    }
    call.memory["role"] = role
    call.memory["role_until_ms"] = call.now_ms() + (_ROLE_LASTS_S - 300) * 1000
    return Credentials(**role)


def _own_credentials(config: SigV4) -> Credentials | None:
    if config.access_key:
        return Credentials(config.access_key, config.secret_key.get_secret_value())
    if config.profile:
        files = configparser.ConfigParser()
        default = Path.home() / ".aws" / "credentials"
        files.read(os.environ.get("AWS_SHARED_CREDENTIALS_FILE", default))
        if not files.has_section(config.profile):
            return None
        section = files[config.profile]
        return Credentials(
            section.get("aws_access_key_id", ""),
            section.get("aws_secret_access_key", ""),
            section.get("aws_session_token", ""),
        )
    environment = os.environ
    if "AWS_ACCESS_KEY_ID" not in environment:
        return None
    return Credentials(
        environment["AWS_ACCESS_KEY_ID"],
        environment.get("AWS_SECRET_ACCESS_KEY", ""),
        environment.get("AWS_SESSION_TOKEN", ""),
    )
