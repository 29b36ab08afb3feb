"""Libraries that only some measures need, behind one message when they are missing."""

from importlib import import_module
from types import ModuleType

from data_pipeline.errors import UserError


def extra(module: str, purpose: str) -> ModuleType:
    """The module, or a UserError that says what it is for and how to get it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        package = module.split(".")[0]
        raise UserError(
            f"{purpose} needs the package {package}, which is not installed. Install the extra `evaluate`: "
            f'pip install -c constraints.txt -e ".[evaluate]"'
        ) from error
