"""One interface to a training step: megatron-core's schedule drives forward and backward, DeepSpeed ZeRO the update.

The gradient of a step is the gradient of (sum over all tokens of the global batch) / (number of those tokens), whatever
the micro-batches, the data parallel size, and however unevenly the tokens fall on them. For that the counts are summed
over all ranks before the forward, and the objective divides its sums by `normalizers`:

    normalizer = total / (micro-batches x data parallel size)

which the schedule (it divides by the micro-batches) and DeepSpeed (it averages over data ranks) then cancel. The
auxiliary losses that megatron-core's routers add in backward are averaged over micro-batches and data ranks.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist

from parallel import deepspeed_compat, pipeline, prepare, rerun, resume, totals
from parallel.accepting import Accepts, agreed
from parallel.base import Base
from parallel.checkpoint_writer import Writer, Written
from parallel.device import device
from parallel.fused import FusedUpdates
from parallel.layers import transforms_in
from parallel.optimizer import FusedOptimizer
from parallel.options import EngineOptions, check
from parallel.pieces import Piece
from parallel.pipeline import StageOutput
from parallel.rerun import OwnLosses, Rerun
from parallel.topology import Topology
from parallel.totals import Batch
from parallel.updates import Updates, ZeroUpdates

__all__ = ["Accepts", "Batch", "Engine", "EngineOptions", "Objective", "Rerun", "StageOutput", "StepOutput"]


class Objective(Protocol):
    """Runs a piece of the model on a micro-batch.

    In the loss every sum is divided by its normalizer; the sums themselves are not divided: the engine adds them over
    micro-batches, pieces and data ranks.
    """

    def __call__(
        self, module: torch.nn.Module, batch: Any, normalizers: Mapping[str, float]
    ) -> StageOutput: ...


@dataclass(frozen=True)
class StepOutput:
    """What a step did, the same on every rank.

    loss: of the whole global batch. grad_norm: before clipping; inf when it was not finite, nan when it was not asked for as
    the loss was refused. skipped: nothing was updated because the loss or a gradient was not finite, or refused. sums,
    weights: of the objective and the batches, added up. counts: what the caller gave to be added up.
    """

    loss: float
    grad_norm: float
    skipped: bool
    sums: dict[str, float]
    weights: dict[str, float]
    counts: dict[str, float]


class Engine:
    """Trains one module. Several engines may follow each other in a process: `close` one, then build the next."""

    check = staticmethod(check)

    def __init__(
        self,
        module: torch.nn.Module,
        groups: Sequence[dict[str, Any]],
        optimizer: Callable[[list[dict[str, Any]]], torch.optim.Optimizer],
        objective: Objective,
        topology: Topology,
        options: EngineOptions,
    ) -> None:
        """`module` on any device, with `module.config` a megatron-core TransformerConfig and `set_input_tensor`.

        groups: torch parameter groups with `params`, `lr_scale` (default 1), `weight_decay`, `name`. Parameters with
        requires_grad False are left out. Raises ParallelError for a trainable parameter that is in no group.
        """
        check(topology, options)
        self.module, self.options, self.topology = module.to(device()), options, topology
        self._objective, self._writer = objective, Writer()
        self._names = prepare.trainable_names(module, groups)
        trainable, self._placeholders = prepare.same_groups(module, groups)
        deepspeed_compat.register_experts(module, options)
        self.optimizer = optimizer(deepspeed_compat.parameter_groups(trainable))
        self._state = resume.TrainingState(module, self._names, self.optimizer)
        masters = prepare.exact_masters(self._names, options)
        self._tied = prepare.tied_across_stages(module)
        prepare.leave_gradients_to_the_engine(module)
        self._updates: Updates
        if isinstance(self.optimizer, FusedOptimizer):
            self._updates = FusedUpdates(module, self._names, self.optimizer, options, topology)
        else:
            told, trained = self._weights_changed, self._state.trained
            self._updates = ZeroUpdates(module, self.optimizer, options, masters, trained, told)
        self._hooks = prepare.sum_over_sequence_parts(self._names, topology)
        self._reached: set[torch.nn.Parameter] = set()
        self._own = OwnLosses()
        self.at_work: Any = None  # the micro-batch whose forward began last, while forwards and backwards run
        self._hooks += prepare.watch_gradients(self._names, self._reached)
        self._transforms = transforms_in(module)

    def train_step(
        self,
        batches: Sequence[Batch],
        counts: Mapping[str, float] | None = None,
        accepts: Accepts | None = None,
    ) -> StepOutput:
        """One optimizer step over this rank's micro-batches of a global batch. All ranks call it together.

        counts: this data rank's numbers by name, the same names on every rank; they come back added up over data ranks.
        accepts: a say in whether the step is made, where the numbers are finite; one rank that refuses is enough. It costs two
        collectives of a number.
        Raises MissingGradient, on every rank, when a trainable parameter of any rank got no gradient.
        """
        if (
            not self.module.training
        ):  # walking through all modules costs as much as the optimizer's update of a small model
            self.module.train()
        self._reached.clear()
        accepted = agreed(accepts) if accepts else None
        weights, normalizers, added = totals.before(batches, counts or {}, self.topology)
        loss, sums = self._forward_backward(batches, normalizers)
        total, missing, summed = totals.after(loss, self._missing, sums, self.topology)
        if missing:
            self._refuse_missing()
        is_finite = math.isfinite(total)
        if not is_finite or (accepted and not accepted("loss", total)):
            self._updates.discard()
            return StepOutput(total, math.nan if is_finite else math.inf, True, summed, weights, added)
        prepare.sum_tied_gradients(self._tied)
        self._placeholders.zero_gradients()
        norm, skipped = self._updates.step(partial(accepted, "grad_norm") if accepted else None)
        self._weights_changed()
        return StepOutput(total, norm, skipped, summed, weights, added)

    def own_losses(self) -> tuple[float, ...]:
        """What this rank's pieces of the model added to the objective in each micro-batch of the last step; waits for the
        device."""
        return self._own.values()

    def rerun(self, batches: Sequence[Batch], gradients: bool) -> Rerun:
        """The step once more with the weights that there are, updating nothing. All ranks call it together.

        gradients: run backward as well, to see which are not finite.
        """
        _, normalizers, _ = totals.before(batches, {}, self.topology)
        with rerun.same_randomness(), self._updates.only_trying():
            if not gradients:
                with torch.no_grad():
                    self._forward_backward(batches, normalizers, forward_only=True)
                return Rerun(self._own.values(), ())
            with rerun.watching(self._names) as not_finite:
                self._forward_backward(batches, normalizers)
                self._updates.discard()
                return Rerun(self._own.values(), not_finite())

    def eval_step(self, batches: Sequence[Batch]) -> tuple[dict[str, float], dict[str, float]]:
        """(sums, weights) over all micro-batches and data ranks, as in a training step, without gradients, with the weights
        that are stored."""
        weights, normalizers, _ = totals.before(batches, {}, self.topology)

        def stage(module: torch.nn.Module, batch: Batch) -> StageOutput:
            return self._objective(module, batch, normalizers)

        with self.stored_weights():
            return pipeline.forward_only(self.module, batches, stage), weights

    def stored_weights(self) -> AbstractContextManager[None]:
        """For a look at the module: it has the weights that `save` writes, which are averages with optimizers that step
        others. All ranks enter it."""
        return self._updates.stored_weights()

    def set_learning_rate(self, lr: float) -> None:
        """Gives every group `lr` times its `lr_scale`, from the next step on."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)

    def save(
        self,
        root: Path,
        step: int,
        extra: dict[str, Any],
        keep: int = 3,
        background: bool = False,
        base: Base | None = None,
    ) -> Path:
        """Writes `root/step-XXXXXXXX`, whole or not at all, and keeps the newest `keep`; `extra` comes back from `load`. With
        `base`, a checkpoint that the frozen weights are from, those are left out.

        In the background: returns when the state is copied, and writes while training goes on. Raises CheckpointError on
        all ranks when nothing could be written, or when the save before this one failed in the background: call `wait`
        first to tell the two apart.
        """
        facts = {"extra": extra, **self._facts()}
        return resume.save(self._writer, Path(root), step, self._state, facts, keep, background, base)

    def pieces(self) -> Iterator[Piece]:
        """What `save` would write of the weights and the optimizer; all ranks call it, and go through all of it."""
        return resume.pieces_of(self._state)

    def trained_keys(self) -> dict[torch.Tensor, str]:
        """This rank's trained parameters, with what `pieces` calls them."""
        return self._state.keys()

    @property
    def written(self) -> Written | None:
        """The last checkpoint that this engine has saved."""
        return self._writer.written

    def wait(self) -> None:
        """Returns when no checkpoint is being written. Raises CheckpointError, once, for one that failed."""
        self._writer.wait()

    def load(self, path: Path, strict: bool = True) -> tuple[int, dict[str, Any]] | None:
        """(step, extra) after taking everything from a checkpoint folder or the newest valid one of a root.

        None when there is no checkpoint at all. On the CPU the steps that follow are bit-equal to those of a run that
        was never interrupted, in the same layout. Without `strict`, weights that were frozen when the checkpoint was
        written start with zero moments. Raises CheckpointError when all are damaged or of another model.
        """
        self.wait()  # the newest may be on its way
        found = resume.load(Path(path), self._state, self.topology, strict)
        if found is None:
            return None
        self._updates.refresh()
        for transform in self._transforms:
            transform.weights_replaced()
        return found["step"], found["extra"]

    def _weights_changed(self) -> None:
        for transform in self._transforms:
            transform.weights_changed()

    def _facts(self) -> dict[str, Any]:
        return {"topology": asdict(self.topology), "engine": asdict(self.options)}

    def close(self) -> None:
        """Takes the engine off the module: hooks, gradients, optimizer. The module keeps its weights, those that are stored.

        Waits for a checkpoint in the background, and raises its error after all else is done.
        """
        for hook in self._hooks:
            hook.remove()
        self._updates.release()
        prepare.remove_placeholders(self.module)
        self._writer.close()

    def _forward_backward(
        self, batches: Sequence[Batch], normalizers: Mapping[str, float], forward_only: bool = False
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """This rank's (loss, sums) in fp64, after forward and backward over all its micro-batches."""
        self._own.clear()

        def stage(module: torch.nn.Module, batch: Batch) -> StageOutput:
            self.at_work = batch
            with deepspeed_compat.holding_no_weights(self.options):
                output = self._objective(module, batch, normalizers)
            self._own.add(module, output.loss)
            if forward_only:
                return output
            if deepspeed_compat.partitions_gradients(self.options):
                self._reached.clear()  # every backward is reduced by itself, so each must reach everything
            self._updates.before_backward(output.loss, self._check_backward)
            return output

        done = pipeline.run(self.module, batches, stage, forward_only)
        self.at_work = None
        return done

    def _check_backward(self) -> None:
        """Before ranks reduce a backward's gradients together, they agree that all have them: else they would wait
        for each other."""
        missing = torch.tensor(float(self._missing), device=device())
        dist.all_reduce(missing)
        if missing:
            self._refuse_missing()

    @property
    def _missing(self) -> int:
        """Trainable parameters of this rank without a gradient in this step."""
        return len(self._names) - len(self._reached)

    def _refuse_missing(self) -> None:
        totals.refuse_missing([name for param, name in self._names.items() if param not in self._reached])
