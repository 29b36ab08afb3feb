import importlib
import math
import os

import pytest
import tiny_decoder as tiny
import torch
from ranks import free_ports, launch

from parallel.errors import MissingGradient, ParallelError
from parallel.options import EngineOptions
from parallel.topology import Topology, environment, start, stop

STEPS = 5
OPTIONS = {
    "zero1": EngineOptions(1, "fp32", tiny.CLIP),
    "zero2": EngineOptions(2, "fp32", tiny.CLIP),
    "bf16": EngineOptions(1, "bf16", tiny.CLIP),
    "bf16 zero2": EngineOptions(2, "bf16", tiny.CLIP),
}


@pytest.fixture(scope="module", autouse=True)
def alone():
    """This process as a world of one, without any variable of a launcher."""
    start(Topology(), seed=0)
    yield
    stop()


@pytest.fixture(scope="module")
def truth():
    """Losses, norms and weights by plain torch."""
    return tiny.reference(STEPS)


def engine_of(module, topology, options, objective=tiny.objective):
    from parallel.engine import Engine

    engine = Engine(module, tiny.groups(module), tiny.adamw, objective, topology, options)
    engine.set_learning_rate(tiny.RATE)
    return engine


def trained(topology, options, micro_batches, initial=None, final=None):
    """(losses and norms, weights, last sums and weights, sums of an evaluation) of an engine on this rank."""
    module = tiny.build(topology=topology)
    engine = engine_of(module, topology, options)
    if initial:
        engine.load(initial)
    rank = environment()[0] // topology.tensor
    shares = [tiny.share(step, rank, topology.data, micro_batches) for step in range(STEPS)]
    evaluated = engine.eval_step(shares[0])
    outputs = [engine.train_step(share) for share in shares]
    if final:
        engine.save(final, STEPS, {})
    engine.close()
    history = [(output.loss, output.grad_norm) for output in outputs]
    return history, tiny.weights_of(module), (outputs[0].sums, outputs[0].weights), evaluated


def assert_equal(result, truth, bf16):
    history, weights, (sums, counts), (evaluated, evaluated_counts) = result
    batch = tiny.global_batch(0)
    assert counts == evaluated_counts == batch.weights()
    assert sums["tokens"] / counts["tokens"] == pytest.approx(history[0][0], rel=1e-6)
    assert evaluated["tokens"] == pytest.approx(sums["tokens"], rel=1e-6)
    loss_band, norm_band, weight_band = (2e-2, 3e-2, 2e-1) if bf16 else (1e-6, 1e-6, 1e-6)
    for (loss, norm), (expected_loss, expected_norm) in zip(history, truth[0], strict=True):
        assert norm > tiny.CLIP, "clipping is meant to be active"
        assert loss == pytest.approx(expected_loss, abs=loss_band, rel=0 if bf16 else 2e-7)
        assert norm == pytest.approx(expected_norm, rel=norm_band)
    worst = {name: (value - truth[1][name]).abs().max().item() for name, value in weights.items()}
    assert max(worst.values()) <= weight_band, max(worst, key=worst.__getitem__)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_one_process_equals_plain_torch(truth, name, micro_batches):
    """And engines in sequence do not disturb each other: all cases run in this one process."""
    assert_equal(trained(Topology(), OPTIONS[name], micro_batches), truth, name.startswith("bf16"))


def on_two_ranks(ports, initial, folder):
    """All two-process cases in one launch."""
    results = {}
    layouts = {"data": Topology(data=2), "expert": Topology(expert=2, data=2), "tensor": Topology(tensor=2)}
    for port, (layout, topology) in zip(ports, layouts.items()):
        os.environ["MASTER_PORT"] = str(port)
        start(topology, seed=0)
        names = OPTIONS if layout == "data" else ["zero1", "zero2"]
        for name in names:
            final = f"{folder}/{layout} {name}"
            results[layout, name] = trained(topology, OPTIONS[name], 2, initial, final)
        if layout == "data":
            results["missing"] = messages_of_a_missing_gradient(topology)
            results["not finite"] = steps_that_are_not_finite(topology)
        stop()
    return results


def messages_of_a_missing_gradient(topology):
    """The error on this rank when rank 1 alone leaves a parameter out, for each ZeRO stage."""
    messages = []
    for name in ("zero1", "zero2", "bf16"):
        module = tiny.build()
        engine = engine_of(module, topology, OPTIONS[name], without_output_on_rank_1)
        with pytest.raises(MissingGradient) as error:
            engine.train_step(tiny.share(0, environment()[0], topology.data, 1))
        messages.append(str(error.value))
        engine.close()
    return messages


def without_output_on_rank_1(module, batch, normalizers):
    output = tiny.objective(module, batch, normalizers)
    if environment()[0] == 1:
        output.loss = module.decoder.layers[0].mlp.linear_fc1.weight.sum() / normalizers["tokens"]
    return output


