"""megatron-core on CPU: what the shim answers, and that it stays away from a machine with CUDA."""

import subprocess
import sys
from functools import partial

import pytest
import torch

from parallel import cpu

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA: nothing to replace")


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    cpu.install()


def test_it_does_nothing_where_cuda_is_available() -> None:
    program = (
        "import torch; torch.cuda.is_available = lambda: True\n"
        "before = dict(vars(torch.cuda)), torch.Tensor.cuda\n"
        "from parallel import cpu; cpu.install()\n"
        "assert (dict(vars(torch.cuda)), torch.Tensor.cuda) == before\n"
        "import sys; assert not [name for name in sys.modules if name.startswith('megatron')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_installing_twice_changes_nothing() -> None:
    first = torch.cuda.current_device
    cpu.install()
    assert torch.cuda.current_device is first


def test_cuda_stays_unavailable_and_names_mean_the_cpu() -> None:
    assert not torch.cuda.is_available()
    assert torch.cuda.current_device() == "cpu"
    tensor = torch.ones(2)
    assert tensor.cuda() is tensor
    torch.cuda.current_stream().wait_stream(torch.cuda.Stream())
    assert torch.cuda.Stream().record_event() is not None


def test_only_megatron_reads_cuda_as_cpu() -> None:
    from megatron.core.pipeline_parallel import schedules

    assert schedules.torch.zeros([], device="cuda").device.type == "cpu"
    assert schedules.torch.nn is torch.nn
    with pytest.raises((AssertionError, RuntimeError)):
        torch.zeros([], device="cuda")


def test_a_megatron_schedule_runs_forward_and_backward(one_grid: None) -> None:
    from megatron.core.enums import ModelType
    from megatron.core.pipeline_parallel import get_forward_backward_func
    from megatron.core.transformer.module import MegatronModule
    from megatron.core.transformer.transformer_config import TransformerConfig

    class Model(MegatronModule):
        def __init__(self) -> None:
            super().__init__(TransformerConfig(num_layers=1, hidden_size=4, num_attention_heads=1))
            self.model_type = ModelType.encoder_or_decoder
            self.linear = torch.nn.Linear(4, 1)

        def set_input_tensor(self, tensor: object) -> None:
            pass

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x)

    def step(batches, model):
        return model(next(batches)), lambda out: (out.mean(), {"mean": out.detach().mean()})

    model = Model()
    inputs = torch.randn(3, 5, 4)
    run = partial(get_forward_backward_func(), forward_step_func=step, model=[model], num_microbatches=3)
    losses = run(data_iterator=iter(inputs), seq_length=5, micro_batch_size=1, forward_only=False)
    assert len(losses) == 3
    torch.testing.assert_close(model.linear.weight.grad[0], inputs.mean((0, 1)))


def test_the_random_tracker_forks_the_cpu_generator(one_grid: None) -> None:
    from megatron.core.tensor_parallel import get_cuda_rng_tracker

    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with get_cuda_rng_tracker().fork():
        inside = torch.rand(2)
    assert torch.equal(torch.rand(2), expected)
    assert not torch.equal(inside, expected)


@pytest.fixture
def one_grid():
    from parallel import topology

    topology.start(topology.Topology(), seed=0)
    yield
    topology.stop()
