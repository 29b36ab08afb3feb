"""ZeRO stages and offload by the numbers of plain torch, and the parameter groups that DeepSpeed's collectives want."""

import gc
import os
from dataclasses import replace

import pytest
import tiny_decoder as tiny
import torch
from ranks import free_ports, launch
from test_engine import engine_of
from torch.multiprocessing.reductions import StorageWeakRef

from parallel.errors import MissingGradient
from parallel.options import EngineOptions
from parallel.topology import Topology, environment, start, stop

STEPS, SAVED_AT = 5, 3
OPTIONS = {
    f"zero{zero} {precision}{' offload' if offload else ''}": EngineOptions(
        zero, precision, tiny.CLIP, offload
    )
    for zero in (1, 2, 3)
    for precision in ("fp32", "bf16")
    for offload in (False, True)
    if zero == 3 or offload
}
CASES = {  # one launch of two ranks, one of four
    2: {
        "data 2": (
            Topology(data=2),
            ["zero1 bf16 offload", "zero2 bf16 offload", "zero3 fp32", "zero3 bf16", "zero3 fp32 offload"],
        ),
        "expert 2": (Topology(expert=2, data=2), ["zero1 fp32 offload", "zero2 bf16 offload"]),
    },
    4: {
        "data 2 x tensor 2": (
            Topology(tensor=2, data=2),
            ["zero3 fp32", "zero3 bf16", "zero2 fp32 offload"],
        )
    },
}
FROZEN = "decoder.layers.1"
STAGE_0 = ("embedding", "decoder.layers.0")  # of a pipeline of two stages, two layers in all
PIPELINES = {  # precision, frozen
    "all": ("fp32", ()),
    "second stage": ("fp32", STAGE_0),
    "second stage in bf16": ("bf16", STAGE_0),
}


@pytest.fixture(scope="module", autouse=True)
def alone():
    """This process as a world of one."""
    start(Topology(), seed=0)
    yield
    stop()


def shares_of(topology):
    rank = environment()[0] // topology.tensor % topology.data
    return [tiny.share(step, rank, topology.data, 2) for step in range(STEPS)]


def frozen_but(module, frozen):
    for name, param in module.named_parameters():
        param.requires_grad_(not name.startswith(frozen) if frozen else True)
    return module


def trained(topology, options, initial, folder, frozen=()):
    """(losses and norms of 5 steps, of step 4 by ZeRO-1 from what was saved before and of step 5 again from that).

    Three engines in a row on one module, whose weights at the start are of another seed than those loaded.
    """
    module = frozen_but(tiny.build(seed=7, topology=topology), frozen)
    shares, history, again = shares_of(topology), [], []
    engine = engine_of(module, topology, options)
    engine.load(initial)
    engine.eval_step(shares[0])
    for step, share in enumerate(shares):
        if step == SAVED_AT:
            engine.save(folder, step, {})
            engine.eval_step(shares[0])
        output = engine.train_step(share)
        history.append((output.loss, output.grad_norm))
    engine.save(folder, STEPS, {})
    engine.close()
    source = folder / f"step-{SAVED_AT:08d}"
    for step, now in ((3, replace(options, zero=1, offload=False)), (4, options)):
        engine = engine_of(module, topology, now)
        engine.load(source)
        gc.collect()  # the engine before it goes now, and must leave this one's masters alone
        output = engine.train_step(shares[step])
        again.append((output.loss, output.grad_norm))
        source = engine.save(folder / "again", step + 1, {})
        engine.close()
    return history, again, list(tiny.weights_of(module))


