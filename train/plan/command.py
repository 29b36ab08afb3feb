"""What the command does once its settings are sound and torch may be imported."""

from typing import Any

from rich.progress import Progress

from train.plan import table
from train.plan.config import PlanConfig
from train.plan.layout import flops_of_row, plan
from train.plan.pieces import Pieces
from train.plan.search import remedies, search


def plan_layout(config: PlanConfig) -> tuple[bool, dict[str, Any]]:
    """Prints the plan of the layout that is set; whether it fits, and the figures."""
    pieces = Pieces(config, config.device)
    model_flops = flops_of_row(config, pieces)
    planned = plan(config, config.world_size, pieces, model_flops)
    changes = [] if planned.fits else remedies(config, pieces, model_flops)
    table.show(planned, config, changes, table.console())
    fitting = [{"overrides": change.overrides, **table.as_json(change.plan)} for change in changes]
    return planned.fits, table.as_json(planned) | ({"fits_with": fitting} if fitting else {})


def search_layouts(config: PlanConfig) -> tuple[bool, dict[str, Any]]:
    """Prints the fastest layouts that fit; whether there are any, and their figures."""
    screen, looked = table.console(), 0
    with Progress(console=screen, transient=True) as bar:
        task = bar.add_task("layouts", total=None)
        pieces = Pieces(config, config.device)

        def tell(done: int, total: int) -> None:
            nonlocal looked
            looked = total
            bar.update(task, completed=done, total=total)

        proposals = search(config, pieces, flops_of_row(config, pieces), tell)
    if proposals:
        table.show_search(proposals, config, looked, screen)
    else:
        screen.print(
            f"None of {looked} layouts fits: add processes (world_size=), or choose a device with more memory, "
            "engine.offload=true, or a smaller data.max_length.",
            style="red",
        )
    layouts = [{"overrides": proposal.overrides, **table.as_json(proposal.plan)} for proposal in proposals]
    return bool(proposals), {"looked_at": looked, "layouts": layouts}
