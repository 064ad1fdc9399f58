"""Random templates, and what Go's own packages make of them, where Go is installed."""

import json
import random
import shutil
import subprocess
from pathlib import Path

from varve.templates.errors import TemplateError
from varve.templates.notification_templates import notification_functions
from varve.templates.template_set import TemplateSet

SOURCE = Path(__file__).parents[2] / "oracles" / "go_templates" / "main.go"
GO = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
SHARED = ("safeHtml", "safeUrl", "list")
FUNCTIONS = {name: notification_functions(lambda: 0, {})[name] for name in SHARED}
DATA = {
    "s": "a<b>&'\"x y",
    "e": "",
    "n": 3.0,
    "f": -1.5,
    "big": 1234567.0,
    "t": True,
    "z": None,
    "l": ["p", "q", 1.0],
    "m": {"k": "v", "a": {"b": "c"}},
    "u": "http://h/p?q=1&r=<x>",
    "j": "javascript:alert(1)",
    "ü": "é🙂\u2028",
    "el": [],
    "nl": "line\n\ttab",
}
LITERALS = [
    *["1", "0", "-3", "2.5", "1e3", "0x1f", '"str"', "`raw`", "true", "false", "nil", "'a'"],
    *["1_000", '"\\u00e9\\n"', '""', "1i", "017", "0b11", '"%d"', "5.0"],
]
FIELDS = [
    *[".s", ".e", ".n", ".f", ".big", ".t", ".z", ".l", ".m", ".m.k", ".m.a", ".m.a.b", ".m.no"],
    *[".no", ".no.no", ".el", ".", "$", "$.s", "$.m.k", ".ü", ".s.x", "$x", "$y"],
]
CALLS = [
    *["and", "or", "not", "len", "index", "slice", "eq", "ne", "lt", "le", "gt", "ge", "print"],
    *["println", "html", "js", "urlquery", "list", "printf", "printf", "printf"],
]
VERBS = [
    *["%", "a", "%d", "%s", "%v", "%5.2f", "%-5s|", "%05d", "%x", "%X", "% x", "%#x", "%t", "%q"],
    *["%+q", "%e", "%g", "%G", "%T", "%U", "%#U", "%c", "%o", "%b", "%O", "%+d", "% d", "%+v"],
    *["%#v", "%%", "%[2]d", "%[1]v", "%*d", "%.*f", "%6.3v", "%.2s", "%.1q", "%z", "%010.3f"],
    *["%[3]*.[2]*[1]f", "%+.2e", "%8v", "%-8v|", "%08v", "%.3g", "%.0f", "%6q", "%!", "%w", "%.3d"],
]
VALUES = [
    *[".s", ".e", ".n", ".f", ".t", ".z", ".l", ".m", ".u", ".j", ".ü", ".nl", '"x"', ".m.k"],
    *['"a b"', '`x"y`', '"<!--"', '"</script>"', '"on"', '"title"', '"expression(1)"', '"1px"'],
    *['"#fff"', '"a-b"', ".s | html", ".s | urlquery", ".s | safeHtml", ".u | safeUrl", '"//h"'],
    *['"mailto:x"', '"/a/b"', '"a, b 2x"', '"HTTP://x"'],
]
PAGES = [
    *["<p>%s</p>", '<a href="%s">', '<a href="http://x/%s">', '<a href="http://x/?q=%s&r=%s">'],
    *["<a href=%s>", "<a href='%s'>", "<a title=%s>", '<a title="%s">', '<a %s="x">', "<a %s>"],
    *["<div style=\"color: %s; background: url('%s')\">", '<div style="background: url(%s)">'],
    *['<style>p { color: %s; content: "%s" }</style>', '<a data-href="%s">', "<title>%s</title>"],
    "<script>var x = %s; var y = \"%s\" + '%s'; z = /%s/; w = `a%s${%s}b`;</script>",
    *["<a onclick=\"f(%s, '%s')\">", "<textarea>%s</textarea>", "<!-- %s -->", "<p>%s < %s</p>"],
    *['<img srcset="%s 2x, %s">', "<style>/* %s */ a { b: %s }</style>", '<a href="#%s">'],
    *["<script>// %s\nvar a = %s /* %s */;</script>", "<input value=\"%s\" name='%s'>"],
    *['<a href="%s%s">', '<script type="text/x">%s</script>', "<a style=%s>", "<br title=%s />"],
    '<script type="application/json">{"a": %s}</script>',
]