def on_ranks(world, ports, folder):
    """Everything that this many ranks do."""
    results, initial = {}, folder / "initial"
    for port, (case, (topology, names)) in zip(ports, CASES[world].items()):
        os.environ["MASTER_PORT"] = str(port)
        start(topology, seed=0)
        for name in names:
            results[case, name] = trained(topology, OPTIONS[name], initial, folder / case / name)
        if case == "data 2":
            results["frozen"] = trained(
                topology, OPTIONS["zero3 fp32"], initial, folder / "frozen", (FROZEN,)
            )
            results["not finite"] = {
                name: around_what_is_not_finite(topology, options)
                for name, options in OPTIONS.items()
                if options.precision == "bf16"
            }
            results["held"] = weights_held_after_a_forward(topology)
            results["missing"] = message_of_a_missing_gradient(topology)
        stop()
    os.environ["MASTER_PORT"] = str(ports[-1])
    return results | in_a_pipeline(folder) if world == 4 else results


def around_what_is_not_finite(topology, options):
    """(what was skipped, the other steps of that run, the steps of a run without any of it)."""
    poison = {"kind": ""}

    def objective(module, batch, normalizers):
        output = tiny.objective(module, batch, normalizers)
        if environment()[0] == 1 and poison["kind"] == "loss":
            output.loss = output.loss * torch.nan
        elif environment()[0] == 1 and poison["kind"] == "gradient":
            output.loss.register_hook(lambda gradient: gradient * torch.inf)
        return output

    skipped, runs = [], []
    for kinds in (("", "gradient", "", "loss", ""), ("", "", "")):
        engine = engine_of(tiny.build(), topology, options, objective)
        shares, history = iter(shares_of(topology)), []
        for poison["kind"] in kinds:
            output = engine.train_step(shares_of(topology)[4] if poison["kind"] else next(shares))
            if poison["kind"]:
                skipped.append(output.skipped)
            else:
                history.append((output.loss, output.grad_norm))
        engine.close()
        runs.append(history)
    return skipped, *runs


def weights_held_after_a_forward(topology):
    """(experts, those of them that something keeps whole between the first forward of stage 3 and its backward)."""
    module, gathered, held = tiny.build(), [], []

    def note(experts, args):
        gathered.append(StorageWeakRef(experts.fc1.untyped_storage()))

    def objective(module, batch, normalizers):
        output = tiny.objective(module, batch, normalizers)
        held.extend(not storage.expired() for storage in gathered)
        return output

    engine = engine_of(module, topology, OPTIONS["zero3 fp32"], objective)
    hooks = [layer.mlp.experts.register_forward_pre_hook(note) for layer in module.decoder.layers[1:]]
    engine.train_step(tiny.share(0, environment()[0], topology.data, 1))
    for hook in hooks:
        hook.remove()
    engine.close()
    return len(held), sum(held)


def message_of_a_missing_gradient(topology):
    """The error here when on rank 1 alone the last norm's weight is used without a gradient."""
    module = tiny.build()
    engine = engine_of(module, topology, OPTIONS["zero3 fp32"], with_a_constant_norm_on_rank_1)
    with pytest.raises(MissingGradient) as error:
        engine.train_step(shares_of(topology)[0])
    engine.close()
    return str(error.value)


def with_a_constant_norm_on_rank_1(module, batch, normalizers):
    if environment()[0] != 1:
        return tiny.objective(module, batch, normalizers)
    norm = module.decoder.final_layernorm
    forward = norm.forward
    norm.forward = lambda hidden: forward(hidden).detach() + 0 * hidden
    output = tiny.objective(module, batch, normalizers)
    del norm.forward
    return output


