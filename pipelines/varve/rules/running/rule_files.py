"""The files of rules on disk: all that patterns name, read as one."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from varve.model.errors import NeedsOperator
from varve.rules.errors import RuleFileError
from varve.rules.rule_file import Group, parse_rule_file


@dataclass(frozen=True, slots=True)
class RuleFiles:
    """folder: where a relative pattern begins. Groups are known by the path that a pattern gives,
    so that it is the same on all machines.
    """

    folder: Path
    patterns: Sequence[str]

    def paths(self) -> list[Path]:
        """The files there are, each once. A pattern without * or ? names one in any case."""
        found: dict[Path, None] = {}
        for pattern in self.patterns:
            path = self.folder / Path(pattern).expanduser()
            named = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - absolute ones, too
            if not named and not glob.has_magic(pattern):
                named = [str(path)]
            found |= dict.fromkeys(map(Path, named))
        return list(found)

    def are_there(self) -> bool:
        return any(path.is_file() for path in self.paths())

    def version(self) -> str:
        """Changes with the names and contents of the files. A file that cannot be read counts as
        empty: `read` says what is wrong.
        """
        digest = hashlib.blake2b()
        for path in self.paths():
            try:
                body = path.read_bytes()
            except OSError:
                body = b""
            digest.update(f"{path}\0{len(body)}\0".encode())
            digest.update(body)
        return digest.hexdigest()

    def read(self) -> tuple[Group, ...]:
        """All groups. Raises NeedsOperator, naming file, line and column of all that is wrong."""
        groups: list[Group] = []
        wrong: list[str] = []
        for path in self.paths():
            name = str(path.relative_to(self.folder) if path.is_relative_to(self.folder) else path)
            try:
                groups += parse_rule_file(path.read_bytes().decode(), name)
            except RuleFileError as err:
                wrong += [f"{path}:{problem}" for problem in err.problems]
            except OSError as err:
                wrong.append(f"{path}: {err.strerror}; see rules.files")
            except UnicodeDecodeError:
                wrong.append(f"{path}: is not in UTF-8: save it as UTF-8")
        if wrong:
            raise NeedsOperator("\n".join(wrong))
        return tuple(groups)
