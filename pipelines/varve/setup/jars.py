"""The JVM jars: fetched by the Ivy inside pyspark, accepted only with the committed sums."""

import hashlib
import os
import re
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from xml.sax.saxutils import quoteattr

from varve.setup.console import SetupError, megabytes, say
from varve.setup.java import Java

KINDS = ("spark", "kafka")
SUMS = Path("conf") / "jars.sha256"

_PATTERN = "[artifact]-[revision](-[classifier]).[ext]"
_LAST_LINES = 15


def jars_folder(venv: Path) -> Path:
    """Where the jars of an environment are, a folder per kind; varve.model.resources reads it."""
    return venv / "share" / "varve" / "jars"


def expected_sums(root: Path) -> dict[str, dict[str, str]]:
    """kind → file name → SHA-256 in hex, from conf/jars.sha256. Raises SetupError if cut short."""
    sums: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
    for line in (root / SUMS).read_text().splitlines():
        if line.startswith("#") or not line.strip():
            continue
        digest, _, path = line.partition("  ")
        kind, _, name = path.partition("/")
        if kind not in sums or not name or not re.fullmatch("[0-9a-f]{64}", digest):
            raise SetupError(f"{SUMS} has a bad line ({line!r}): restore it with git.")
        sums[kind][name] = digest
    return sums


def write_sums(root: Path, folder: Path) -> None:
    """conf/jars.sha256 anew from the jars in `folder`/KIND."""
    lines = ["# Written by `make lock` from conf/ivy-*.xml; checked by every set-up."]
    for kind in KINDS:
        jars = sorted((folder / kind).iterdir())
        size = sum(jar.stat().st_size for jar in jars)
        lines.append(f"# {kind}: {len(jars)} jars, {megabytes(size)}")
        lines.extend(f"{_sha256(jar)}  {kind}/{jar.name}" for jar in jars)
    (root / SUMS).write_text("\n".join(lines) + "\n")


def differences(folder: Path, expected: Mapping[str, str]) -> list[str]:
    """Names that are missing in `folder`, have another sum or do not belong there, sorted."""
    present = {path.name: path for path in folder.iterdir()} if folder.is_dir() else {}
    wrong = present.keys() ^ expected.keys()
    wrong |= {name for name in present.keys() & expected.keys()
              if _sha256(present[name]) != expected[name]}  # fmt: skip
    return sorted(wrong)


def install_jars(root: Path, venv: Path, java: Callable[[], Java], ivy: "Ivy") -> bool:
    """Bring the jars of `venv` to the committed sums; False if they were there already.

    Reads every jar. A kind that is right is not fetched again, so a copy of the folder from
    another machine serves where nothing can be downloaded. What was fetched is moved into place
    only once all its sums are right. Raises SetupError if they are not, even from an empty
    cache, and if Ivy fails.
    """
    changed = False
    for kind, expected in expected_sums(root).items():
        target = jars_folder(venv) / kind
        if not differences(target, expected):
            continue
        say(f"Fetching for {kind}: {_noted(root, kind, len(expected))} ...")
        staging = jars_folder(venv) / ".fetching"
        try:
            fetched = _fetch_verified(kind, expected, root, staging, java(), ivy)
            if target.exists():
                shutil.rmtree(target)
            fetched.rename(target)
        finally:  # it may hold a proxy's password
            shutil.rmtree(staging, ignore_errors=True)
        changed = True
    return changed


def _noted(root: Path, kind: str, count: int) -> str:
    """How many jars and megabytes, as `write_sums` noted it."""
    noted = re.search(rf"^# {kind}: (.+)$", (root / SUMS).read_text(), re.MULTILINE)
    return noted[1] if noted else f"{count} jars"


def _fetch_verified(
    kind: str, expected: Mapping[str, str], root: Path, staging: Path, java: Java, ivy: "Ivy"
) -> Path:
    """A folder under `staging` with exactly the expected jars."""
    for cache in (None, staging / "cache"):  # a cache may be damaged: once more without it
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        fetched = ivy.retrieve(java, root / "conf" / f"ivy-{kind}.xml", staging, kind, cache)
        wrong = differences(fetched, expected)
        if not wrong:
            return fetched
        say(f"Not as in {SUMS}: {', '.join(wrong)}")
    raise SetupError(
        f"the jars for {kind} are not those of {SUMS} ({', '.join(wrong)}): ask who runs the"
        " repository or mirror they come from; nothing of them was installed."
    )


