"""Attributes of OTLP as labels, and their values as text."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from varve.gateway.otlp.names import Names
from varve.gateway.write_request import Labels
from varve.promql.syntax.literals import format_number

_IDENTIFYING = ("service.name", "service.namespace", "service.instance.id")
_MOST_DEPTH = 32


def text_of(value: AnyValue) -> str:
    """A value as a label has it: lists and mappings as JSON, bytes in base64."""
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return str(value.string_value)
    if kind is None:
        return ""
    if kind == "bool_value":
        return "true" if value.bool_value else "false"
    if kind == "int_value":
        return str(value.int_value)
    if kind == "double_value":
        return _number(value.double_value)
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return _json(value)


def _number(value: float) -> str:
    """As JSON of JavaScript and Go has it."""
    if value and math.isfinite(value) and not 1e-6 <= abs(value) < 1e21:
        mantissa, _, exponent = repr(value).partition("e")
        if not exponent:  # repr has none from 1e-4 on
            mantissa, _, exponent = f"{value:.17g}".partition("e")
        sign = "-" if exponent.startswith("-") else "+"
        return f"{mantissa.removesuffix('.0')}e{sign}{exponent.lstrip('+-0')}"
    return format_number(value)


def _json(value: AnyValue) -> str:
    found = json.dumps(_plain(value, 0), separators=(",", ":"), ensure_ascii=False, sort_keys=True)
    for sign in "<>&":
        found = found.replace(sign, f"\\u{ord(sign):04x}")
    return found


def _plain(value: AnyValue, depth: int) -> object:
    kind = value.WhichOneof("value")
    if depth > _MOST_DEPTH:
        return None
    if kind == "array_value":
        return [_plain(item, depth + 1) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {item.key: _plain(item.value, depth + 1) for item in value.kvlist_value.values}
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    if kind == "double_value":
        number = value.double_value
        return int(number) if number.is_integer() and abs(number) < 1e21 else number
    return getattr(value, kind) if kind else None


@dataclass(frozen=True)
class Origin:
    """What all series of a resource's scope have in common."""

    names: Names
    resource: Resource
    scope: InstrumentationScope
    scope_schema_url: str = ""

    @cached_property
    def identity(self) -> dict[str, str]:
        """The labels job and instance, as far as the resource says them."""
        found: dict[str, str] = {}
        said = _by_key(self.resource.attributes)
        if "service.name" in said:
            name, space = said["service.name"], said.get("service.namespace")
            found["job"] = f"{space}/{name}" if space is not None else name
        if "service.instance.id" in said:
            found["instance"] = said["service.instance.id"]
        return {name: value for name, value in found.items() if value}

    @cached_property
    def promoted(self) -> dict[str, str]:
        """Labels from attributes of the resource, which those of a point beat."""
        config, said = self.names.config, _by_key(self.resource.attributes)
        if config.promote_all_resource_attributes:
            chosen = [key for key in said if key not in config.ignore_resource_attributes]
        else:
            chosen = [key for key in config.promote_resource_attributes if key in said]
        found: dict[str, str] = {}
        for key in chosen:
            if said[key]:
                found.setdefault(self.names.label(key), said[key])
        return found

    @cached_property
    def of_scope(self) -> dict[str, str]:
        """Labels of the scope, which beat all others but the identity."""
        if not self.names.config.promote_scope_metadata or not self.scope.name:
            return {}
        found = {
            "otel_scope_name": self.scope.name,
            "otel_scope_version": self.scope.version,
            "otel_scope_schema_url": self.scope_schema_url,
        }
        for key, value in _by_key(self.scope.attributes).items():
            found[self.names.label(f"otel_scope_{key}")] = value
        return found

    def labels(self, attributes: Iterable[KeyValue]) -> dict[str, str]:
        """Labels of a point without its name, some of them perhaps empty. Raises InvalidName."""
        found = merged(self.names, attributes)
        for name, value in self.promoted.items():
            found.setdefault(name, value)
        return found | self.of_scope | self.identity

    def target_info(self) -> Labels | None:
        """The labels of the resource's own series; None if it has none. Raises InvalidName."""
        config = self.names.config
        attributes: Iterable[KeyValue] = self.resource.attributes
        if not config.keep_identifying_resource_attributes:
            attributes = [kv for kv in attributes if kv.key not in _IDENTIFYING]
        found = merged(self.names, attributes)
        if not found or not self.identity:
            return None
        return with_name("target_info", found | self.identity)


def merged(names: Names, attributes: Iterable[KeyValue]) -> dict[str, str]:
    """Labels of attributes; the values of those that become one name are joined by semicolons, in
    the order of the attributes' names. Raises InvalidName.
    """
    found: dict[str, str] = {}
    for key, value in sorted(_texts(attributes), key=lambda pair: pair[0]):
        name = names.label(key)
        found[name] = f"{found[name]};{value}" if name in found else value
    return found


def with_name(metric: str, labels: dict[str, str], **more: str) -> Labels:
    """Sorted labels of a series, without those that are empty."""
    return sorted((k, v) for k, v in (labels | more | {"__name__": metric}).items() if v)


def _texts(attributes: Iterable[KeyValue]) -> Iterator[tuple[str, str]]:
    return ((kv.key, text_of(kv.value)) for kv in attributes)


def _by_key(attributes: Iterable[KeyValue]) -> dict[str, str]:
    return dict(_texts(attributes))
