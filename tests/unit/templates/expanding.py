"""Expands a text with the functions of receivers, in a line."""

from varve.templates.budget import Limits
from varve.templates.notification_templates import FUNCTION_NAMES, notification_functions
from varve.templates.template_set import TemplateSet

NOW_MS = 1_767_614_400_000


def expand(text, data=None, *, html=False, limits=None):
    functions = notification_functions(lambda: NOW_MS, {})
    templates = TemplateSet().with_text(text, "t", FUNCTION_NAMES)
    return templates.expand("t", data, functions, html=html, limits=limits or Limits())
