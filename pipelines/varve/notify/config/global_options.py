"""`global`: defaults of receivers, and what fills each receiver's gaps from them."""

from __future__ import annotations

from typing import Any

from varve.notify.config.basic_receivers import EmailConfig, HttpIntegration, Integration
from varve.notify.config.chat_receivers import (
    MattermostConfig,
    RocketchatConfig,
    SlackConfig,
    TelegramConfig,
    WebexConfig,
    WechatConfig,
)
from varve.notify.config.fields import (
    NO_SECRET,
    DurationMs,
    Fields,
    FilePath,
    Flag,
    Secret,
    SecretUrl,
    Template,
    Text,
    Url,
    is_set,
)
from varve.notify.config.http_client import HttpConfig, TlsConfig
from varve.notify.config.paging_receivers import (
    JiraConfig,
    OpsgenieConfig,
    PagerdutyConfig,
    VictoropsConfig,
)

SLACK_APP_URL = "https://slack.com/api/chat.postMessage"


class GlobalOptions(Fields):
    resolve_timeout: DurationMs = 300_000
    http_config: HttpConfig = HttpConfig()

    smtp_from: Template = ""
    smtp_hello: Text = "localhost"
    smtp_smarthost: Text = ""
    smtp_auth_username: Text = ""
    smtp_auth_password: Secret = NO_SECRET
    smtp_auth_password_file: FilePath = ""
    smtp_auth_secret: Secret = NO_SECRET
    smtp_auth_secret_file: FilePath = ""
    smtp_auth_identity: Text = ""
    smtp_require_tls: Flag = True
    smtp_force_implicit_tls: Flag | None = None
    smtp_tls_config: TlsConfig | None = None

    slack_api_url: SecretUrl = NO_SECRET
    slack_api_url_file: FilePath = ""
    slack_app_token: Secret = NO_SECRET
    slack_app_token_file: FilePath = ""
    slack_app_url: Url = SLACK_APP_URL

    pagerduty_url: Url = "https://events.pagerduty.com/v2/enqueue"
    opsgenie_api_url: Url = "https://api.opsgenie.com/"
    opsgenie_api_key: Secret = NO_SECRET
    opsgenie_api_key_file: FilePath = ""
    wechat_api_url: Url = "https://qyapi.weixin.qq.com/cgi-bin/"
    wechat_api_secret: Secret = NO_SECRET
    wechat_api_secret_file: FilePath = ""
    wechat_api_corp_id: Text = ""
    victorops_api_url: Url = "https://alert.victorops.com/integrations/generic/20131114/alert/"
    victorops_api_key: Secret = NO_SECRET
    victorops_api_key_file: FilePath = ""
    telegram_api_url: Url = "https://api.telegram.org"
    telegram_bot_token: Secret = NO_SECRET
    telegram_bot_token_file: FilePath = ""
    webex_api_url: Url = "https://webexapis.com/v1/messages"
    rocketchat_api_url: Url = "https://open.rocket.chat/"
    rocketchat_token: Secret = NO_SECRET
    rocketchat_token_file: FilePath = ""
    rocketchat_token_id: Secret = NO_SECRET
    rocketchat_token_id_file: FilePath = ""
    jira_api_url: Url = ""
    mattermost_webhook_url: SecretUrl = NO_SECRET
    mattermost_webhook_url_file: FilePath = ""

    exclusive = (
        ("smtp_auth_password", "smtp_auth_password_file"),
        ("smtp_auth_secret", "smtp_auth_secret_file"),
        ("slack_api_url", "slack_api_url_file"),
        ("slack_app_token", "slack_app_token_file"),
        ("opsgenie_api_key", "opsgenie_api_key_file"),
        ("wechat_api_secret", "wechat_api_secret_file"),
        ("victorops_api_key", "victorops_api_key_file"),
        ("telegram_bot_token", "telegram_bot_token_file"),
        ("rocketchat_token", "rocketchat_token_file"),
        ("rocketchat_token_id", "rocketchat_token_id_file"),
        ("mattermost_webhook_url", "mattermost_webhook_url_file"),
    )


def slack_conflict(options: GlobalOptions) -> str:
    """Why the global Slack options cannot be used together; "" if they can.

    The address of Slack's own API may stand beside a token: earlier versions wanted it so.
    """
    token = is_set(options.slack_app_token) or is_set(options.slack_app_token_file)
    url = options.slack_api_url.get_secret_value()
    if token and (options.slack_api_url_file or (url and url != options.slack_app_url)):
        return "at most one of slack_api_url(_file) and slack_app_token(_file) may be set"
    return ""


def filled_in(config: Integration, options: GlobalOptions) -> Integration:
    """A receiver's configuration with the global options where it has none of its own.

    Raises ValueError if something it needs is in neither.
    """
    fill = _FILL.get(type(config))
    changes: dict[str, Any] = fill(config, options) if fill else {}
    if isinstance(config, HttpIntegration) and config.http_config is None:
        changes["http_config"] = options.http_config
    return config.model_copy(update=changes)


