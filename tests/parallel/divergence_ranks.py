"""What ranks do for test_divergence.py: losses of an output layer that they share, and the same by torch on whole logits.

Nothing heavy is imported at the top: the ranks import this file before their environment is complete.
"""

from typing import Any, NamedTuple

ROWS, LENGTH, WIDTH, TEACHER, VOCABULARY = 3, 30, 16, 24, 48


class Case(NamedTuple):
    """A divergence, the weights of it and of the labels, whether the teacher was written to disk."""

    kind: str = "forward_kl"
    temperature: float = 1.0
    top_k: int = 0
    mixture: float = 0.5
    weight: float = 1.0
    next_token: float = 0.0
    cached: bool = False


CASES = {
    "forward": Case(),
    "forward, warm, with labels": Case(temperature=2.0, weight=0.7, next_token=0.3),
    "forward, top 5": Case(top_k=5, next_token=1.0),
    "forward, top 30, warm": Case(top_k=30, temperature=3.0),
    "forward, as many as there are": Case(top_k=100),
    "forward, cached": Case(top_k=5, temperature=2.0, cached=True, next_token=0.5),
    "reverse": Case("reverse_kl"),
    "reverse, cold": Case("reverse_kl", temperature=0.5),
    "reverse, top 7": Case("reverse_kl", top_k=7, temperature=1.5),
    "jsd": Case("jsd"),
    "jsd, uneven, warm": Case("jsd", mixture=0.1, temperature=2.0, next_token=1.0),
    "jsd, top 3, cached": Case("jsd", top_k=3, mixture=0.8, cached=True),
}


def inputs(dtype: Any) -> tuple[Any, ...]:
    """Hidden states [L, B, D] and output matrix of a student, labels [B, L], rows and output matrix of a teacher."""
    import torch

    generator = torch.Generator().manual_seed(5)

    def draw(*shape: int) -> Any:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    hidden, weight = draw(LENGTH, ROWS, WIDTH), draw(VOCABULARY, WIDTH) / 2
    labels = torch.randint(0, VOCABULARY, (ROWS, LENGTH), generator=generator)
    labels[0, :7], labels[1, :20], labels[2, 5:9] = -100, -100, -100
    rows, teacher = draw(int((labels >= 0).sum()), TEACHER), draw(VOCABULARY, TEACHER) / 3
    return tuple(x.to(dtype) if x.is_floating_point() else x for x in (hidden, weight, labels, rows, teacher))


def asked(case: Case, labels: Any, rows: Any, teacher: Any, group: Any) -> Any:
    """What the layer is asked; a teacher's part of the vocabulary, or its predictions as a file would hold them."""
    from parallel.layers import Asked, Divergence, TeacherRows, Teaching
    from parallel.layers.divergence import log_softmaxes, top_predictions

    source: Any = TeacherRows(rows, teacher.chunk(group.size())[group.rank()])
    if case.cached:
        (logs,) = log_softmaxes([source.block(slice(None)) / case.temperature], group)
        source = top_predictions(logs, case.top_k, group)
    divergence = Divergence(case.kind, case.temperature, case.mixture, case.top_k)
    return Asked(labels, True, Teaching(divergence, source, case.weight, case.next_token), rows=True)


def found(layer: Any, case: Case, values: tuple[Any, ...]) -> dict[str, Any]:
    """(loss, its two sums, gradient in this rank's hidden states and in its part of the matrix, rows)."""
    import torch

    hidden, weight, labels, rows, teacher = values
    group = layer.tp_group
    own = hidden.chunk(group.size())[group.rank()] if layer.sequence_parallel else hidden
    own = own.clone().requires_grad_()
    with torch.no_grad():
        layer.weight.copy_(weight.chunk(group.size())[group.rank()])
    output = layer(own, labels=asked(case, labels, rows, teacher, group))[0]
    loss = output.loss + (output.rows * torch.linspace(-1, 1, output.rows.numel()).view_as(output.rows)).sum()
    g_hidden, g_weight = torch.autograd.grad(3 * loss, (own, layer.weight))
    sums = [output.loss.item(), output.nats.item(), output.divergence.item()]
    return {"sums": sums, "hidden": g_hidden.double().numpy(), "weight": g_weight.double().numpy()}


def expected(case: Case, values: tuple[Any, ...]) -> dict[str, Any]:
    """The same by F.kl_div, F.cross_entropy and autograd on whole logits."""
    import torch
    import torch.nn.functional as F

    hidden, weight, labels, rows, teacher = values
    hidden, weight = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    known = labels != -100
    wanted = hidden.transpose(0, 1)[known]
    logits = wanted @ weight.T
    logs = [F.log_softmax(x / case.temperature, -1) for x in (rows @ teacher.T, logits)]
    if case.top_k:
        best = logs[0].topk(min(case.top_k, VOCABULARY), -1).indices
        logs = [in_buckets(x, best) for x in logs]
    of_teacher, of_student = logs
    if case.kind == "jsd":
        m = case.mixture
        mean = (m * of_teacher.exp() + (1 - m) * of_student.exp()).log()
        value = m * kl(mean, of_teacher) + (1 - m) * kl(mean, of_student)
    else:
        value = kl(of_student, of_teacher) if case.kind == "forward_kl" else kl(of_teacher, of_student)
    value = value * case.temperature**2
    nats = F.cross_entropy(logits, labels[known], reduction="sum")
    loss = case.next_token * nats + case.weight * value
    more = (wanted * torch.linspace(-1, 1, wanted.numel()).view_as(wanted)).sum()
    g_hidden, g_weight = torch.autograd.grad(3 * (loss + more), (hidden, weight))
    sums = [loss.item(), nats.item(), value.item()]
    return {"sums": sums, "hidden": g_hidden.double().numpy(), "weight": g_weight.double().numpy()}


def kl(below: Any, above: Any) -> Any:
    """KL(above ‖ below), both as log-probabilities."""
    import torch.nn.functional as F

    return F.kl_div(below, above, reduction="sum", log_target=True)


def in_buckets(logs: Any, best: Any) -> Any:
    """Log-probabilities of the chosen ids, and of all others together where there are any."""
    import torch

    picked = logs.gather(1, best)
    if best.shape[1] == logs.shape[1]:
        return picked
    rest = logs.scatter(1, best, -torch.inf).logsumexp(1, keepdim=True)
    return torch.cat([picked, rest], 1)


def play(world: int) -> dict[str, Any]:
    """(case, dtype, whether positions are shared out, too) -> what this rank found."""
    import torch
    from megatron.core.transformer.transformer_config import TransformerConfig

    from parallel.layers import OutputLayer
    from parallel.topology import Topology, start, stop

    start(Topology(tensor=world), seed=0)
    results = {}
    for name, dtype, sequence in [
        (n, d, s) for n in CASES for d in ("float64", "float32") for s in (False, True)
    ]:
        if sequence and world == 1:
            continue
        config = TransformerConfig(
            num_layers=1, hidden_size=WIDTH, num_attention_heads=2, tensor_model_parallel_size=world,
            sequence_parallel=sequence, use_cpu_initialization=True,
        )  # fmt: skip
        layer = OutputLayer(WIDTH, VOCABULARY, config=config, init_method=config.init_method, bias=False)
        layer = layer.to(getattr(torch, dtype))
        results[name, dtype, sequence] = found(layer, CASES[name], inputs(getattr(torch, dtype)))
    stop()
    return results
