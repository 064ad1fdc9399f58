"""Where the tables are."""

from __future__ import annotations

from pydantic import Field

from varve.settings.section import Secret, Section


class Storage(Section):
    root: str = ""
    """Folder or s3://bucket/prefix of the tables. Empty: tables/ under home."""
    options: dict[str, Secret] = Field(default_factory=dict)
    """Storage options of delta-rs: AWS_REGION, AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ..."""
