"""Puts templates behind the contract of the alerting judge (shared/alerttest/adapter.py)."""

from __future__ import annotations

from typing import Any

from alerttest.adapter import (  # type: ignore[import-not-found,unused-ignore]
    TemplateError as JudgedError,
)

from varve.templates.errors import FunctionError, TemplateError
from varve.templates.notification_templates import (
    FUNCTION_NAMES,
    Alert,
    NotificationData,
    notification_functions,
)
from varve.templates.rule_templates import AlertData, expand_alert_text, parse_alert_text
from varve.templates.template_set import TemplateSet
from varve.templates.values import StringMap


def alert_template(case: dict[str, Any]) -> str:
    """Expands a label or annotation of an alerting rule."""
    data = AlertData(
        StringMap(case["labels"]),
        StringMap(case["external_labels"]),
        case["external_url"],
        case["value"],
    )

    def query(text: str) -> list[tuple[dict[str, str], float]]:
        if text not in case["query"]:
            raise FunctionError(f"no answer to {text}")
        return [(sample["labels"], float(sample["value"])) for sample in case["query"][text]]

    try:
        template = parse_alert_text(case["text"], "text")
        return expand_alert_text(template, "text", data, query=query, now_ms=case["now_ms"])
    except TemplateError as error:
        raise JudgedError(str(error)) from error


def notification_template(case: dict[str, Any]) -> str:
    """Expands a text of a receiver."""
    given = case["data"]
    alerts = [
        Alert.of(
            alert["labels"],
            alert["annotations"],
            starts_at_ms=alert["starts_at_ms"],
            ended_at_ms=alert.get("ends_at_ms"),
            generator_url=alert["generator_url"],
        )
        for alert in given["alerts"]
    ]
    data = NotificationData.of(
        given["receiver"],
        alerts,
        group_labels=given["group_labels"],
        route_labels=given["route_labels"],
        external_url=given["external_url"],
        reason="first notification",
    )
    functions = notification_functions(lambda: 0, given["route_labels"])
    try:
        templates = TemplateSet().with_text(case["text"], "text", FUNCTION_NAMES)
        return templates.expand("text", data, functions, html=case["html"])
    except TemplateError as error:
        raise JudgedError(str(error)) from error
