"""Jira: an issue a group, found again by a label, closed and opened by workflow transitions."""

from __future__ import annotations

import json
from typing import Any

import httpx

from varve.notify.config.paging_receivers import JiraConfig
from varve.notify.driver import Result
from varve.notify.groups import Outcome
from varve.notify.receivers.call import Call, answer_json, cut, cut_bytes
from varve.notify.receivers.http_client import result_of

_SUMMARY = 255
_DESCRIPTION_BYTES = 32_767


async def jira(call: Call, config: JiraConfig) -> Result:
    base = config.api_url.rstrip("/")
    label = f"ALERT{{{call.message.group_hash}}}"
    found = await _search(call, config, base, label)
    if isinstance(found, Result):
        return found
    if found is None:
        if call.resolved:
            return Result(Outcome.TAKEN, "there is no issue to close")
        fields = _fields(call, config, label, new=True)
        return await call.post(f"{base}/issue", {"fields": fields})
    key, status = found["key"], found["fields"].get("status") or {}
    done = (status.get("statusCategory") or {}).get("key") == "done"
    if not call.resolved or not done:
        changes = _fields(call, config, label, new=False)
        if changes:
            result = await _request(call, "PUT", f"{base}/issue/{key}", {"fields": changes})
            if result.outcome is not Outcome.TAKEN:
                return result
    if call.resolved and not done and config.resolve_transition:
        return await _transition(call, base, key, config.resolve_transition)
    if not call.resolved and done and config.reopen_transition:
        return await _transition(call, base, key, config.reopen_transition)
    return Result(Outcome.TAKEN)


async def _search(
    call: Call, config: JiraConfig, base: str, label: str
) -> dict[str, Any] | Result | None:
    """The newest issue of the group that may be used again."""
    project = call.text(config.project)
    conditions = [f'project = "{_quoted(project)}"', f'labels = "{_quoted(label)}"']
    if config.wont_fix_resolution:
        conditions.append(f'resolution != "{_quoted(config.wont_fix_resolution)}"')
    if config.reopen_transition:
        minutes = config.reopen_duration // 60_000
        window = f" OR resolutiondate >= -{minutes}m" if minutes else " OR resolution is not EMPTY"
        conditions.append(f"(resolutiondate is EMPTY{window})")
    else:
        conditions.append("statusCategory != Done")
    body: dict[str, Any] = {
        "jql": " AND ".join(conditions) + " ORDER BY status ASC, resolutiondate DESC",
        "fields": ["status"],
        "maxResults": 2,
    }
    cloud = config.api_type == "cloud" or (
        config.api_type == "auto" and ".atlassian.net" in httpx.URL(base).host
    )
    url = f"{base}/search/jql" if cloud else f"{base}/search"
    response = await call.post_for_answer(url, body)
    if not response.is_success:
        return result_of(response)
    issues = answer_json(response).get("issues") or []
    return issues[0] if issues else None


def _fields(call: Call, config: JiraConfig, label: str, *, new: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if new or config.summary.enable_update:
        fields["summary"] = cut(" ".join(call.text(config.summary.template).split()), _SUMMARY)
    if new or config.description.enable_update:
        fields["description"] = _description(call, config)
    if not new:
        return fields
    fields |= {
        "project": {"key": call.text(config.project)},
        "issuetype": {"name": call.text(config.issue_type)},
        "labels": [*(call.text(text) for text in config.labels), label],
        **call.texts({**config.fields, **config.custom_fields}),
    }
    if priority := call.text(config.priority):
        fields["priority"] = {"name": priority}
    return fields


def _description(call: Call, config: JiraConfig) -> Any:
    """Text for version 2 of the API; version 3 takes a document in Atlassian's format."""
    text = cut_bytes(call.text(config.description.template), _DESCRIPTION_BYTES)
    if "/rest/api/3" not in config.api_url:
        return text
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if isinstance(document, dict):
        return document
    paragraphs = [part for part in text.split("\n\n") if part.strip()]
    return {
        "type": "doc",
        "version": 1,
        "content": [
            {"type": "paragraph", "content": [{"type": "text", "text": part}]}
            for part in paragraphs
        ],
    }


async def _transition(call: Call, base: str, key: str, name: str) -> Result:
    url = f"{base}/issue/{key}/transitions"
    response = await call.client.request("GET", url)
    if not response.is_success:
        return result_of(response)
    for transition in answer_json(response).get("transitions") or []:
        if transition.get("name") == name:
            return await _request(call, "POST", url, {"transition": {"id": transition["id"]}})
    return Result(Outcome.REFUSED, f"the issue {key} has no transition {name!r}")


async def _request(call: Call, method: str, url: str, body: Any) -> Result:
    response = await call.client.request(method, url, json=body, headers=call.headers())
    return result_of(response)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
