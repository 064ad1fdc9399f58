"""alertmanager.yml: every field Alertmanager has, checked, with positions of what is wrong."""

from varve.notify.config.load import Configuration, load_config, read_config

__all__ = ["Configuration", "load_config", "read_config"]