def _either(
    config: Any, options: GlobalOptions, name: str, prefix: str, what: str = ""
) -> dict[str, Any]:
    """A secret and its file, of which the receiver has one, else the global options."""
    if is_set(getattr(config, name)) or is_set(getattr(config, f"{name}_file")):
        return {}
    found = {
        key: getattr(options, prefix + key)
        for key in (name, f"{name}_file")
        if is_set(getattr(options, prefix + key))
    }
    if what and not found:
        raise ValueError(f"no {what} set: neither {name} here nor global {prefix}{name}")
    return found


def _address(config: Any, options: GlobalOptions, name: str, default: str) -> dict[str, Any]:
    if getattr(config, name):
        return {}
    return {name: getattr(options, default)}


def _email(config: EmailConfig, options: GlobalOptions) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for name in ("smarthost", "hello", "auth_identity", "auth_username"):
        if not getattr(config, name):
            changes[name] = getattr(options, f"smtp_{name}")
    changes |= {} if config.from_ else {"from_": options.smtp_from}
    for name, what in (("smarthost", "smtp_smarthost"), ("from_", "smtp_from")):
        if not changes.get(name, getattr(config, name)):
            raise ValueError(f"no global {what} set, and no {name.strip('_')} here")
    host, _, port = changes.get("smarthost", config.smarthost).rpartition(":")
    if not host or not port:
        raise ValueError("the smarthost should be HOST:PORT")
    changes |= _either(config, options, "auth_password", "smtp_")
    changes |= _either(config, options, "auth_secret", "smtp_")
    for name in ("require_tls", "force_implicit_tls", "tls_config"):
        if getattr(config, name) is None:
            changes[name] = getattr(options, f"smtp_{name}")
    return changes


def _slack(config: SlackConfig, options: GlobalOptions) -> dict[str, Any]:
    address = is_set(config.api_url) or is_set(config.api_url_file)
    token = is_set(config.app_token) or is_set(config.app_token_file)
    if address and token:
        raise ValueError("at most one of api_url(_file) and app_token(_file) may be set")
    changes = {} if config.app_url else {"app_url": options.slack_app_url}
    authorized = config.http_config is not None and config.http_config.authorization is not None
    if address or token:
        return changes
    found = {} if authorized else _either(config, options, "app_token", "slack_")
    if not found:
        found = _either(config, options, "api_url", "slack_")
    if not found and not authorized:
        raise ValueError("no Slack address or token: neither api_url, app_token nor global ones")
    if not found:
        found = {"api_url": options.slack_api_url.__class__(options.slack_app_url)}
    return changes | found


def _opsgenie(config: OpsgenieConfig, options: GlobalOptions) -> dict[str, Any]:
    return _address(config, options, "api_url", "opsgenie_api_url") | _either(
        config, options, "api_key", "opsgenie_", "OpsGenie API key"
    )


def _victorops(config: VictoropsConfig, options: GlobalOptions) -> dict[str, Any]:
    return _address(config, options, "api_url", "victorops_api_url") | _either(
        config, options, "api_key", "victorops_", "VictorOps API key"
    )


def _wechat(config: WechatConfig, options: GlobalOptions) -> dict[str, Any]:
    changes = _address(config, options, "api_url", "wechat_api_url")
    changes |= _either(config, options, "api_secret", "wechat_", "Wechat secret")
    changes |= _address(config, options, "corp_id", "wechat_api_corp_id")
    if not changes.get("corp_id", config.corp_id):
        raise ValueError("no Wechat corp_id set: neither here nor global wechat_api_corp_id")
    return changes


def _telegram(config: TelegramConfig, options: GlobalOptions) -> dict[str, Any]:
    return _address(config, options, "api_url", "telegram_api_url") | _either(
        config, options, "bot_token", "telegram_", "Telegram bot token"
    )


def _rocketchat(config: RocketchatConfig, options: GlobalOptions) -> dict[str, Any]:
    return (
        _address(config, options, "api_url", "rocketchat_api_url")
        | _either(config, options, "token", "rocketchat_", "Rocketchat token")
        | _either(config, options, "token_id", "rocketchat_", "Rocketchat token id")
    )


def _jira(config: JiraConfig, options: GlobalOptions) -> dict[str, Any]:
    changes = _address(config, options, "api_url", "jira_api_url")
    if not changes.get("api_url", config.api_url):
        raise ValueError("no Jira address set: neither api_url here nor global jira_api_url")
    return changes


def _mattermost(config: MattermostConfig, options: GlobalOptions) -> dict[str, Any]:
    return _either(config, options, "webhook_url", "mattermost_", "Mattermost webhook_url")


_FILL: dict[type[Integration], Any] = {
    EmailConfig: _email,
    SlackConfig: _slack,
    PagerdutyConfig: lambda c, o: _address(c, o, "url", "pagerduty_url"),
    OpsgenieConfig: _opsgenie,
    VictoropsConfig: _victorops,
    WechatConfig: _wechat,
    TelegramConfig: _telegram,
    WebexConfig: lambda c, o: _address(c, o, "api_url", "webex_api_url"),
    RocketchatConfig: _rocketchat,
    JiraConfig: _jira,
    MattermostConfig: _mattermost,
}