class Go:
    """A process that expands templates."""

    def __init__(self, folder):
        program = folder / "go_templates"
        subprocess.run(
            [GO, "build", "-o", str(program), str(SOURCE)],
            check=True,
            env={"GOCACHE": str(folder / "cache"), "GO111MODULE": "off", "HOME": str(folder)},
        )
        self._process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def expand(self, text, *, html):
        """What it gives; None if it fails."""
        asked = json.dumps({"text": text, "html": html, "data": DATA})
        self._process.stdin.write(asked + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline()).get("out")

    def close(self):
        self._process.communicate()


def ours(text, *, html):
    """What we give; None if it fails."""
    try:
        return TemplateSet().with_text(text, "t", FUNCTIONS).expand("t", DATA, FUNCTIONS, html=html)
    except TemplateError:
        return None


class Generator:
    def __init__(self, seed):
        self._chance = random.Random(seed)

    def _operand(self, depth):
        if depth <= 0 or self._chance.random() < 0.4:
            return self._chance.choice(FIELDS if self._chance.random() < 0.6 else LITERALS)
        return f"({self._pipe(depth - 1)}){self._chance.choice(['', '', '', '.k', '.a.b', '.no'])}"

    def _operands(self, depth):
        count = self._chance.randint(0, 3)
        return " ".join(self._operand(depth - 1) for _ in range(count))

    def _command(self, depth):
        if self._chance.random() < 0.45:
            return self._operand(depth)
        name = self._chance.choice(CALLS)
        if name == "printf":
            verbs = "".join(self._chance.choice(VERBS) for _ in range(self._chance.randint(1, 3)))
            name = f'printf "{verbs}"'
        return f"{name} {self._operands(depth)}"

    def _pipe(self, depth):
        return " | ".join(self._command(depth) for _ in range(self._chance.choice([1, 1, 1, 2])))

    def _action(self, depth):
        declares = self._chance.choice(["", "", "", "", "$x := ", "$x = "])
        trims = self._chance.choice(["", "", "- "]), self._chance.choice(["", "", " -"])
        return f"{{{{{trims[0]}{declares}{self._pipe(depth)}{trims[1]}}}}}"

    def _block(self, depth):
        made = [
            lambda: self._action(2),
            lambda: self._chance.choice([" t ", "\n  ", "x", ""]),
            lambda: self._control(depth - 1) if depth > 0 else self._action(1),
        ]
        return "".join(self._chance.choice(made)() for _ in range(self._chance.randint(0, 3)))

    def _control(self, depth):
        kind = self._chance.choice(["if", "with", "range", "range"])
        declares, body, rest = "", self._block(depth), ""
        if kind == "range":
            declares = self._chance.choice(["", "$x := ", "$x, $y := ", "$x = "])
            body += self._chance.choice(
                ["", "{{break}}", "{{continue}}", "{{if .}}{{break}}{{end}}"]
            )
        elif self._chance.random() < 0.3:
            rest = f"{{{{else {kind} {self._pipe(1)}}}}}{self._block(depth)}"
        if self._chance.random() < 0.3:
            rest += f"{{{{else}}}}{self._block(depth)}"
        return f"{{{{{kind} {declares}{self._pipe(2)}}}}}{body}{rest}{{{{end}}}}"

    def text(self):
        head = "{{$x := 1}}{{$y := 2}}"
        if self._chance.random() < 0.6:
            return head + self._action(self._chance.randint(0, 2))
        parts = [self._action, self._control]
        count = self._chance.randint(1, 4)
        return head + "".join(self._chance.choice(parts)(2) for _ in range(count))

    def page(self):
        made = ""
        for _ in range(self._chance.randint(1, 2)):
            page = self._chance.choice(PAGES)
            count = page.count("%s")
            made += page % tuple(f"{{{{{self._chance.choice(VALUES)}}}}}" for _ in range(count))
        return made
