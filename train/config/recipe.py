"""A chain of steps."""

from dataclasses import dataclass, field


@dataclass
class StepConfig:
    """One step of a recipe, as overrides of the command that it stands for."""

    settings: list[str] = field(default_factory=list)  # the recipe's own
    overrides: list[str] = field(default_factory=list)  # yours, applied after them


@dataclass
class RecipeConfig:
    """An ordered chain of steps; a step that is not "build", "merge", "export", "compare", "evaluate" or "report" is a stage
    and has an entry in `stages`.
    """

    name: str = "???"
    directory: str = "runs"  # everything is written to DIRECTORY/NAME
    steps: list[str] = field(default_factory=lambda: ["build", "encoder", "pretrain", "evaluate", "report"])
    build: StepConfig = field(default_factory=StepConfig)  # overrides of python -m data_pipeline.build
    stages: dict[str, StepConfig] = field(default_factory=dict)  # overrides of python -m train
    merge: StepConfig = field(default_factory=StepConfig)  # overrides of python -m train.adapt.export
    export: StepConfig = field(default_factory=StepConfig)  # overrides of python -m train.quantize
    compare: StepConfig = field(
        default_factory=StepConfig
    )  # overrides of python -m train.evaluate, of every stage
    evaluate: StepConfig = field(default_factory=StepConfig)  # overrides of python -m train.evaluate
    later_steps: int = 0  # of each stage after the model reads, in recipes that have some
    common: list[str] = field(default_factory=list)  # your overrides of every stage
    processes: str = "1"  # data-parallel processes on this machine, or "auto"
    restart: bool = False  # do again the steps whose settings changed since they ran, and those after them
    overrides: list[str] = field(default_factory=list)  # what was typed; filled in when it is composed
