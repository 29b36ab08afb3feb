"""What ranks do for test_of_model.py: a few steps in any layout with all that looks at the model; and the truth, by plain torch on
one process, a row a sample.

Nothing heavy is imported at the top: the ranks import this file before their environment is complete.
"""

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.parallel.layouts import CLIP, DECAY, RATE, Case, engine_of, ready

STEPS = 2
KINDS = ("page", "table", "receipt", "chart")  # one of them is none of ours
PACKED = "packed, "
CASES = {
    "one process, full recompute": Case(engine={"recompute": "full"}),
    "packed, tensor 2": Case({"tensor": 2}),
    "data 2, ZeRO-2": Case(data=2, engine={"zero": 2}),
    "tied, pipeline 2": Case({"pipeline": 2}, variant="tied"),
    "dora, tensor 2": Case({"tensor": 2}, variant="dora"),
    "bf16, data 2": Case(data=2, engine={"precision": "bf16"}),
    "pipeline 2 x expert 2": Case({"pipeline": 2, "expert": 2}, data=2),
    "data 2 x tensor 2, ZeRO-3": Case({"tensor": 2}, data=2, engine={"zero": 3}),
}
SLOW = {
    "one process": Case(),
    "packed, one process": Case(),
    "tensor 2": Case({"tensor": 2}),
    "data 2, ZeRO-1": Case(data=2),
    "data 2, ZeRO-3": Case(data=2, engine={"zero": 3}),
    "data 2, offload": Case(data=2, engine={"offload": True}),
    "bf16, data 2, ZeRO-2": Case(data=2, engine={"precision": "bf16", "zero": 2}),
    "packed, interleaved": Case({"pipeline": 2, "virtual": 2}),
    "tensor 2 x expert 2": Case({"tensor": 2, "expert": 2}, data=2),
}


def micro_batches(number: int, packed: bool, every_size: bool = False) -> list[Any]:
    """The micro-batches of a step: samples of several kinds and compressions, texts without a page, and a hole."""
    return [micro_batch(number, place, packed, every_size) for place in range(4)]


