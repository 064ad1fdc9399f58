"""Receivers that write into a chat."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from varve.notify.config.basic_receivers import HttpIntegration
from varve.notify.config.fields import (
    NO_SECRET,
    DurationMs,
    Fields,
    FilePath,
    Flag,
    Integer,
    Secret,
    SecretUrl,
    Template,
    Text,
    Texts,
    Url,
)


class DiscordConfig(HttpIntegration):
    webhook_url: SecretUrl = NO_SECRET
    webhook_url_file: FilePath = ""
    content: Template = '{{ template "discord.default.content" . }}'
    title: Template = '{{ template "discord.default.title" . }}'
    message: Template = '{{ template "discord.default.message" . }}'
    username: Template = ""
    avatar_url: Template = ""

    required = (("webhook_url", "webhook_url_file"),)
    exclusive = (("webhook_url", "webhook_url_file"),)


class SlackConfirmation(Fields):
    text: Template = ""
    title: Template = ""
    ok_text: Template = ""
    dismiss_text: Template = ""

    @model_validator(mode="after")
    def _has_text(self) -> Self:
        if not self.text:
            raise ValueError("missing text in Slack confirmation configuration")
        return self


class SlackAction(Fields):
    type: Template = ""
    text: Template = ""
    url: Template = ""
    style: Template = ""
    name: Template = ""
    value: Template = ""
    confirm: SlackConfirmation | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        for name in ("type", "text"):
            if not getattr(self, name):
                raise ValueError(f"missing {name} in Slack action configuration")
        if not (self.url or self.name):
            raise ValueError("missing name or url in Slack action configuration")
        return self


class SlackField(Fields):
    title: Template = ""
    value: Template = ""
    short: Flag | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        for name in ("title", "value"):
            if not getattr(self, name):
                raise ValueError(f"missing {name} in Slack field configuration")
        return self


class SlackConfig(HttpIntegration):
    send_resolved: Flag = False
    api_url: SecretUrl = NO_SECRET
    api_url_file: FilePath = ""
    app_token: Secret = NO_SECRET
    app_token_file: FilePath = ""
    app_url: Url = ""
    channel: Template = ""
    username: Template = '{{ template "slack.default.username" . }}'
    color: Template = '{{ template "slack.default.color" . }}'
    title: Template = '{{ template "slack.default.title" . }}'
    title_link: Template = '{{ template "slack.default.titlelink" . }}'
    pretext: Template = '{{ template "slack.default.pretext" . }}'
    text: Template = '{{ template "slack.default.text" . }}'
    fields: tuple[SlackField, ...] = ()
    short_fields: Flag = False
    footer: Template = '{{ template "slack.default.footer" . }}'
    fallback: Template = '{{ template "slack.default.fallback" . }}'
    callback_id: Template = '{{ template "slack.default.callbackid" . }}'
    icon_emoji: Template = '{{ template "slack.default.iconemoji" . }}'
    icon_url: Template = '{{ template "slack.default.iconurl" . }}'
    image_url: Template = ""
    thumb_url: Template = ""
    link_names: Flag = False
    mrkdwn_in: Texts = ()
    actions: tuple[SlackAction, ...] = ()
    message_text: Template = ""
    timeout: DurationMs = 0

    exclusive = (
        ("api_url", "api_url_file"),
        ("app_token", "app_token_file"),
    )


class MsTeamsConfig(HttpIntegration):
    webhook_url: SecretUrl = NO_SECRET
    webhook_url_file: FilePath = ""
    title: Template = '{{ template "msteams.default.title" . }}'
    summary: Template = '{{ template "msteams.default.summary" . }}'
    text: Template = '{{ template "msteams.default.text" . }}'

    required = (("webhook_url", "webhook_url_file"),)
    exclusive = (("webhook_url", "webhook_url_file"),)


class MsTeamsV2Config(HttpIntegration):
    webhook_url: SecretUrl = NO_SECRET
    webhook_url_file: FilePath = ""
    title: Template = '{{ template "msteamsv2.default.title" . }}'
    text: Template = '{{ template "msteamsv2.default.text" . }}'

    required = (("webhook_url", "webhook_url_file"),)
    exclusive = (("webhook_url", "webhook_url_file"),)


class WebexConfig(HttpIntegration):
    api_url: Url = ""
    room_id: Template = ""
    message: Template = '{{ template "webex.default.message" . }}'

    required = (("room_id",),)

    @model_validator(mode="after")
    def _has_its_token(self) -> Self:
        if self.http_config is None or self.http_config.authorization is None:
            raise ValueError("http_config.authorization must be set: it has the bot's token")
        return self


class TelegramConfig(HttpIntegration):
    api_url: Url = ""
    bot_token: Secret = NO_SECRET
    bot_token_file: FilePath = ""
    chat_id: Integer = 0
    chat_id_file: FilePath = ""
    message_thread_id: Integer = 0
    message: Template = '{{ template "telegram.default.message" . }}'
    disable_notifications: Flag = False
    parse_mode: Text = "HTML"

    required = (("chat_id", "chat_id_file"),)
    exclusive = (("bot_token", "bot_token_file"), ("chat_id", "chat_id_file"))

    @model_validator(mode="after")
    def _has_a_known_mode(self) -> Self:
        if self.parse_mode not in {"", "Markdown", "MarkdownV2", "HTML"}:
            raise ValueError(
                f"unknown parse_mode {self.parse_mode!r}; Markdown, MarkdownV2 and HTML are known"
            )
        return self


class RocketchatField(Fields):
    title: Template = ""
    value: Template = ""
    short: Flag | None = None


class RocketchatAction(Fields):
    type: Template = ""
    text: Template = ""
    url: Template = ""
    msg: Template = ""


class RocketchatConfig(HttpIntegration):
    send_resolved: Flag = False
    api_url: Url = ""
    token: Secret = NO_SECRET
    token_file: FilePath = ""
    token_id: Secret = NO_SECRET
    token_id_file: FilePath = ""
    channel: Template = ""
    color: Template = '{{ if eq .Status "firing" }}red{{ else }}green{{ end }}'
    title: Template = '{{ template "rocketchat.default.title" . }}'
    title_link: Template = '{{ template "rocketchat.default.titlelink" . }}'
    text: Template = '{{ template "rocketchat.default.text" . }}'
    emoji: Template = '{{ template "rocketchat.default.emoji" . }}'
    icon_url: Template = '{{ template "rocketchat.default.iconurl" . }}'
    fields: tuple[RocketchatField, ...] = ()
    short_fields: Flag = False
    image_url: Template = ""
    thumb_url: Template = ""
    link_names: Flag = False
    actions: tuple[RocketchatAction, ...] = ()

    exclusive = (("token", "token_file"), ("token_id", "token_id_file"))


class MattermostField(Fields):
    title: Template = ""
    value: Template = ""
    short: Flag | None = None


class MattermostAttachment(Fields):
    fallback: Template = ""
    color: Template = ""
    pretext: Template = ""
    text: Template = ""
    author_name: Template = ""
    author_link: Template = ""
    author_icon: Template = ""
    title: Template = ""
    title_link: Template = ""
    fields: tuple[MattermostField, ...] = ()
    thumb_url: Template = ""
    footer: Template = ""
    footer_icon: Template = ""
    image_url: Template = ""


class MattermostProps(Fields):
    card: Template = ""


class MattermostPriority(Fields):
    priority: Template = ""
    requested_ack: Flag = False
    persistent_notifications: Flag = False


class MattermostConfig(HttpIntegration):
    webhook_url: SecretUrl = NO_SECRET
    webhook_url_file: FilePath = ""
    channel: Template = ""
    username: Template = '{{ template "mattermost.default.username" . }}'
    text: Template = '{{ template "mattermost.default.text" . }}'
    icon_url: Template = ""
    icon_emoji: Template = ""
    attachments: tuple[MattermostAttachment, ...] = ()
    type: Template = ""
    props: MattermostProps | None = None
    priority: MattermostPriority | None = None

    exclusive = (("webhook_url", "webhook_url_file"),)


class WechatConfig(HttpIntegration):
    send_resolved: Flag = False
    api_secret: Secret = NO_SECRET
    api_secret_file: FilePath = ""
    corp_id: Template = ""
    api_url: Url = ""
    message: Template = '{{ template "wechat.default.message" . }}'
    message_type: Text = "text"
    agent_id: Template = '{{ template "wechat.default.agent_id" . }}'
    to_user: Template = '{{ template "wechat.default.to_user" . }}'
    to_party: Template = '{{ template "wechat.default.to_party" . }}'
    to_tag: Template = '{{ template "wechat.default.to_tag" . }}'

    exclusive = (("api_secret", "api_secret_file"),)

    @model_validator(mode="after")
    def _has_a_known_type(self) -> Self:
        if self.message_type not in {"", "text", "markdown"}:
            raise ValueError(f"message_type {self.message_type!r} should be text or markdown")
        return self
