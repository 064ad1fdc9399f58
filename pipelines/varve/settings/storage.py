"""Where the tables are."""

from __future__ import annotations

from pydantic import Field, model_validator

from varve.settings.section import Secret, Section


class Storage(Section):
    root: str = ""
    """Folder or s3://bucket/prefix of the tables. Empty: tables/ under home."""
    options: dict[str, Secret] = Field(default_factory=dict)
    """Storage options of delta-rs: AWS_REGION, AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ..."""
    cold_root: str = ""
    """Folder or s3://bucket/prefix that files move to once their rows are cold_after_days old, in
    tables of the same names. Empty: all stays under root."""
    cold_options: dict[str, Secret] = Field(default_factory=dict)
    """Storage options of the cold root; those of root do not count there."""
    cold_after_days: float = Field(2, gt=0.1)
    """Age in days from which samples and rollups move to the cold root. 2: what dashboards ask for
    most stays near."""
    warm_root: str = ""
    """A root between the two, for files that are warm_after_days old. Empty: none."""
    warm_options: dict[str, Secret] = Field(default_factory=dict)
    """Storage options of the warm root."""
    warm_after_days: float = Field(1, gt=0.1)
    """Age in days from which files move to the warm root. 1: the hot one then holds about a day."""
    backup_options: dict[str, Secret] = Field(default_factory=dict)
    """Storage options of where `varve backup` copies to; those of root do not count there."""

    @model_validator(mode="after")
    def _roots_differ_and_follow_each_other(self) -> Storage:
        given = [root for root in (self.root, self.warm_root, self.cold_root) if root]
        if len(set(given)) < len(given):
            raise ValueError("root, warm_root and cold_root must be different places")
        if self.warm_root and not self.cold_root:
            raise ValueError("warm_root wants a cold_root; with one colder root call it cold_root")
        if self.warm_root and self.warm_after_days >= self.cold_after_days:
            raise ValueError("warm_after_days must be less than cold_after_days")
        return self