def micro_batch(number: int, place: int, packed: bool, every_size: bool) -> Any:
    """One of them."""
    from data_pipeline.batch import BatchSpec, Collator, hole
    from data_pipeline.tokenizer import byte_tokenizer
    from tests.packed_samples import LONGEST, MICRO_BATCHES, MODES, record

    collator = Collator(byte_tokenizer(), BatchSpec(MODES, 8, LONGEST, glyphs=True, every_size=every_size))
    rows = []
    for row, samples in enumerate(MICRO_BATCHES[(number + place) % 4]):
        keys = [f"{number}-{place}-{row}-{sample}" for sample in range(len(samples))]
        made = [record(key, pages, "abcde" * (letters // 5)) for key, (pages, letters) in zip(keys, samples)]
        rows.append([_with_kind(one) for one in made])
    rows[0].append(hole(f"{number}-{place}", ""))
    prepared = [[collator.sample(one) for one in row] for row in rows]
    if packed:
        return collator.packed(prepared, [["noise"] * len(row) for row in prepared])
    alone = [[sample] for row in prepared for sample in row]
    return collator.rows(alone, [["noise"]] * len(alone))


def _with_kind(record: Any) -> Any:
    import zlib
    from dataclasses import replace

    return replace(record, kind=KINDS[zlib.crc32(record.key.encode()) % len(KINDS)])


def objective(strata: bool) -> Any:
    """Without noise in the input, which is another one for every row."""
    from train.objective import NextToken

    return NextToken(patch_glyphs=0.5, token_glyphs=0.5, strata=strata)


def looked_at(name: str, initial: Path) -> dict[str, Any]:
    """values: of each step what the observers tell; history: its (loss, norm)."""
    from megatron.core import parallel_state

    from train.config import LoggerConfig
    from train.observe.observer import Look
    from train.observe.of_model import of_model

    case = (CASES | SLOW)[name]
    engine = engine_of(case, ready(case, initial))
    engine._objective = objective(strata=True)
    observers = of_model(LoggerConfig(details_every=1), engine, print)
    rank, each, values, history = parallel_state.get_data_parallel_rank(), 4 // case.data, [], []
    for step in range(1, STEPS + 1):
        batches = micro_batches(step, name.startswith(PACKED), case.engine.get("zero") == 3)
        own = batches[rank * each : (rank + 1) * each]
        for observer in observers:
            observer.before(step)
        output = engine.train_step(own)
        look = Look(step, own, output, 1.0, 0.0)
        values.append({key: value for observer in observers for key, value in observer.after(look).items()})
        history.append((output.loss, output.grad_norm))
    engine.close()
    return {"values": values, "history": history}


def truth(variant: str, initial: Path) -> list[dict[str, float]]:
    """The same values of each step, by plain torch: logits of each row, hooks on routers, gradients as they are, torch's AdamW."""
    import torch
    from megatron.core.transformer.moe.moe_utils import MoEAuxLossAutoScaler

    from parallel.layers import Router, transforms_in
    from train.optimizer import parameter_groups

    module = ready(Case(variant=variant), initial)
    groups = [dict(group) for group in parameter_groups(module, DECAY)]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95), eps=1e-4, fused=False)
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    told, routed = [], defaultdict(list)
    for part in module.modules():
        if isinstance(part, Router):
            part.register_forward_hook(lambda part, inputs, _: routed[part.layer_number - 1].append((part, *inputs)))
    for step in range(1, STEPS + 1):
        batches, found = micro_batches(step, packed=False), {}
        totals = {name: sum(batch.weights()[name] for batch in batches) for name in ("tokens", "cells")}
        MoEAuxLossAutoScaler.set_loss_scale(torch.tensor(1 / len(batches)))
        found |= losses(module, batches)
        routed.clear()
        for batch in batches:
            objective(strata=False)(module, batch, totals).loss.backward()
        found |= experts(routed)
        before = {name: p.detach().clone() for name, p in trained.items()}
        gradients = {name: p.grad.clone() for name, p in trained.items()}
        torch.nn.utils.clip_grad_norm_(list(trained.values()), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        for transform in transforms_in(module):
            transform.weights_changed()
        told.append(found | dict(magnitudes(trained, before, gradients)))
    return told


def losses(module: Any, batches: list[Any]) -> dict[str, float]:
    """Row by row, from logits."""
    import torch
    import torch.nn.functional as F

    from data_pipeline.strata import COMPRESSION_NAMES, KIND_NAMES

    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for batch in batches:
        with torch.no_grad():
            logits = module(batch).logits
        for row, (kind, compression) in enumerate(batch.strata.tolist()):
            nats = float(F.cross_entropy(logits[row].double(), batch.labels[row], ignore_index=-100, reduction="sum"))
            count = int((batch.labels[row] >= 0).sum())
            place = COMPRESSION_NAMES[compression - len(KIND_NAMES)]
            for name in (f"loss/{KIND_NAMES[kind]}", f"loss_at/{place}") if count else ():
                sums[name][0] += nats
                sums[name][1] += count
    return {name: nats / count for name, (nats, count) in sums.items()}


def experts(routed: dict[int, list[Any]]) -> dict[str, float]:
    """Of what came into the routers, (router, input, padding) of each micro-batch."""
    import torch

    from parallel.layers import sequence_balance_loss

    found, balance = {}, []
    for layer, forwards in routed.items():
        counts, entropies, tokens = torch.zeros(8), 0.0, 0
        for router, x, padding in forwards:
            scores = (x.detach() @ router.weight.detach().t()).softmax(-1)
            chosen = torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, scores.topk(2, -1).indices, True)
            counts += chosen[~padding].sum(0)
            valid = scores[~padding].double()
            entropies += float(-(valid * valid.log()).sum())
            tokens += len(valid)
            balance.append(float(sequence_balance_loss(scores, chosen, padding, 2)))
        found[f"expert_load/{layer}"] = float(counts.max() / counts.mean())
        found[f"expert_entropy/{layer}"] = entropies / tokens
    return found | {"balance_loss": sum(balance) / len(balance)}


def magnitudes(trained: Any, before: Any, gradients: Any) -> Iterator[tuple[str, float]]:
    """Norms over the parameters of each group."""
    from train.observe.gradients import NAMES, group_of

    for group in NAMES:
        own = [name for name in trained if group_of(name) == group]
        if own:
            gradient, weight, update = (
                sum(float(part.double().square().sum()) for part in parts) ** 0.5
                for parts in (
                    [gradients[name] for name in own],
                    [before[name] for name in own],
                    [trained[name].detach() - before[name] for name in own],
                )
            )
            yield f"grad_norm/{group}", gradient
            yield f"update_ratio/{group}", update / weight


def play(names: list[str], ports: list[int], initial: str) -> dict[str, dict[str, Any]]:
    """All cases of one launch, each in process groups of its own."""
    from parallel.topology import start, stop

    results = {}
    for port, name in zip(ports, names):
        os.environ["MASTER_PORT"] = str(port)
        start((CASES | SLOW)[name].topology(), seed=0, timeout_seconds=60)
        try:
            results[name] = looked_at(name, Path(initial))
        except BaseException as error:
            error.add_note(f"in {name}")
            raise
        stop()
    return results