def in_a_pipeline(folder):
    """Losses and norms of every case with two stages."""
    results, topology = {}, Topology(pipeline=2, data=2, expert=2)
    start(topology, seed=0)
    for name, (precision, frozen) in PIPELINES.items():
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        module = tiny.build(seed=7, layers=2, topology=topology, dtype=dtype)
        module.requires_grad_(not (frozen and module.pre_process))
        before = list(tiny.weights_of(module))
        engine = engine_of(module, topology, EngineOptions(1, precision, tiny.CLIP))
        engine.load(folder / "initial of 2 layers")
        outputs = [engine.train_step(share) for share in shares_of(topology)]
        engine.save(folder / name, STEPS, {})
        engine.close()
        results[name] = [(output.loss, output.grad_norm) for output in outputs]
        assert list(tiny.weights_of(module)) == before, "something was left in the module"
        assert not any(hasattr(param, "group_name") for param in module.parameters())
    stop()
    return results


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder of all checkpoints, with the weights that every case starts from."""
    folder = tmp_path_factory.mktemp("zero")
    for name, layers in (("initial", 3), ("initial of 2 layers", 2)):
        engine = engine_of(tiny.build(layers=layers), Topology(), EngineOptions())
        engine.save(folder / name, 0, {})
        engine.close()
    return folder


@pytest.fixture(scope="module")
def results(folder):
    """What rank 0 of each launch saw, after a look at whether all ranks saw the same."""
    found = {}
    for world in CASES:
        every = launch(on_ranks, world, world, free_ports(len(CASES[world]) + 1), folder)
        assert all(rank == every[0] for rank in every)
        found |= every[0]
    return found


@pytest.fixture(scope="module")
def truth():
    """Losses, norms and weights by plain torch."""
    return tiny.reference(STEPS)


def assert_history(history, expected, precision):
    band = (1e-6, 1e-6) if precision == "fp32" else (2e-2, 3e-2)
    for (loss, norm), (expected_loss, expected_norm) in zip(history, expected, strict=True):
        assert norm > tiny.CLIP, "clipping is meant to be active"
        assert loss == pytest.approx(expected_loss, rel=band[0])
        assert norm == pytest.approx(expected_norm, rel=band[1])


def assert_weights(path, module, expected, precision):
    from parallel.snapshot import load_module

    load_module(path, module)
    for name, value in tiny.weights_of(module).items():
        assert torch.allclose(value, expected[name], rtol=0, atol=1e-6 if precision == "fp32" else 5e-2), name


@pytest.mark.parametrize(
    ("case", "name"),
    [(case, name) for cases in CASES.values() for case, (_, names) in cases.items() for name in names],
)
def test_stages_and_offload_equal_plain_torch_and_read_each_others_checkpoints(
    results, truth, folder, case, name
):
    history, again, names = results[case, name]
    precision = OPTIONS[name].precision
    assert_history(history, truth[0], precision)
    assert_history(again, truth[0][SAVED_AT:], precision)
    if precision == "fp32":
        assert again == [pytest.approx(step, rel=1e-6) for step in history[SAVED_AT:]]
    assert names == list(truth[1]), "something was left in the module"
    assert_weights(folder / case / name, tiny.build(seed=5), truth[1], precision)


def test_frozen_weights_are_split_saved_and_loaded_by_stage_3_as_they_are(results, folder):
    history, again, _ = results["frozen"]
    expected, weights = tiny.reference(STEPS, FROZEN)
    assert_history(history, expected, "fp32")
    assert_history(again, expected[SAVED_AT:], "fp32")
    assert_weights(folder / "frozen", tiny.build(seed=5), weights, "fp32")


def test_what_is_not_finite_on_one_rank_is_skipped_and_leaves_no_trace(results):
    for name, (skipped, run, clean) in results["not finite"].items():
        assert skipped == [True] * 2, name
        assert run == clean, name


def test_stage_3_holds_no_whole_experts_from_forward_to_backward(results):
    assert results["held"] == (2, 0)


def test_a_missing_gradient_in_stage_3_is_named_on_all_ranks(results):
    assert "final_layernorm.weight got no gradient on rank 1" in results["missing"]


@pytest.mark.parametrize("name", PIPELINES)
def test_pipeline_stages_without_experts_or_without_anything_to_train_step_save_and_load(
    results, folder, name
):
    precision, frozen = PIPELINES[name]
    expected, weights = tiny.reference(STEPS, frozen or "?", layers=2)
    assert_history(results[name], expected, precision)
    assert_weights(folder / name, tiny.build(seed=5, layers=2), weights, precision)
