"""The settings for people: with a word on each, as differences, and as a page of the docs."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator
from typing import Any

from omegaconf import OmegaConf

from p_rnn.settings.components import registry
from p_rnn.settings.config import Config, Settings
from p_rnn.settings.dataset_rules import reader_settings
from p_rnn.settings.declare import About
from p_rnn.settings.resolve import counts, resolve, unused_keys
from p_rnn.settings.roles import about_key, every_setting
from p_rnn.settings.sections import Hyperparameters, ModelConfig
from p_rnn.settings.tree import as_word, known_of, leaves, plain

WIDTH = 80


def listing(config: Any) -> list[str]:
    """The settings that would run, as YAML with a word on each; what has no use is left out.

    Raises:
        UserError: settings that cannot run.
    """
    if not isinstance(config, Settings):
        return as_yaml(plain(config), type(config))
    tree, unused = plain(config), _unused(config)
    tree["dataset"] |= plain(reader_settings(config.dataset)[1])
    for key in unused:
        tree.pop(key, None)
    for key in ("loss_type", "dropout_prob"):  # other words for settings that are shown
        tree.pop(key, None)
    return list(_yaml(tree, "", {}))


def _unused(config: Settings) -> set[str]:
    """What has no use in this combination."""
    if counts(config.model.name):
        networks = {key for key, _, known in every_setting() if known.get("networks")}
        sections = {key.partition(".")[0] for key in networks} - {"early_stopping"}
        return sections | {f.name for f in dataclasses.fields(Hyperparameters)}
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    recurrent = registry("model")[config.model.name].recurrent
    return set(unused_keys(values, config.model, recurrent))


def as_yaml(tree: dict[str, Any], schema: type[Any]) -> list[str]:
    """Composed settings as they are, with the words of their schema."""
    return list(_yaml(tree, "", {key: known for key, _, known in known_of(schema)}))


def _yaml(tree: dict[str, Any], prefix: str, helps: dict[str, About]) -> Iterator[str]:
    """Lines; a comment that does not fit beside its setting stands above it."""
    indent = "  " * prefix.count(".")
    order = {key: (key != "name", isinstance(tree[key], dict) and bool(tree[key])) for key in tree}
    for key in sorted(tree, key=lambda key: order[key]):
        value, full = tree[key], f"{prefix}{key}"
        if value is None and ".features." in prefix:
            continue
        if isinstance(value, dict) and value:
            yield f"{indent}{key}:"
            yield from _yaml(value, f"{full}.", helps)
            continue
        text = OmegaConf.to_yaml({key: value}, resolve=False).strip().replace("\n", " ")
        if isinstance(value, list):
            text = f"{key}: [{', '.join(map(str, value))}]"
        known = helps.get(full) or about_key(full)
        comment = known.get("help", "")
        if (known.get("options") and value is None) or isinstance(value, str):
            others = [option for option in known.get("options", ()) if option != value]
            comment += f" (or {', '.join(others)})" if others else ""
        line = f"{indent}{text}"
        if comment and len(f"{line:<34}  # {comment}") > WIDTH:
            yield from textwrap.wrap(
                comment, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
            )
        elif comment:
            line = f"{line:<34}  # {comment}"
        yield line


def differences(config: Settings) -> list[str]:
    """`key=value (default)` of what differs from the defaults of its model, on its data set.

    Parameters are compared with the defaults of the component that takes them.
    """
    basis = {"model": ModelConfig(config.model.name), "dataset": config.dataset}
    default = {key: v for key, v, _ in leaves(resolve(Config(**basis)))}
    names = ("cell", "strategy", "loss", "optimizer", "schedule")
    if not counts(config.model.name):
        same = {name: type(getattr(config, name))({}, getattr(config, name).name) for name in names}
        if default["loss.name"] == config.loss.name:
            del same["loss"]  # with the model's own parameters
        chosen = {key: v for key, v, _ in leaves(resolve(Config(**basis, **same)))}
        default = chosen | {f"{name}.name": default.get(f"{name}.name") for name in names}
    lines = []
    for key, value, known in leaves(config):
        if known["role"] != "output" and not key.startswith("paths.") and value != default.get(key):
            was = f" ({as_word(default[key])})" if default.get(key) is not None else ""
            lines.append(f"{key.removesuffix('.name')}={as_word(value)}{was}")
    return lines


ROLES = {
    "data": "Data",
    "model": "Model",
    "training": "Training",
    "evaluation": "Evaluation",
    "machine": "Machine",
    "output": "Output",
}


def page() -> str:
    """docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Every setting of `train`, its default, and what takes it. This page is generated from the",
        "declarations in the code (`python -m p_rnn.settings.show`); a test keeps it current.",
        "`p-rnn train --cfg job` prints the values that would run.",
        "",
        "A hyper-parameter that is not given has the default below, or that of the model (at the",
        "end of this page). Where the default is `null`, a rule or limit is off, unless the text",
        "beside it says otherwise. A setting without effect in the chosen combination is refused.",
        "Where components have different defaults for a parameter, the column is empty.",
    ]
    rows = list(every_setting())
    for role, title in ROLES.items():
        lines += ["", f"## {title}", "", "| setting | default | |", "|---|---|---|"]
        for key, default, known in rows:
            if known["role"] == role:
                lines.append(f"| `{key}` | {_default(default, known)} | {_about(known)} |")
    for kind in ("model", "baseline", "cell", "strategy", "loss", "optimizer", "schedule"):
        names = ", ".join(f"`{name}`" for name in registry(kind))
        lines += [
            "",
            f"`{kind}`: {names}." if kind != "baseline" else f"Models that count: {names}.",
        ]
    own = {name: kind.own for name, kind in registry("model").items() if kind.own}
    lines += ["", "## Defaults of models", ""]
    for name, values in own.items():
        words = ", ".join(f"`{key}={_inline(v)}`" for key, v in values.items())
        lines.append(f"- `{name}`: {words}.")
    lines += ["", "See also: [models](models.md), [extending](extending.md), [data](data.md)."]
    return "\n".join([*lines, ""])


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {v}" for key, v in value.items()) + "}"
    return as_word(value)


def _default(value: Any, known: About) -> str:
    if value is dataclasses.MISSING:
        return "must be given"
    if known.get("low") is not None and value is not None and value != "" and value < known["low"]:
        return ""  # filled in from other settings
    return "" if value == "" else f"`{as_word(value)}`"


def _about(known: About) -> str:
    words = [known.get("help", "")]
    if known.get("options"):
        words.append("one of " + ", ".join(f"`{option}`" for option in known["options"]))
    bounds = [
        f"{word} {known[name]:g}"
        for name, word in (
            ("low", "at least"),
            ("above", "above"),
            ("high", "at most"),
            ("below", "below"),
        )
        if known.get(name) is not None
    ]
    if bounds:
        words.append(" and ".join(bounds))
    if known.get("takers"):
        words.append("taken by " + ", ".join(f"`{name}`" for name in known["takers"]))
    return "; ".join(word for word in words if word)


if __name__ == "__main__":
    print(page(), end="")
