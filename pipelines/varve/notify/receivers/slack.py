"""Slack: incoming webhooks and chat.postMessage."""

from __future__ import annotations

from typing import Any

from varve.notify.config.chat_receivers import SlackAction, SlackConfig
from varve.notify.config.fields import is_set, read_secret
from varve.notify.driver import Result
from varve.notify.groups import Outcome
from varve.notify.receivers.call import Call, answer_json, cut, given
from varve.notify.receivers.http_client import result_of

# What Slack says where trying again may help.
_TEMPORARY = frozenset({"ratelimited", "rate_limited", "internal_error", "service_unavailable"})


async def slack(call: Call, config: SlackConfig) -> Result:
    headers = {}
    url = call.text(read_secret(config.api_url, config.api_url_file))
    if is_set(config.app_token) or config.app_token_file:
        token = read_secret(config.app_token, config.app_token_file)
        headers = {"Authorization": f"Bearer {token}"}
        url = config.app_url
    body = given(
        channel=call.text(config.channel),
        username=call.text(config.username),
        icon_emoji=call.text(config.icon_emoji),
        icon_url=call.text(config.icon_url),
        link_names=config.link_names or None,
    )
    if config.message_text:
        body["text"] = call.text(config.message_text)
    else:
        body["attachments"] = [_attachment(call, config)]
    response = await call.post_for_answer(url, body, headers)
    answer = answer_json(response)
    if response.is_success and answer.get("ok") is False:
        error = str(answer.get("error") or "unknown error")
        outcome = Outcome.FAILED if error in _TEMPORARY else Outcome.REFUSED
        return Result(outcome, f"Slack: {error}")
    return result_of(response)


def _attachment(call: Call, config: SlackConfig) -> dict[str, Any]:
    return given(
        title=cut(call.text(config.title), 1024),
        title_link=call.text(config.title_link),
        pretext=call.text(config.pretext),
        text=call.text(config.text),
        fallback=call.text(config.fallback),
        callback_id=call.text(config.callback_id),
        image_url=call.text(config.image_url),
        thumb_url=call.text(config.thumb_url),
        footer=call.text(config.footer),
        color=call.text(config.color),
        mrkdwn_in=list(config.mrkdwn_in) or ["fallback", "pretext", "text"],
        fields=[
            {
                "title": call.text(field.title),
                "value": call.text(field.value),
                "short": config.short_fields if field.short is None else field.short,
            }
            for field in config.fields
        ],
        actions=[_action(call, action) for action in config.actions],
    )


def _action(call: Call, action: SlackAction) -> dict[str, Any]:
    shown = given(**call.texts(action.model_dump(exclude={"confirm"})))
    if action.confirm is not None:
        shown["confirm"] = given(**call.texts(action.confirm.model_dump()))
    return shown
