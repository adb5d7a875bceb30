"""The typed tree of settings: every section, its defaults, ranges and roles.

`Config` is what somebody gave: a hyper-parameter that is null is not given. `Settings` is what
runs: every value is there (`p_rnn.settings.resolve`). Both come from the one declaration below; a
null that stays is a rule or a limit that is off. Parameters of losses, optimizers, cells,
schedules, baselines, readers and kinds of features are declared by the class or function that
takes them (`p_rnn.settings.components`), and lie in `parameters`, under the keys `loss.bpreg` and
so on.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Optional

from p_rnn.settings.declare import choice, number, setting
from p_rnn.settings.errors import UserError
from p_rnn.settings.hints import ours
from p_rnn.settings.sections import (
    THREADS,
    Component,
    DatasetConfig,
    EarlyStoppingConfig,
    EvaluationConfig,
    Filled,
    Hyperparameters,
    ModelConfig,
    PathsConfig,
    ScheduleConfig,
    SubnetConfig,
    TrackingConfig,
)

# ruff: noqa: UP045  (OmegaConf reads Optional and Union on every Python that we support)

_PACKAGE = Path(__file__).resolve().parents[1]
# YAML files that settings are composed from: inside an installed package, beside it in a checkout.
CONF = next(p for p in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if p.is_dir())


def chosen(default: str | None, help: str, **known: Any) -> Any:
    """A component chosen by name."""
    return setting(lambda: Component({}, default), help, **known)


def embedded() -> DatasetConfig:
    """The embedded world, which needs no files."""
    world = {"name": "synthetic", "reader": "synthetic", "synthetic": {}}
    return DatasetConfig.of(**world, min_item_support=None, test_days=1.0)


@dataclass
class Settings(Hyperparameters):
    """What runs: everything that `p_rnn.runs.experiment.train` depends on."""

    dataset: DatasetConfig = setting(embedded, "data set", role="data")
    model: ModelConfig = setting(ModelConfig, "model", role="model")
    selected_features: Optional[list[str]] = setting(
        None, "features that the model reads; null: all that the data set has", role="model"
    )
    subnets: dict[str, SubnetConfig] = setting(
        dict,
        "what subnets have of their own, by name: id, or a feature",
        networks=True,
        role="model",
    )
    cell: Component = chosen(None, "recurrent cell", otherwise="gru", networks=True, role="model")
    baseline: dict[str, Any] = setting(dict, "parameters of a model that counts", role="model")
    strategy: Component = chosen(
        "simultaneous", "which subnet learns when", networks=True, role="training", column=True
    )
    loss: Component = chosen(
        None, "loss over the candidates", otherwise="cross_entropy", networks=True, role="training"
    )
    loss_type: Optional[str] = choice(
        None,
        "CE",
        "BPR",
        networks=True,
        role="training",
        help="RecBole's word: CE = cross_entropy with negatives=full, BPR = bpr with uniform_one",
    )
    dropout_prob: Optional[float] = number(
        None,
        "sets dropout_embedding and dropout_hidden",
        low=0,
        below=1,
        networks=True,
        role="model",
        learning=True,
    )
    optimizer: Component = chosen(
        None, "optimizer", otherwise="adagrad", networks=True, role="training"
    )
    clip_norm: Optional[float] = number(
        None, "largest norm of all gradients together", above=0, networks=True, role="training"
    )
    schedule: ScheduleConfig = setting(
        lambda: ScheduleConfig({}, "constant"),
        "of the learning rate",
        networks=True,
        role="training",
    )
    ema: Optional[float] = number(
        None,
        "decay of an average of the weights, which is then evaluated and kept",
        above=0,
        below=1,
        networks=True,
        role="training",
    )
    early_stopping: EarlyStoppingConfig = setting(
        EarlyStoppingConfig, "when to stop", role="training"
    )
    warm_start: Optional[str] = setting(
        None,
        "best.pt or final.pt to start from on new data: known items keep their rows, new ones "
        "start from their features",
        networks=True,
        role="training",
    )
    train_on_validation: bool = setting(
        False, "test a model trained on both, for the best number of epochs", role="evaluation"
    )
    evaluation: EvaluationConfig = setting(EvaluationConfig, "what is measured", role="evaluation")
    tracking: TrackingConfig = setting(TrackingConfig, "what a run tells", role="output")
    paths: PathsConfig = setting(PathsConfig, "folders", role="machine")
    seed: int = number(0, "fixes every random number", low=0, role="training", column=True)
    device: str = setting("auto", "auto, cpu or cuda", role="machine")
    num_threads: Optional[int] = number(
        None, "of the CPU; null: PyTorch's choice", **THREADS, role="machine"
    )
    matmul_precision: str = choice(
        "highest",
        "highest",
        "high",
        "medium",
        networks=True,
        role="machine",
        help="of a GPU: high = TF32, medium = bfloat16 where the library has it",
    )
    compile: str = choice(
        "auto",
        "auto",
        "always",
        "products",
        "graph",
        "never",
        networks=True,
        role="machine",
        help="the training step: plain (never), C++ or torch.compile (always), C++ but the "
        "products of scores (products), a CUDA graph (graph), or the quickest (auto)",
    )
    plugins: Optional[list[str]] = setting(
        None, "modules that register models, cells, losses, ... of yours", role="machine"
    )
    portable: bool = setting(
        True,
        "best.pt and final.pt hold the ids and features of the items (baselines: the training "
        "sessions), so that they load without the data",
        role="output",
    )
    checkpoint_minutes: Optional[float] = number(
        10.0,
        "last.pt is also written inside of epochs, this often; null: only after each epoch",
        above=0,
        networks=True,
        role="output",
    )
    resume: Optional[str] = setting(None, "a last.pt to go on from", networks=True, role="output")
    sweep_name: Optional[str] = setting(None, "folder of a multirun; null: the time", role="output")

    def subnet(self, name: str) -> SubnetConfig:
        """What a subnet has of its own."""
        return self.subnets.get(name, SubnetConfig())

    def hidden_size_of(self, name: str) -> int:
        """The hidden units of a subnet."""
        return self.subnet(name).hidden_size or self.hidden_size


def _given(cls: type[Any]) -> type[Any]:
    """The class of what is given: where null means that the default applies, it is the default."""
    hints, made = typing.get_type_hints(cls), []
    for f in dataclasses.fields(cls):
        hint = hints[f.name]
        default: dict[str, Any] = {"default": f.default, "default_factory": f.default_factory}
        if dataclasses.is_dataclass(hint) and issubclass(hint, Filled):  # type: ignore[arg-type]
            hint = _given(hint)  # type: ignore[arg-type]
            default = {"default_factory": hint}
        elif cls is not Settings or f.name in Hyperparameters.__dataclass_fields__:
            hint, default = Optional[hint], {"default": None}
        made.append((f.name, hint, field(**default, metadata=f.metadata)))
    name = "Config" if cls is Settings else f"Given{cls.__name__}"
    given = dataclasses.make_dataclass(name, made)
    given.__module__ = __name__
    return given


if TYPE_CHECKING:

    class Config:
        """What somebody gave: `Settings` in which a null hyper-parameter is not given."""

        __dataclass_fields__: ClassVar[dict[str, Any]]

        def __init__(self, **given: Any) -> None: ...

        def __getattr__(self, name: str) -> Any: ...

        def __setattr__(self, name: str, value: Any) -> None: ...

else:
    Config = _given(Settings)
    _init = Config.__init__

    def _checked(self: Config, **given: Any) -> None:
        for name in given:
            if name not in Config.__dataclass_fields__:
                other = ours("setting", name)
                close = difflib.get_close_matches(other or name, Config.__dataclass_fields__, n=1)
                hint = f"; here it is {other or close[0]}" if other or close else ""
                raise UserError(f"unknown setting '{name}'{hint}")
        _init(self, **given)

    Config.__init__ = _checked
    Config.__doc__ = "What somebody gave: `Settings` in which a null hyper-parameter is not given."
