"""Receivers that write into a chat by one request."""

from __future__ import annotations

from typing import Any

from varve.notify.config.chat_receivers import (
    DiscordConfig,
    MattermostConfig,
    MsTeamsConfig,
    MsTeamsV2Config,
    RocketchatConfig,
    TelegramConfig,
    WebexConfig,
)
from varve.notify.config.fields import NO_SECRET, read_secret
from varve.notify.driver import Result
from varve.notify.groups import Outcome
from varve.notify.receivers.call import Call, answer_json, cut, cut_bytes, given
from varve.notify.receivers.http_client import result_of

_RED, _GREEN = 0xB3261E, 0x2E7D32


async def discord(call: Call, config: DiscordConfig) -> Result:
    url = read_secret(config.webhook_url, config.webhook_url_file)
    body = {
        "content": cut(call.text(config.content), 2000),
        "embeds": [
            {
                "title": cut(call.text(config.title), 256),
                "description": cut(call.text(config.message), 4096),
                "color": _GREEN if call.resolved else _RED,
            }
        ],
        **given(username=call.text(config.username), avatar_url=call.text(config.avatar_url)),
    }
    return await call.post(url, body)


async def msteams(call: Call, config: MsTeamsConfig) -> Result:
    """A message card of connectors."""
    body = {
        "@context": "http://schema.org/extensions",
        "@type": "MessageCard",
        "title": call.text(config.title),
        "summary": call.text(config.summary),
        "text": call.text(config.text),
        "themeColor": f"{_GREEN if call.resolved else _RED:06X}",
    }
    return await call.post(read_secret(config.webhook_url, config.webhook_url_file), body)


async def msteamsv2(call: Call, config: MsTeamsV2Config) -> Result:
    """An adaptive card for flows."""
    title = {
        "type": "TextBlock",
        "text": call.text(config.title),
        "weight": "Bolder",
        "size": "Medium",
        "wrap": True,
        "style": "heading",
        "color": "Good" if call.resolved else "Attention",
    }
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [title, {"type": "TextBlock", "text": call.text(config.text), "wrap": True}],
        "msteams": {"width": "full"},
    }
    body = {
        "type": "message",
        "attachments": [
            {
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": None,
                "content": card,
            }
        ],
    }
    return await call.post(read_secret(config.webhook_url, config.webhook_url_file), body)


async def webex(call: Call, config: WebexConfig) -> Result:
    body = {
        "markdown": cut_bytes(call.text(config.message), 7439),
        "roomId": call.text(config.room_id),
    }
    return await call.post(config.api_url, body)


async def telegram(call: Call, config: TelegramConfig) -> Result:
    token = read_secret(config.bot_token, config.bot_token_file)
    chat = read_secret(NO_SECRET, config.chat_id_file) if config.chat_id_file else config.chat_id
    render = call.rendering.html if config.parse_mode == "HTML" else call.rendering.text
    body = {
        "chat_id": chat,
        "text": cut(render(config.message).strip(), 4096) or "(no details)",
        "disable_web_page_preview": True,
        "disable_notification": config.disable_notifications,
        **given(parse_mode=config.parse_mode, message_thread_id=config.message_thread_id or None),
    }
    return await call.post(f"{config.api_url.rstrip('/')}/bot{token}/sendMessage", body)


async def rocketchat(call: Call, config: RocketchatConfig) -> Result:
    """chat.postMessage, with one attachment."""
    attachment = given(
        title=call.text(config.title),
        title_link=call.text(config.title_link),
        text=call.text(config.text),
        color=call.text(config.color),
        image_url=call.text(config.image_url),
        thumb_url=call.text(config.thumb_url),
        fields=[
            {
                "title": call.text(field.title),
                "value": call.text(field.value),
                "short": config.short_fields if field.short is None else field.short,
            }
            for field in config.fields
        ],
        actions=[
            {"type": "button", **given(**call.texts(action.model_dump(exclude={"type"})))}
            for action in config.actions
        ],
    )
    body = given(
        channel=call.text(config.channel),
        alias=call.text('{{ template "rocketchat.default.alias" . }}'),
        emoji=call.text(config.emoji),
        avatar=call.text(config.icon_url),
        parseUrls=config.link_names or None,
        attachments=[attachment],
    )
    headers = {
        "X-Auth-Token": read_secret(config.token, config.token_file),
        "X-User-Id": read_secret(config.token_id, config.token_id_file),
    }
    url = config.api_url.rstrip("/") + "/api/v1/chat.postMessage"
    response = await call.post_for_answer(url, body, headers)
    answer = answer_json(response)
    if response.is_success and answer.get("success") is False:
        return Result(Outcome.REFUSED, f"Rocket.Chat: {answer.get('error')}")
    return result_of(response)


async def mattermost(call: Call, config: MattermostConfig) -> Result:
    attachments: list[dict[str, Any]] = []
    for attachment in config.attachments:
        texts = call.texts(attachment.model_dump(exclude={"fields"}))
        fields = [
            {
                "title": call.text(field.title),
                "value": call.text(field.value),
                "short": bool(field.short),
            }
            for field in attachment.fields
        ]
        attachments.append(given(**texts, fields=fields))
    priority = config.priority
    body = given(
        channel=call.text(config.channel),
        username=call.text(config.username),
        text=cut(call.text(config.text), 16_383),
        icon_url=call.text(config.icon_url),
        icon_emoji=call.text(config.icon_emoji),
        type=call.text(config.type),
        attachments=attachments,
        props=given(card=call.text(config.props.card)) if config.props else None,
        priority=given(**call.texts(priority.model_dump())) if priority else None,
    )
    return await call.post(read_secret(config.webhook_url, config.webhook_url_file), body)
