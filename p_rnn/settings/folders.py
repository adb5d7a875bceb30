"""Where the YAML files of settings lie: shipped with the package, and before them the user's own.

A folder `conf` in the working directory has the same layout as the package's: a file there adds a
choice to a group or replaces the package's file of that name.
"""

from __future__ import annotations

from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from p_rnn.settings.config import CONF


def own_conf() -> Path | None:
    """The user's folder `conf`; None where there is none besides the package's."""
    own = Path.cwd() / "conf"
    return own if own.is_dir() and own.resolve() != CONF else None


def conf_folders() -> list[Path]:
    """Where YAML files are looked for, first the user's own."""
    own = own_conf()
    return [CONF] if own is None else [own, CONF]


def conf_file(group: str, name: str) -> Path | None:
    """The file of a choice of a group, such as ("space", "network"); None where there is none."""
    paths = [folder / group / f"{name}.yaml" for folder in conf_folders()]
    return next((path for path in paths if path.is_file()), None)


def conf_choices(group: str) -> list[str]:
    """The names of the choices of a group; none where there is no such group."""
    return sorted({p.stem for folder in conf_folders() for p in (folder / group).glob("*.yaml")})


def conf_groups() -> list[str]:
    """The names of the groups at the top."""
    return sorted({p.name for folder in conf_folders() for p in folder.iterdir() if p.is_dir()})


class OwnConf(SearchPathPlugin):
    """Has Hydra look into the user's folder before the package's."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Put the folder before that of the script ("main"); other programs have another one."""
        own = own_conf()
        ours = any(
            entry.provider == "main" and entry.path == str(CONF) for entry in search_path.get_path()
        )
        if own is not None and ours:
            search_path.prepend("own conf", str(own), SearchPathQuery(provider="main"))


def look_in_own_conf() -> None:
    """Tell Hydra of `OwnConf`, once."""
    plugins = Plugins.instance()
    if OwnConf not in plugins.discover(SearchPathPlugin):
        plugins.register(OwnConf)
