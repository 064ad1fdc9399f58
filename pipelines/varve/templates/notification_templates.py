"""Templates of receivers: their data and functions. Source: Alertmanager, template/template.go."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final
from urllib.parse import unquote_to_bytes

from varve.model.fingerprint import fingerprint
from varve.templates import text_functions
from varve.templates.budget import Budget
from varve.templates.errors import FunctionError
from varve.templates.go_time import Duration, Time, parse_time, zone_of
from varve.templates.json_text import to_json
from varve.templates.values import (
    ANY,
    STRING,
    STRINGS,
    Function,
    Members,
    SafeHtml,
    SafeUrl,
    StringMap,
    Strings,
    decode,
    encode,
)

_LIST: Final = "[]interface {}"
_TIME: Final = "time.Time"
_SPACES: Final = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006"
    "\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
_BAD_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2}).{0,2}", re.DOTALL)


@dataclass(frozen=True, slots=True, eq=False)
class Pair(Members):
    """A label or annotation."""

    name: str
    value: str

    go_type: ClassVar[str] = "template.Pair"
    template_fields: ClassVar[Mapping[str, str]] = {"Name": "name", "Value": "value"}


class Pairs(list[Pair]):
    """Labels or annotations in order."""

    go_type: ClassVar[str] = "template.Pairs"

    def names(self) -> Strings:
        return Strings(pair.name for pair in self)

    def values(self) -> Strings:
        return Strings(pair.value for pair in self)

    def __str__(self) -> str:
        return ", ".join(f"{pair.name}={pair.value}" for pair in self)

    template_methods: ClassVar[Mapping[str, Function]] = {
        "Names": Function((), names),
        "Values": Function((), values),
        "String": Function((), __str__),
    }


class KV(StringMap):
    """Labels or annotations by name."""

    go_type: ClassVar[str] = "template.KV"

    def pairs(self) -> Pairs:
        """Sorted by name, but alertname first."""
        names = sorted(self, key=lambda name: (name != "alertname", name))
        return Pairs(Pair(name, self[name]) for name in names)

    def without(self, names: Sequence[str] | None) -> KV:
        return KV({name: value for name, value in self.items() if name not in (names or ())})

    def __str__(self) -> str:
        return str(self.pairs())

    template_methods: ClassVar[Mapping[str, Function]] = {
        "SortedPairs": Function((), pairs),
        "Remove": Function((STRINGS,), without),
        "Names": Function((), lambda kv: kv.pairs().names()),
        "Values": Function((), lambda kv: kv.pairs().values()),
        "String": Function((), __str__),
    }


@dataclass(frozen=True, slots=True, eq=False)
class Alert(Members):
    """One alert. ends_at is the zero time while it fires."""

    status: str
    labels: KV
    annotations: KV
    starts_at: Time
    ends_at: Time
    generator_url: str
    fingerprint: str
    acknowledge_url: str = ""

    go_type: ClassVar[str] = "template.Alert"
    template_fields: ClassVar[Mapping[str, str]] = {
        "Status": "status",
        "Labels": "labels",
        "Annotations": "annotations",
        "StartsAt": "starts_at",
        "EndsAt": "ends_at",
        "GeneratorURL": "generator_url",
        "Fingerprint": "fingerprint",
        "AcknowledgeURL": "acknowledge_url",
    }
    json_names: ClassVar[Mapping[str, str]] = {
        "status": "status",
        "labels": "labels",
        "annotations": "annotations",
        "startsAt": "starts_at",
        "endsAt": "ends_at",
        "generatorURL": "generator_url",
        "fingerprint": "fingerprint",
    }

    @classmethod
    def of(
        cls,
        labels: Mapping[str, str],
        annotations: Mapping[str, str],
        *,
        starts_at_ms: int,
        ended_at_ms: int | None,
        generator_url: str,
        acknowledge_url: str = "",
    ) -> Alert:
        """An alert that has ended, or fires if ended_at_ms is None."""
        return cls(
            "firing" if ended_at_ms is None else "resolved",
            KV(labels),
            KV(annotations),
            Time.of_ms(starts_at_ms),
            Time.of_ms(ended_at_ms),
            generator_url,
            f"{fingerprint(labels):016x}",
            acknowledge_url,
        )


class Alerts(list[Alert]):
    """Alerts in the order in which they are told."""

    go_type: ClassVar[str] = "template.Alerts"

    def of_status(self, status: str) -> Alerts:
        return Alerts(alert for alert in self if alert.status == status)

    template_methods: ClassVar[Mapping[str, Function]] = {
        "Firing": Function((), lambda alerts: alerts.of_status("firing")),
        "Resolved": Function((), lambda alerts: alerts.of_status("resolved")),
    }


@dataclass(frozen=True, slots=True, eq=False)
class NotificationData(Members):
    """What the templates of one notification see."""

    receiver: str
    status: str
    alerts: Alerts
    group_labels: KV
    common_labels: KV
    common_annotations: KV
    external_url: str
    route_labels: KV
    notification_reason: str
    acknowledge_url: str = ""

    go_type: ClassVar[str] = "template.Data"
    template_fields: ClassVar[Mapping[str, str]] = {
        "Receiver": "receiver",
        "Status": "status",
        "Alerts": "alerts",
        "GroupLabels": "group_labels",
        "CommonLabels": "common_labels",
        "CommonAnnotations": "common_annotations",
        "ExternalURL": "external_url",
        "RouteLabels": "route_labels",
        "NotificationReason": "notification_reason",
        "AcknowledgeURL": "acknowledge_url",
    }
    json_names: ClassVar[Mapping[str, str]] = {
        "receiver": "receiver",
        "status": "status",
        "alerts": "alerts",
        "groupLabels": "group_labels",
        "commonLabels": "common_labels",
        "commonAnnotations": "common_annotations",
        "externalURL": "external_url",
        "routeLabels": "route_labels",
        "notificationReason": "notification_reason",
    }

    @classmethod
    def of(
        cls,
        receiver: str,
        alerts: Sequence[Alert],
        *,
        group_labels: Mapping[str, str],
        route_labels: Mapping[str, str],
        external_url: str,
        reason: str,
        acknowledge_url: str = "",
    ) -> NotificationData:
        """The data of some alerts of one group; firing if any of them fires. acknowledge_url: a
        link for all of them, "" if there is none.
        """
        fires = any(alert.status == "firing" for alert in alerts)
        return cls(
            receiver,
            "firing" if fires else "resolved",
            Alerts(alerts),
            KV(group_labels),
            _common([alert.labels for alert in alerts]),
            _common([alert.annotations for alert in alerts]),
            external_url,
            KV(route_labels),
            reason,
            acknowledge_url,
        )


def _common(maps: Sequence[Mapping[str, str]]) -> KV:
    """What all of them say the same of."""
    if not maps:
        return KV()
    first, *others = maps
    return KV({k: v for k, v in first.items() if all(other.get(k) == v for other in others)})


def notification_functions(
    now_ms: Callable[[], int], route_labels: Mapping[str, str]
) -> Mapping[str, Function]:
    """All functions. now_ms: the clock. route_labels: those of the route that led here."""
    return {
        **_FUNCTIONS,
        "now": Function((), lambda: Time.of_ms(now_ms())),
        "since": Function((_TIME,), lambda t: Duration(now_ms() * 1_000_000 - t.ns)),
        "routeLabels": Function((STRING,), lambda name: route_labels.get(name, "")),
    }


def _join(budget: Budget, separator: str, texts: Sequence[str] | None) -> str:
    texts = texts or ()
    budget.made(sum(map(len, texts)) + len(separator) * len(texts))
    return separator.join(texts)


def _unescape(text: str) -> str:
    bad = _BAD_ESCAPE.search(text)
    if bad:
        raise FunctionError(f'invalid URL escape "{bad[0]}"')
    return decode(unquote_to_bytes(encode(text.replace("+", " "))))


def _date_or_zero(layout: str, text: str) -> Time:
    try:
        return parse_time(layout, text)
    except FunctionError:
        return Time.of_ms(None)


def _base64_decode(text: str) -> str:
    try:
        return decode(base64.b64decode(re.sub(r"[\r\n]", "", text), validate=True))
    except (binascii.Error, ValueError) as error:
        raise FunctionError(f"illegal base64 data: {error}") from None


def _dict(*values: Any) -> dict[str, Any]:
    if len(values) % 2:
        raise FunctionError("dict needs a value for each key")
    keys = values[::2]
    for key in keys:
        if not isinstance(key, str):
            raise FunctionError("the keys of dict are strings")
    return dict(zip(keys, values[1::2], strict=True))


def _append(values: list[Any] | None, *more: Any) -> list[Any]:
    return [*(values or ()), *more]


Strings.template_methods = {
    "Join": Function((STRING,), lambda budget, texts, sep: _join(budget, sep, texts), bounded=True)
}

_FUNCTIONS: Final[Mapping[str, Function]] = {
    "toUpper": Function((STRING,), text_functions.to_upper),
    "toLower": Function((STRING,), text_functions.to_lower),
    "title": Function((STRING,), text_functions.title_lowering),
    "trimSpace": Function((STRING,), lambda text: text.strip(_SPACES)),
    "join": Function((STRING, STRINGS), _join, bounded=True),
    "match": Function((STRING, STRING), text_functions.matches),
    "reReplaceAll": Function((STRING, STRING, STRING), text_functions.replace_all, bounded=True),
    "safeHtml": Function((STRING,), SafeHtml),
    "safeUrl": Function((STRING,), SafeUrl),
    "urlUnescape": Function((STRING,), _unescape),
    "stringSlice": Function((STRING,), lambda *texts: Strings(texts), variadic=True),
    "date": Function((STRING, _TIME), lambda layout, time: time.format(layout)),
    "tz": Function((STRING, _TIME), lambda name, time: Time(time.ns, zone_of(name))),
    "toDate": Function((STRING, STRING), _date_or_zero),
    "mustToDate": Function((STRING, STRING), parse_time),
    "humanizeDuration": Function((ANY,), text_functions.humanize_duration),
    "toJson": Function((ANY,), to_json, bounded=True),
    "base64encode": Function((STRING,), lambda text: base64.b64encode(encode(text)).decode()),
    "base64decode": Function((STRING,), _base64_decode),
    "list": Function((ANY,), lambda *values: list(values), variadic=True),
    "append": Function((_LIST, ANY), _append, variadic=True),
    "dict": Function((ANY,), _dict, variadic=True),
}

FUNCTION_NAMES: Final = frozenset([*_FUNCTIONS, "now", "since", "routeLabels"])
