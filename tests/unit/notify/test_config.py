"""Reading alertmanager.yml: positions, defaults, secrets, and templates."""

from __future__ import annotations

import textwrap

import pytest
import yaml

from varve.notify.check import summary_of
from varve.notify.config import load_config, read_config
from varve.notify.config.document import ConfigError
from varve.notify.matchers import Mode
from varve.notify.routes import route_tree

HOOKS = "route: {receiver: team}\nreceivers:\n- name: team\n  webhook_configs:\n"
LEAST = "route: {receiver: team}\nreceivers: [{name: team}]\n"


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read_config(textwrap.dedent(text), name="am.yml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "am.yml: the file is empty; a route and receivers are wanted"),
        ("[]", "am.yml:1:1: a configuration is a mapping"),
        ("a: [", "am.yml:1:5: "),
        (
            LEAST + "receivers: []\n",
            "am.yml:3:1: key 'receivers' is there twice",
        ),
        (
            "route:\n  receiver: team\n  group_wiat: 1s\nreceivers: [{name: team}]\n",
            "am.yml:3:15: route.group_wiat: there is no such field here",
        ),
        (
            "route:\n  receiver: team\n  group_wait: 30\nreceivers: [{name: team}]\n",
            'am.yml:3:15: route.group_wait: not a valid duration string: "30"; write one like',
        ),
        (
            HOOKS + "  - max_alerts: -1\n",
            "am.yml:5:17: receivers[0].webhook_configs[0].max_alerts: ",
        ),
        (
            HOOKS + "  - {}\n",
            "am.yml:5:5: receivers[0].webhook_configs[0]: url or url_file must be set",
        ),
        (
            HOOKS + "  - url: http://x/\n    send_resolved: 'yes'\n",
            "am.yml:6:20: receivers[0].webhook_configs[0].send_resolved: should be true or false",
        ),
        ("a: &x [*x]\n" + LEAST, "am.yml:1:4: an anchor contains itself"),
    ],
)
def test_what_is_wrong_is_said_with_its_position(text, wanted):
    assert refusal(text).startswith(wanted)


def test_everything_that_is_wrong_is_said_at_once_in_the_order_of_the_file():
    text = refusal(
        """\
        global: {resolve_timeout: soon}
        route:
          receiver: team
          group_wait: x
        receivers: [{name: team, pigeon_configs: []}]
        """
    )

    assert [line.split(":")[1] for line in text.splitlines()] == ["1", "4", "5"]


def test_plain_scalars_are_text_where_text_is_wanted():
    config = read_config(
        """
        global: {http_config: {basic_auth: {username: yes, password: 0500}}}
        route: {receiver: 0x1F, group_by: [1e3, ~x]}
        receivers: [{name: 0x1F, webhook_configs: [{url: http://x/, send_resolved: no}]}]
        """
    )

    integration = config.receivers["0x1F"][0].config
    assert integration.http_config.basic_auth.username == "yes"
    assert integration.http_config.basic_auth.password.get_secret_value() == "0500"
    assert integration.send_resolved is False


def test_aliases_and_merged_mappings_are_read():
    config = read_config(
        """
        route: {receiver: team}
        receivers:
        - name: team
          webhook_configs: [&hook {url: 'http://a/', max_alerts: 3}, {<<: *hook, max_alerts: 5}]
        - {name: other, webhook_configs: [*hook]}
        """
    )

    limits = {name: [i.config.max_alerts for i in each] for name, each in config.receivers.items()}
    assert limits == {"team": [3, 5], "other": [3]}


SECRETS = """\
# a comment with hunter2-comment
global:
  smtp_smarthost: mail:25
  smtp_from: a@b
  smtp_auth_password: hunter2-smtp
  slack_api_url: https://hooks.slack.com/hunter2-slack
  http_config:
    proxy_url: http://proxy:3128
    proxy_connect_header: {X-Key: [hunter2-proxy]}
    http_headers: {X-Team: {values: [shown], secrets: [hunter2-header]}}
route: {receiver: team}
receivers:
- name: team
  pagerduty_configs: [{routing_key: hunter2-pagerduty}]
  webhook_configs: [{url: 'https://user:hunter2@hook.example/hunter2-path?k=hunter2'}]
  telegram_configs: [{bot_token: hunter2-bot, chat_id: 7}]
  email_configs: [{to: a@b, auth_secret: hunter2-mail}]
"""