def steps_that_are_not_finite(topology):
    """(skipped, skipped, skipped, weights unchanged, equal to a run without those steps) for each option."""
    results = []
    for options in OPTIONS.values():
        module, other = tiny.build(), tiny.build()
        poison = {"kind": ""}

        def objective(module, batch, normalizers, poison=poison):
            output = tiny.objective(module, batch, normalizers)
            if environment()[0] == topology.data - 1:
                if poison["kind"] == "loss":
                    output.loss = output.loss + math.nan
                elif poison["kind"] == "infinite constant":
                    output.loss = output.loss + math.inf
                elif poison["kind"] == "gradient":
                    output.loss.register_hook(lambda gradient: gradient * math.inf)
            return output

        engine, clean = engine_of(module, topology, options, objective), engine_of(other, topology, options)
        shares = [tiny.share(step, environment()[0], topology.data, 2) for step in range(3)]
        first = [e.train_step(shares[0]).skipped for e in (engine, clean)]
        before = tiny.weights_of(module)
        skipped = []
        for poison["kind"] in ("loss", "infinite constant", "gradient"):
            skipped.append(engine.train_step(shares[1]).skipped)
        unchanged = all(torch.equal(before[name], value) for name, value in tiny.weights_of(module).items())
        poison["kind"] = ""
        after = [e.train_step(shares[2]).loss for e in (engine, clean)]
        equal = after[0] == after[1] and all(map(torch.equal, module.parameters(), other.parameters()))
        results.append((first, skipped, unchanged, equal))
        engine.close()
        clean.close()
    return results


FINE = ([False, False], [True, True, True], True, True)


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """What each of two ranks saw, and the folder with their final checkpoints."""
    folder = tmp_path_factory.mktemp("two")
    engine = engine_of(tiny.build(), Topology(), OPTIONS["zero1"])
    engine.save(folder / "initial", 0, {})
    engine.close()
    return launch(on_two_ranks, 2, free_ports(3), str(folder / "initial"), str(folder)), folder


@pytest.mark.parametrize("name", OPTIONS)
def test_two_data_ranks_with_uneven_tokens_equal_plain_torch(truth, two_ranks, name):
    for results in two_ranks[0]:
        assert_equal(results["data", name], truth, name.startswith("bf16"))


@pytest.mark.parametrize("name", ["zero1", "zero2"])
@pytest.mark.parametrize("layout", ["expert", "tensor"])
def test_two_expert_or_tensor_ranks_equal_plain_torch_and_their_checkpoint_is_whole(
    truth, two_ranks, layout, name
):
    from parallel.snapshot import load_module

    module = tiny.build(seed=5)
    load_module(two_ranks[1] / f"{layout} {name}", module)
    for results in two_ranks[0]:
        history, _, sums, evaluated = results[layout, name]
        assert_equal((history, tiny.weights_of(module), sums, evaluated), truth, bf16=False)


def test_a_missing_gradient_on_one_rank_is_named_on_all(two_ranks):
    for results in two_ranks[0]:
        for message in results["missing"]:
            assert "embedding.word_embeddings.weight got no gradient on rank 1" in message


def test_what_is_not_finite_on_one_rank_is_skipped_by_all(two_ranks):
    for results in [*two_ranks[0], {"not finite": steps_that_are_not_finite(Topology())}]:
        assert results["not finite"] == [FINE] * len(OPTIONS)


def test_frozen_parameters_stay_and_the_rest_equals_plain_torch():
    frozen = "decoder.layers.0"
    history, weights = tiny.reference(STEPS, frozen)
    module = tiny.build()
    for name, param in module.named_parameters():
        param.requires_grad_(not name.startswith(frozen))
    before = tiny.weights_of(module)
    engine = engine_of(module, Topology(), OPTIONS["zero1"])
    outputs = [engine.train_step(tiny.share(step, 0, 1, 1)) for step in range(STEPS)]
    engine.close()
    for output, (loss, norm) in zip(outputs, history, strict=True):
        assert (output.loss, output.grad_norm) == pytest.approx((loss, norm), rel=1e-6)
    for name, value in tiny.weights_of(module).items():
        assert (
            torch.equal(value, before[name])
            if name.startswith(frozen)
            else torch.allclose(value, weights[name], rtol=0, atol=1e-6)
        )


def test_a_step_without_any_weight_trains_nothing_instead_of_dividing_by_zero():
    engine = engine_of(tiny.build(), Topology(), OPTIONS["zero1"])
    rows = tiny.global_batch(0)
    output = engine.train_step([tiny.Rows(rows.tokens, torch.zeros_like(rows.mask))])
    engine.close()
    assert (output.loss, output.weights["tokens"], output.skipped) == (0.0, 0.0, False)


def test_a_parameter_outside_the_groups_and_a_module_all_frozen_are_refused():
    from parallel.engine import Engine

    module = tiny.build()
    partial = tiny.groups(module)[:1]
    with pytest.raises(ParallelError, match="layernorm.weight is trainable but in no parameter group"):
        Engine(module, partial, tiny.adamw, tiny.objective, Topology(), OPTIONS["zero1"])
    module.requires_grad_(False)
    with pytest.raises(ParallelError, match=r"stage\.frozen"):
        Engine(module, partial, tiny.adamw, tiny.objective, Topology(), OPTIONS["zero1"])


def test_every_private_name_of_deepspeed_still_exists():
    from parallel.deepspeed_compat import PRIVATE

    for module, path in PRIVATE:
        target = importlib.import_module(module)
        for part in path.split("."):
            target = getattr(target, part)


def test_a_gradient_of_none_is_none():
    """A function that gives a parameter None still reaches it, in torch's count of what was accumulated."""
    from parallel.prepare import watch_gradients

    class ForgetsBias(torch.autograd.Function):
        @staticmethod
        def forward(ctx, weight, bias):
            return weight + bias

        @staticmethod
        def backward(ctx, gradient):
            return gradient, None

    weight, bias, reached = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2)), set()
    watch_gradients([weight, bias], reached)
    ForgetsBias.apply(weight, bias).sum().backward()
    assert reached == {weight}