class Ivy:
    """Runs Ivy, quietly but for a line per downloaded jar.

    `settings` is an Ivy settings file of the user's, `mirror` the URL of a Maven repository to
    use in place of Maven Central; at most one of them. `options` are options of the JVM and may
    hold a proxy's password: they go by file.
    """

    def __init__(
        self,
        jar: Path,
        env: Mapping[str, str],
        *,
        options: list[str],
        settings: Path | None = None,
        mirror: str | None = None,
    ) -> None:
        if settings and mirror:
            raise SetupError("set IVY_SETTINGS or MAVEN_URL, not both.")
        if settings and not settings.is_file():
            raise SetupError(f"IVY_SETTINGS names {settings}, which is no file.")
        self._jar = jar
        self._env = env
        self._options = options
        self._settings = settings
        self._mirror = mirror

    def retrieve(
        self, java: Java, module: Path, staging: Path, kind: str, cache: Path | None = None
    ) -> Path:
        """The jars that the Ivy file `module` names, in the new folder `staging`/`kind`.

        `cache` None is Ivy's usual one, under the home directory. Blocks for the download.
        Raises SetupError with Ivy's last lines if it fails.
        """
        command = [str(java.executable), f"@{self._options_file(staging)}", "-jar", str(self._jar)]
        if settings := self._settings_file(staging):
            command += ["-settings", str(settings)]
        command += ["-cache", str(cache or _usual_cache(staging)), "-ivy", str(module)]
        # Relative, and run there: a bracket in the checkout's path is not part of the pattern.
        command += ["-retrieve", f"{kind}/{_PATTERN}"]
        code, last = self._run(command, staging)
        if code != 0 or not (staging / kind).is_dir():
            for line in last:
                say(f"  ivy: {line}")
            raise SetupError(
                "Ivy could not fetch the jars (its words are above): check the network, HTTPS_PROXY"
                " and, for a mirror, MAVEN_URL or IVY_SETTINGS (docs/deploy.md), and run again."
            )
        return staging / kind

    def _run(self, command: list[str], folder: Path) -> tuple[int, deque[str]]:
        last: deque[str] = deque(maxlen=_LAST_LINES)
        jar = ""
        with subprocess.Popen(
            command,
            cwd=folder,
            env=dict(self._env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            for line in process.stdout or ():
                text = line.strip()
                if started := re.match(r"downloading \S*/([^/\s]+) \.\.\.", text):
                    jar = started[1]
                elif size := re.fullmatch(r"\.* ?\((\d+)kB\)", text):
                    if jar:
                        say(f"  {jar} ({megabytes(int(size[1]) * 1024)})")
                    jar = ""
                elif text:
                    last.append(text)
        return process.returncode, last

    def _options_file(self, staging: Path) -> Path:
        path = staging / "java-options"
        path.touch(mode=0o600)
        path.write_text("".join(f"{_quoted(option)}\n" for option in self._options))
        return path

    def _settings_file(self, staging: Path) -> Path | None:
        if self._mirror is None:
            return self._settings
        path = staging / "ivysettings.xml"
        path.write_text(
            '<ivysettings><settings defaultResolver="mirror"/><resolvers>'
            f'<ibiblio name="mirror" m2compatible="true" root={quoteattr(self._mirror)}/>'
            "</resolvers></ivysettings>\n"
        )
        return path


def _quoted(option: str) -> str:
    """Quotes an option for an argument file of the java launcher."""
    escaped = option.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _usual_cache(staging: Path) -> Path:
    """Ivy's cache under the home directory, or a passing one where that cannot be written."""
    cache = Path.home() / ".ivy2" / "cache"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        return staging / "cache"
    return cache if os.access(cache, os.W_OK) else staging / "cache"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
