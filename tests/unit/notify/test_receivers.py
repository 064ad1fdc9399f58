"""Each kind of receiver against a server: what it is sent, and what its answers mean."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
from urllib.parse import parse_qs

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.certificates import write_certificates
from varve.model.clock import ManualClock
from varve.notify.alerts import Sending
from varve.notify.config import read_config
from varve.notify.groups import Delivery, Outcome
from varve.notify.notifier import Notifier
from varve.notify.receivers import paging
from varve.notify.receivers.sender import RECEIVERS, ReceiverSender
from varve.notify.receivers.sns import Credentials, signed

NOW_MS = 1_767_571_200_000  # 2026-01-05T00:00:00Z
GROUP_KEY = '{}:{alertname="Down"}'


class Case:
    """A server, and attempts at messages to it."""

    networks = ()
    """The only ones that messages may go to, if any are named."""

    def __init__(self, server: HTTPServer) -> None:
        self.server = server
        self.url = server.url_for("/").rstrip("/")
        self.requests: list[Request] = []
        self.status, self.body, self.headers = 200, "{}", {}
        server.expect_request(re.compile(".*")).respond_with_handler(self._answer)

    def _answer(self, request: Request) -> Response:
        request.get_data()
        self.requests.append(request)
        return Response(self.body, self.status, self.headers)

    def try_out(self, config: str, *, resolved: bool = False, times: int = 1):
        """Attempts at one message to the only integration; the last result."""
        return asyncio.run(self._try_out(config, resolved=resolved, times=times))

    async def _try_out(self, config: str, *, resolved: bool, times: int):
        route = "receiver: team, group_by: [alertname], labels: {note: 'for {{ .Receiver }}'}"
        indented = config.replace("URL", self.url)
        parsed = read_config(f"route: {{{route}}}\nreceivers:\n- name: team\n  {indented}\n")
        clock, url = ManualClock(NOW_MS), "http://varve.example"
        sender = ReceiverSender(parsed, clock, url, networks=self.networks)
        delivery = delivery_of(parsed, resolved=resolved)
        try:
            for _ in range(times):
                result = await sender.send(delivery)
            return result
        finally:
            await sender.close()

    @property
    def json(self) -> dict:
        return json.loads(self.requests[-1].get_data())


def delivery_of(config, *, resolved: bool = False) -> Delivery:
    """The message about two alerts, of which one has ended, or both."""
    notifier = Notifier(config)
    notifier.start(NOW_MS)
    sendings = [
        Sending(
            {"alertname": "Down", "instance": name, "severity": "page"},
            {"summary": f"<{name}> is down"},
            NOW_MS,
            NOW_MS + 600_000,
            "http://prom/graph?x=1",
        )
        for name in ("a", "b")
    ]
    notifier.put_alerts(sendings, NOW_MS)
    (delivery,) = notifier.due(NOW_MS + 30_000)
    if not resolved:
        return delivery
    notifier.attempted(delivery, Outcome.TAKEN, NOW_MS + 30_000)
    ended = [Sending(s.labels, s.annotations, s.starts_ms, NOW_MS + 60_000) for s in sendings]
    notifier.put_alerts(ended, NOW_MS + 60_000)
    (delivery,) = notifier.due(NOW_MS + 330_000)
    return delivery


@pytest.fixture
def case(httpserver):
    return Case(httpserver)


GROUP_HASH = delivery_of(
    read_config(
        "route: {receiver: t, group_by: [alertname]}\n"
        "receivers: [{name: t, webhook_configs: [{url: 'http://x'}]}]"
    )
).message.group_hash


def test_a_webhook_gets_version_4(case):
    result = case.try_out("webhook_configs: [{url: 'URL/hook', max_alerts: 1}]")

    assert result.outcome is Outcome.TAKEN
    payload = case.json
    alert = payload.pop("alerts")[0]
    assert payload == {
        "receiver": "team",
        "status": "firing",
        "groupLabels": {"alertname": "Down"},
        "commonLabels": {"alertname": "Down", "severity": "page"},
        "commonAnnotations": {},
        "externalURL": "http://varve.example",
        "version": "4",
        "groupKey": GROUP_KEY,
        "truncatedAlerts": 1,
        "routeLabels": {"note": "for team"},
    }
    assert alert["endsAt"] == "0001-01-01T00:00:00Z"
    assert alert["startsAt"] == "2026-01-05T00:00:00.000Z"
    request = case.requests[0]
    assert request.path == "/hook"
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["User-Agent"].startswith("varve/")


def test_every_attempt_at_a_message_has_the_same_idempotency_key(case):
    case.try_out("webhook_configs: [{url: 'URL/'}]", times=3)

    keys = {request.headers["Idempotency-Key"] for request in case.requests}
    assert len(case.requests) == 3
    assert len(keys) == 1


def test_pagerduty_opens_and_closes_an_incident_of_the_group(case):
    config = (
        "pagerduty_configs: [{routing_key: KEY, url: 'URL/enqueue', class: c,"
        " details: {more: '{{ .CommonLabels.severity }}', deep: {n: ['{{ .Status }}']}},"
        " links: [{href: 'http://l', text: t}]}]"
    )
    case.try_out(config)
    event = case.json
    assert event["routing_key"] == "KEY"
    assert (event["event_action"], event["dedup_key"]) == ("trigger", GROUP_HASH)
    assert event["payload"]["summary"].startswith("[FIRING:2] Down")
    assert event["payload"]["severity"] == "error"
    assert event["payload"]["class"] == "c"
    details = event["payload"]["custom_details"]
    assert (details["num_firing"], details["more"]) == ("2", "page")
    assert details["deep"] == {"n": ["firing"]}
    assert event["links"] == [{"href": "http://l", "text": "t"}]

    case.try_out(config, resolved=True)
    assert (case.json["event_action"], case.json["dedup_key"]) == ("resolve", GROUP_HASH)


def test_pagerduty_of_a_service_key_speaks_version_1(case):
    config = "pagerduty_configs: [{service_key: KEY, url: 'URL/v1'}]"
    case.try_out(config)

    assert case.json["service_key"] == "KEY"
    assert case.json["event_type"] == "trigger"
    assert case.json["incident_key"] == GROUP_HASH
    case.status = 403
    assert case.try_out(config).outcome is Outcome.FAILED


def test_slack_gets_an_attachment(case):
    case.body = "ok"
    result = case.try_out(
        "slack_configs: [{api_url: 'URL/hook', channel: '#x', send_resolved: true,"
        " fields: [{title: s, value: '{{ .Status }}', short: true}],"
        " actions: [{type: button, text: see, url: 'http://u', confirm: {text: sure}}]}]"
    )

    assert result.outcome is Outcome.TAKEN
    (attachment,) = case.json["attachments"]
    assert case.json["channel"] == "#x"
    assert case.json["username"] == "Varve"
    assert attachment["color"] == "danger"
    assert attachment["title"].startswith("[FIRING:2] Down (page)")
    assert attachment["title_link"] == "http://varve.example/#/alerts?receiver=team"
    assert "&lt;a&gt; is down" in attachment["text"]
    assert "<http://prom/graph?x=1|source>" in attachment["text"]
    assert attachment["mrkdwn_in"] == ["fallback", "pretext", "text"]
    assert attachment["fields"] == [{"title": "s", "value": "firing", "short": True}]
    assert attachment["actions"][0]["confirm"] == {"text": "sure"}


def test_slack_by_token_says_no_in_a_200(case):
    config = "slack_configs: [{app_token: TOKEN, app_url: 'URL/api', channel: c}]"
    case.body = '{"ok": false, "error": "channel_not_found"}'
    assert case.try_out(config).outcome is Outcome.REFUSED
    assert case.requests[0].headers["Authorization"] == "Bearer TOKEN"

    case.body = '{"ok": false, "error": "ratelimited"}'
    assert case.try_out(config).outcome is Outcome.FAILED


def test_opsgenie_opens_updates_and_closes_an_alert(case):
    config = (
        "opsgenie_configs: [{api_key: KEY, api_url: 'URL/', update_alerts: true, tags: 'a, b',"
        " responders: [{name: 'x,y', type: teams}, {username: u, type: user}]}]"
    )
    case.try_out(config)
    create, message, description = case.requests
    body = json.loads(create.get_data())
    assert (create.path, create.headers["Authorization"]) == ("/v2/alerts", "GenieKey KEY")
    assert body["alias"] == GROUP_HASH
    assert body["tags"] == ["a", "b"]
    assert body["details"] == {"alertname": "Down", "severity": "page"}
    assert body["responders"] == [
        {"name": "x", "type": "team"},
        {"name": "y", "type": "team"},
        {"username": "u", "type": "user"},
    ]
    assert (message.method, message.path) == ("PUT", f"/v2/alerts/{GROUP_HASH}/message")
    assert description.path.endswith("/description")

    case.try_out(config, resolved=True)
    assert case.requests[-1].full_path == f"/v2/alerts/{GROUP_HASH}/close?identifierType=alias"


def test_victorops_gets_critical_and_recovery(case):
    config = (
        "victorops_configs: [{api_key: KEY, api_url: 'URL/vo/', routing_key: r,"
        " message_type: nonsense, custom_fields: {own: '{{ .Receiver }}'}}]"
    )
    case.try_out(config)
    assert case.requests[0].path == "/vo/KEY/r"
    assert case.json["message_type"] == "CRITICAL"
    assert (case.json["entity_id"], case.json["own"]) == (GROUP_HASH, "team")

    case.try_out(config, resolved=True)
    assert case.json["message_type"] == "RECOVERY"


def test_pushover_gets_a_form(case, monkeypatch):
    monkeypatch.setattr(paging, "PUSHOVER", f"{case.url}/1/messages.json")
    case.try_out("pushover_configs: [{user_key: U, token: T, ttl: 1h, html: true}]")

    form = {k: v[0] for k, v in parse_qs(case.requests[0].get_data().decode()).items()}
    assert (form["user"], form["token"], form["priority"]) == ("U", "T", "2")
    assert (form["retry"], form["expire"], form["ttl"]) == ("60", "3600", "3600")
    assert "&lt;a&gt; is down" in form["message"]


def test_discord_gets_an_embed(case):
    case.try_out("discord_configs: [{webhook_url: 'URL/d', username: me}]")

    (embed,) = case.json["embeds"]
    assert embed["title"].startswith("[FIRING:2] Down")
    assert case.json["username"] == "me"


def test_msteams_gets_a_card_of_either_kind(case):
    case.try_out("msteams_configs: [{webhook_url: 'URL/t'}]")
    assert case.json["@type"] == "MessageCard"

    case.try_out("msteamsv2_configs: [{webhook_url: 'URL/t'}]")
    (attachment,) = case.json["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert attachment["content"]["body"][0]["color"] == "Attention"


def test_webex_gets_markdown(case):
    case.try_out(
        "webex_configs: [{api_url: 'URL/w', room_id: r,"
        " http_config: {authorization: {credentials: BOT}}}]"
    )

    assert case.json["roomId"] == "r"
    assert r"**\<a\> is down**" in case.json["markdown"]
    assert case.requests[0].headers["Authorization"] == "Bearer BOT"


def test_telegram_gets_escaped_html_or_plain_text(case):
    config = "telegram_configs: [{api_url: 'URL', bot_token: BOT, chat_id: -7, parse_mode: MODE}]"
    case.try_out(config.replace("MODE", "HTML"))
    assert case.requests[0].path == "/botBOT/sendMessage"
    assert (case.json["chat_id"], case.json["parse_mode"]) == (-7, "HTML")
    assert "&lt;a&gt; is down" in case.json["text"]

    case.try_out(config.replace("MODE", "''"))
    assert "<a> is down" in case.json["text"]
    assert "parse_mode" not in case.json


def test_rocketchat_says_no_in_a_200(case):
    config = "rocketchat_configs: [{api_url: 'URL/', token: T, token_id: I, channel: '#x'}]"
    case.body = '{"success": true}'
    assert case.try_out(config).outcome is Outcome.TAKEN
    request = case.requests[0]
    assert request.path == "/api/v1/chat.postMessage"
    assert (request.headers["X-Auth-Token"], request.headers["X-User-Id"]) == ("T", "I")
    assert case.json["attachments"][0]["color"] == "red"

    case.body = '{"success": false, "error": "no channel"}'
    assert case.try_out(config).outcome is Outcome.REFUSED


def test_mattermost_gets_text_and_attachments(case):
    case.try_out(
        "mattermost_configs: [{webhook_url: 'URL/m', channel: c,"
        " attachments: [{title: '{{ .Status }}', fields: [{title: a, value: b}]}],"
        " priority: {priority: urgent}}]"
    )

    assert case.json["attachments"] == [
        {"title": "firing", "fields": [{"title": "a", "value": "b", "short": False}]}
    ]
    assert case.json["priority"]["priority"] == "urgent"


def test_incidentio_gets_version_4_and_its_token(case):
    case.try_out("incidentio_configs: [{url: 'URL/i', alert_source_token: T}]")

    assert case.json["version"] == "4"
    assert case.requests[0].headers["Authorization"] == "Bearer T"


def test_wechat_fetches_a_token_once(case):
    config = (
        "wechat_configs: [{api_url: 'URL/cgi-bin/', corp_id: C, api_secret: S, to_user: '@all',"
        " send_resolved: true}]"
    )
    case.body = '{"access_token": "T", "errcode": 0}'
    case.try_out(config, times=2)
    assert [r.path for r in case.requests] == [
        "/cgi-bin/gettoken",
        "/cgi-bin/message/send",
        "/cgi-bin/message/send",
    ]
    assert case.requests[1].args["access_token"] == "T"
    assert case.json["text"]["content"].startswith("[FIRING:2]")

    case.body = '{"access_token": "T", "errcode": 42001}'
    assert case.try_out(config).outcome is Outcome.FAILED
    case.body = '{"access_token": "T", "errcode": 81013}'
    assert case.try_out(config).outcome is Outcome.REFUSED


def test_sns_signs_a_form(case):
    case.try_out(
        "sns_configs: [{api_url: 'URL/', topic_arn: 'arn:aws:sns:eu-west-1:1:T.fifo',"
        " attributes: {k: '{{ .Status }}'},"
        " sigv4: {region: eu-west-1, access_key: AK, secret_key: SK}}]"
    )

    request = case.requests[0]
    form = {k: v[0] for k, v in parse_qs(request.get_data().decode()).items()}
    assert form["TopicArn"] == "arn:aws:sns:eu-west-1:1:T.fifo"
    assert form["MessageGroupId"] == GROUP_HASH
    assert form["MessageAttributes.entry.1.Value.StringValue"] == "firing"
    assert "AK/20260105/eu-west-1/sns/aws4_request" in request.headers["Authorization"]


@pytest.mark.parametrize("session", ["", "TOKEN"])
def test_requests_are_signed_as_the_sdk_of_aws_signs_them(session):
    from datetime import UTC, datetime

    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials as TheirCredentials

    url, body, now = (
        "https://sns.eu-west-1.amazonaws.com/",
        b"Action=Publish&M=%3C",
        datetime(2026, 1, 5, 1, 2, 3, tzinfo=UTC),
    )
    ours = signed("sns", "eu-west-1", Credentials("AK", "SK", session), url, body, now)

    request = AWSRequest("POST", url, data=body, headers={"Content-Type": ours["content-type"]})
    request.context["timestamp"] = now.strftime("%Y%m%dT%H%M%SZ")
    request.headers["X-Amz-Date"] = request.context["timestamp"]
    auth = SigV4Auth(TheirCredentials("AK", "SK", session or None), "sns", "eu-west-1")
    if session:
        request.headers["X-Amz-Security-Token"] = session
    text = auth.string_to_sign(request, auth.canonical_request(request))
    assert ours["authorization"].endswith("Signature=" + auth.signature(text, request))


JIRA = (
    "jira_configs: [{api_url: 'URL/rest/api/2/', project: OPS, issue_type: Bug,"
    " labels: [varve], fields: {components: [{name: '{{ .Receiver }}'}]},"
    " resolve_transition: Done, reopen_transition: Reopen, reopen_duration: 60m}]"
)


def test_jira_opens_an_issue_if_there_is_none(case):
    case.body = '{"issues": []}'
    case.try_out(JIRA)
    search, create = case.requests
    jql = json.loads(search.get_data())["jql"]
    assert (search.path, create.path) == ("/rest/api/2/search", "/rest/api/2/issue")
    assert f'labels = "ALERT{{{GROUP_HASH}}}"' in jql
    assert "resolutiondate >= -60m" in jql
    fields = case.json["fields"]
    assert fields["project"] == {"key": "OPS"}
    assert fields["labels"] == ["varve", f"ALERT{{{GROUP_HASH}}}"]
    assert fields["components"] == [{"name": "team"}]
    assert fields["priority"] == {"name": "High"}

    case.requests.clear()
    case.try_out(JIRA, resolved=True)
    assert len(case.requests) == 1  # nothing to close


@pytest.mark.parametrize(
    ("category", "resolved", "transition"),
    [("new", True, "31"), ("done", False, "32"), ("new", False, None)],
)
def test_jira_closes_and_opens_the_issue_it_finds(httpserver, category, resolved, transition):
    case = Case(httpserver)
    issue = {"key": "OPS-1", "fields": {"status": {"statusCategory": {"key": category}}}}
    transitions = [{"id": "31", "name": "Done"}, {"id": "32", "name": "Reopen"}]
    case.body = json.dumps({"issues": [issue], "transitions": transitions})

    assert case.try_out(JIRA, resolved=resolved).outcome is Outcome.TAKEN

    if transition is None:
        assert (case.requests[-1].method, case.requests[-1].path) == (
            "PUT",
            "/rest/api/2/issue/OPS-1",
        )
    else:
        assert case.requests[-1].path == "/rest/api/2/issue/OPS-1/transitions"
        assert case.json == {"transition": {"id": transition}}


def test_every_kind_of_receiver_is_tested_here():
    text = __import__("pathlib").Path(__file__).read_text()

    assert {kind for kind in RECEIVERS if f'"{kind}_configs:' not in text} == set()


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.TAKEN),
        (204, Outcome.TAKEN),
        (400, Outcome.REFUSED),
        (404, Outcome.REFUSED),
        (429, Outcome.FAILED),
        (500, Outcome.FAILED),
        (503, Outcome.FAILED),
    ],
)
def test_what_an_answer_means(case, status, outcome):
    case.status, case.body = status, "why\nnot"

    result = case.try_out("webhook_configs: [{url: 'URL/hunter2'}]")

    assert result.outcome is outcome
    assert "hunter2" not in result.detail
    assert outcome is Outcome.TAKEN or result.detail == f"status {status}: why not"


def test_a_server_that_is_not_there_is_tried_again_and_its_path_is_not_said():
    server = HTTPServer()
    server.start()
    case = Case(server)
    server.stop()

    result = case.try_out("webhook_configs: [{url: 'URL/hunter2'}]")

    assert result.outcome is Outcome.FAILED
    assert "hunter2" not in result.detail


def test_a_template_that_fails_is_said(case):
    result = case.try_out("slack_configs: [{api_url: 'URL', title: '{{ .Nope }}'}]")

    assert result.outcome is Outcome.REFUSED
    assert "a template fails" in result.detail
    assert case.requests == []


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]"])
def test_nothing_is_sent_to_link_local_or_metadata_addresses(case, host):
    result = case.try_out(f"webhook_configs: [{{url: 'http://{host}/latest'}}]")

    assert result.outcome is Outcome.REFUSED
    assert "link-local" in result.detail


@pytest.mark.parametrize(
    ("networks", "outcome"),
    [
        (["127.0.0.0/8"], Outcome.TAKEN),
        (["10.0.0.0/8", "127.0.0.1/32"], Outcome.TAKEN),
        (["10.0.0.0/8", "::1/128"], Outcome.REFUSED),
    ],
)
def test_nothing_is_sent_outside_the_networks_that_are_allowed(case, networks, outcome):
    case.networks = tuple(map(ipaddress.ip_network, networks))

    result = case.try_out("webhook_configs: [{url: 'URL/'}]")

    assert result.outcome is outcome
    assert len(case.requests) == (outcome is Outcome.TAKEN)
    assert outcome is Outcome.TAKEN or "in none of --receivers.network" in result.detail


def test_the_address_that_is_checked_is_that_the_name_resolves_to(case, monkeypatch):
    async def resolve(*_args, **_more):
        return [(2, 1, 6, "", ("127.0.0.1", 80)), (2, 1, 6, "", ("169.254.169.254", 80))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolve)

    result = case.try_out("webhook_configs: [{url: 'http://innocent.example/'}]")

    assert result.outcome is Outcome.REFUSED
    assert "innocent.example" in result.detail


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed_to_another_host(case, status):
    case.status, case.headers = status, {"Location": "http://localhost:1/x"}

    result = case.try_out("webhook_configs: [{url: 'URL/'}]")

    assert result.outcome is Outcome.REFUSED
    assert len(case.requests) == 1


def test_a_redirect_within_the_host_is_followed_unless_that_is_off(httpserver):
    seen = []

    def end(request: Request) -> Response:
        seen.append(request.get_data())
        return Response("")

    httpserver.expect_request("/old").respond_with_data("", 308, headers={"Location": "/new"})
    httpserver.expect_request("/new").respond_with_handler(end)
    case = object.__new__(Case)
    case.url = httpserver.url_for("/").rstrip("/")
    config = "webhook_configs: [{url: 'URL/old', http_config: {follow_redirects: FOLLOW}}]"

    assert case.try_out(config.replace("FOLLOW", "true")).outcome is Outcome.TAKEN
    assert json.loads(seen[0])["version"] == "4"
    assert case.try_out(config.replace("FOLLOW", "false")).outcome is Outcome.REFUSED


@pytest.mark.parametrize(
    ("http_config", "header"),
    [
        ("basic_auth: {username: u, password: p}", "Basic dTpw"),
        ("authorization: {type: Key, credentials: c}", "Key c"),
        ("bearer_token: b", "Bearer b"),
        ("authorization: {credentials_file: FILE}", "Bearer from a file"),
    ],
)
def test_ways_to_log_in(case, tmp_path, http_config, header):
    (tmp_path / "secret").write_text("from a file\n")
    http_config = http_config.replace("FILE", str(tmp_path / "secret"))
    case.try_out(f"webhook_configs: [{{url: 'URL/', http_config: {{{http_config}}}}}]")

    assert case.requests[0].headers["Authorization"] == header


def test_headers_of_ones_own(case):
    case.try_out(
        "webhook_configs: [{url: 'URL/', http_config:"
        " {http_headers: {X-A: {values: [v], secrets: [s]}}}}]"
    )

    assert case.requests[0].headers["X-A"] == "v, s"


def test_an_access_token_is_fetched_once(httpserver):
    hooks, tokens = [], []

    def token(request: Request) -> Response:
        tokens.append((request.form.to_dict(), request.authorization))
        return Response('{"access_token": "T", "expires_in": 3600}')

    def hook(request: Request) -> Response:
        hooks.append(request.headers["Authorization"])
        return Response("")

    httpserver.expect_request("/token").respond_with_handler(token)
    httpserver.expect_request("/hook").respond_with_handler(hook)
    case = object.__new__(Case)
    case.url = httpserver.url_for("/").rstrip("/")
    result = case.try_out(
        "webhook_configs: [{url: 'URL/hook', http_config: {oauth2: {client_id: c,"
        " client_secret: s, token_url: 'URL/token', scopes: [a, b]}}}]",
        times=2,
    )

    assert result.outcome is Outcome.TAKEN
    assert hooks == ["Bearer T"] * 2
    ((form, authorization),) = tokens
    assert form == {"grant_type": "client_credentials", "scope": "a b"}
    assert (authorization.username, authorization.password) == ("c", "s")


def test_a_proxy_gets_the_request(case):
    case.try_out(
        "webhook_configs: [{url: 'http://far.example/x', http_config: {proxy_url: 'URL'}}]"
    )

    assert case.requests[0].url == "http://far.example/x"


def test_a_host_of_no_proxy_is_reached_without_it(case):
    result = case.try_out(
        "webhook_configs: [{url: 'URL/x', http_config:"
        " {proxy_url: 'http://127.0.0.1:1', no_proxy: 'localhost,127.0.0.0/8'}}]"
    )

    assert result.outcome is Outcome.TAKEN


def test_tls_with_a_ca_of_ones_own(tmp_path):
    import ssl

    write_certificates(tmp_path / "ca.pem", tmp_path / "server.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    with HTTPServer(host="localhost", ssl_context=context) as server:
        case = Case(server)
        plain = case.try_out("webhook_configs: [{url: 'URL/'}]")
        known = case.try_out(
            "webhook_configs: [{url: 'URL/', http_config:"
            f" {{tls_config: {{ca_file: '{tmp_path}/ca.pem'}}}}}}]"
        )
        blind = case.try_out(
            "webhook_configs: [{url: 'URL/', http_config:"
            " {tls_config: {insecure_skip_verify: true}}}]"
        )

    assert plain.outcome is Outcome.FAILED
    assert "certificate verify failed" in plain.detail
    assert known.outcome is Outcome.TAKEN
    assert blind.outcome is Outcome.TAKEN
