"""The optimizer: which parameters it steps how (groups), by which rule (factory), at which rate (schedule)."""

from train.optimizer.factory import adamw, groups_of, optimizer_of
from train.optimizer.groups import parameter_groups
from train.optimizer.schedule import learning_rate

__all__ = ["adamw", "groups_of", "learning_rate", "optimizer_of", "parameter_groups"]