def test_a_configuration_as_it_is_shown_has_no_secret_and_is_one():
    config = read_config(SECRETS)

    assert "hunter2" not in config.original
    shown = yaml.safe_load(config.original)
    assert shown["global"]["smtp_auth_password"] == "<secret>"
    assert shown["global"]["slack_api_url"] == "<secret>"
    assert shown["receivers"][0]["pagerduty_configs"] == [{"routing_key": "<secret>"}]
    assert shown["receivers"][0]["webhook_configs"] == [{"url": "https://hook.example/<secret>"}]
    assert shown["global"]["http_config"]["http_headers"]["X-Team"]["values"] == ["shown"]
    assert read_config(config.original).receivers.keys() == config.receivers.keys()


def test_no_representation_of_a_configuration_has_a_secret():
    config = read_config(SECRETS)

    assert "hunter2" not in repr(config)
    assert "hunter2" not in str(config.receivers)


def test_an_error_about_a_secret_does_not_show_it():
    text = refusal(
        """\
        global: {slack_api_url: 'ftp://hunter2/x'}
        route: {receiver: team}
        receivers: [{name: team, webhook_configs: [{url: 'hunter2'}]}]
        """
    )

    assert "hunter2" not in text
    assert "1:25: global.slack_api_url: unsupported scheme" in text


def test_paths_count_from_the_folder_of_the_file(tmp_path):
    path = tmp_path / "am.yml"
    path.write_text(
        "route: {receiver: team}\ntemplates: ['t/*.tmpl']\n"
        "receivers: [{name: team, webhook_configs: [{url_file: hook.txt}]}]\n"
    )

    config = load_config(path)

    assert config.receivers["team"][0].config.url_file == str(tmp_path / "hook.txt")
    assert config.templates == (str(tmp_path / "t/*.tmpl"),)


def test_a_receiver_takes_from_global_what_it_lacks():
    config = read_config(
        """
        global:
          smtp_smarthost: mail:25
          smtp_from: us@example.org
          smtp_auth_username: user
          smtp_auth_password_file: pw
          smtp_require_tls: false
          opsgenie_api_key: og
          http_config: {proxy_url: 'http://proxy'}
        route: {receiver: team}
        receivers:
        - name: team
          email_configs: [{to: a@b}, {to: a@b, auth_password: own, hello: here}]
          opsgenie_configs: [{http_config: {}}, {}]
        """
    )

    first, second = (i.config for i in config.receivers["team"] if i.kind == "email")
    assert first.from_ == "us@example.org"
    assert first.auth_password_file.endswith("/pw")
    assert (first.hello, first.require_tls) == ("localhost", False)
    assert second.auth_password.get_secret_value() == "own"
    assert (second.auth_password_file, second.hello) == ("", "here")
    own, shared = (i.config for i in config.receivers["team"] if i.kind == "opsgenie")
    assert own.api_key.get_secret_value() == "og"
    assert own.http_config.proxy_url == ""
    assert shared.http_config.proxy_url == "http://proxy"


def test_classic_mode_takes_no_labels_of_other_alphabets():
    text = "route: {receiver: team, group_by: [größe]}\nreceivers: [{name: team}]\n"
    read_config(text)

    with pytest.raises(ConfigError, match="invalid label name 'größe'"):
        read_config(text, mode=Mode.CLASSIC)


def test_equal_routes_beside_each_other_have_keys_of_their_own():
    tree = route_tree(
        read_config(
            """
            route: {receiver: team, routes: [{matchers: [a=b], continue: true}, {matchers: [a=b]}]}
            receivers: [{name: team}]
            """
        ).route
    )

    assert [child.key for child in tree.children] == ['{}/{a="b"}', '{}/{a="b"}#2']


def test_check_says_which_templates_will_fail(tmp_path):
    path = tmp_path / "am.yml"
    path.write_text(
        "route: {receiver: team}\n"
        "receivers: [{name: team, slack_configs: [{api_url: 'http://x', title: '{{ nope }}'}]}]\n"
    )

    (warning,) = summary_of(path, Mode.FALLBACK).warnings

    assert warning.startswith("receiver 'team': slack_configs[0].title: ")


def test_a_template_file_that_does_not_parse_is_an_error(tmp_path):
    (tmp_path / "x.tmpl").write_text("{{ define 'a' }}")
    path = tmp_path / "am.yml"
    path.write_text(LEAST + "templates: [x.tmpl]\n")

    with pytest.raises(ConfigError, match=r"x.tmpl:1:\d+: "):
        summary_of(path, Mode.FALLBACK)


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "am.yml")


def test_aliases_that_grow_without_bound_are_refused(monkeypatch):
    monkeypatch.setattr("varve.notify.config.document._MAX_NODES", 5_000)
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]

    assert "aliases counted" in refusal("\n".join(lines))
