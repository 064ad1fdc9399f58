"""Every setting, in one typed tree: a section is the module of its name.

Only services, the command line and jobs read settings. Order, the later wins: the defaults in the
sections, a TOML file, VARVE_SECTION__KEY in the environment, options of the command line.
`varve config` prints what is in force and where it came from.
"""

from varve.settings.loading import load
from varve.settings.tree import Settings

__all__ = ["Settings", "load"]
