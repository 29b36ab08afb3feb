"""The curve, its floors and image_gain are what their definitions say, whoever computes them: one process or
several.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from ranks import launch

from conf.errors import ConfigError
from data_pipeline.batch import Collator
from data_pipeline.errors import UserError
from data_pipeline.record import Record
from data_pipeline.tokenizer import byte_tokenizer
from parallel import checkpoint, topology
from parallel.snapshot import cut, describe
from tests.train.generate.test_generate import SPEC, TINY, tiny_model
from tests.train.shard_set import make_records, write_shard_set
from train.config import Config, SourceConfig
from train.evaluate import suite
from train.evaluate.command import evaluate_run, output_folder, sources
from train.evaluate.config import EvaluateConfig
from train.evaluate.metrics import precision, word_precision
from train.evaluate.suite import Evaluation, evaluate
from train.generate.decoding import Reading
from train.load import load_trained, read_config, run_folder_of
from train.model.optical import OpticalModel
from train.probe import Probe, blank_views, collate, probe
from train.report import write_report

TOKENIZER = byte_tokenizer()


@pytest.fixture(scope="module")
def model() -> Iterator[OpticalModel]:
    topology.start(topology.Topology(), seed=0)
    yield tiny_model()
    topology.stop()


def row_loss(model: OpticalModel, record: Record, page: np.ndarray) -> tuple[float, int, int]:
    """(nats, correct, tokens) of one record's text with `page` before it, computed for this row alone."""
    alone = Record(
        record.key, "text", record.prompt, record.target, "en", "Latn", "t", "CC0", 0, pages=(page,)
    )
    batch = Collator(TOKENIZER, SPEC)([alone], ["x"])
    with torch.no_grad():
        logits = model.eval()(batch).logits[0]
    nats, correct, tokens = 0.0, 0, 0
    for position, label in enumerate(batch.labels[0].tolist()):
        if label >= 0:
            nats -= float(F.log_softmax(logits[position].float(), dim=-1)[label])
            correct += int(logits[position].argmax() == label)
            tokens += 1
    return nats, correct, tokens


def test_probe_measures_what_its_definitions_say(model: OpticalModel) -> None:
    items = make_records(5)
    found = probe(model, {"s": collate(items, "s", Collator(TOKENIZER, SPEC), 8)}, with_blank=True)["s"]
    right = [row_loss(model, item, item.pages[0]) for item in items]
    wrong = [row_loss(model, item, items[index - 1].pages[0]) for index, item in enumerate(items)]
    blank = [row_loss(model, item, np.full((64, 64), 255, dtype=np.uint8)) for item in items]
    tokens = sum(row[2] for row in right)
    assert found["accuracy"] == pytest.approx(sum(row[1] for row in right) / tokens)
    assert found["cross_entropy"] == pytest.approx(sum(row[0] for row in right) / tokens, rel=1e-4)
    assert found["cross_entropy_shuffled"] == pytest.approx(sum(row[0] for row in wrong) / tokens, rel=1e-4)
    assert found["cross_entropy_blank"] == pytest.approx(sum(row[0] for row in blank) / tokens, rel=1e-4)
    assert found["image_gain"] == pytest.approx(
        found["cross_entropy_shuffled"] - found["cross_entropy"], abs=1e-6
    )
    assert abs(found["image_gain"]) > 1e-3  # the pages matter to this model, or this test shows nothing


def test_image_gain_of_a_model_that_cannot_see_is_exactly_zero(
    model: OpticalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    see = model.encode
    monkeypatch.setattr(model, "encode", lambda views: see(torch.zeros_like(views)))
    found = probe(model, {"s": collate(make_records(6), "s", Collator(TOKENIZER, SPEC), 3)})["s"]
    assert found["image_gain"] == 0.0


def test_a_single_page_has_no_image_gain(model: OpticalModel) -> None:
    found = probe(model, {"s": collate(make_records(1), "s", Collator(TOKENIZER, SPEC), 8)})["s"]
    assert np.isnan(found["image_gain"]) and np.isfinite(found["cross_entropy"])


def test_batches_have_equally_many_rows_and_none_is_left_with_one_page(model: OpticalModel) -> None:
    for count in range(2, 40):
        batches = collate(make_records(count), "s", Collator(TOKENIZER, SPEC), 4)
        pages = [int((batch.view_of >= 0).sum()) for batch in batches]
        assert sum(pages) == count and min(pages) >= 2
        assert {len(batch.keys) for batch in batches} == {max(pages)} and max(pages) <= 4


def test_blank_views_keep_the_colour_of_the_paper() -> None:
    views = torch.full((2, 3, 8, 8), 250, dtype=torch.uint8)
    views[0, :, :3] = 0
    views[1] = 127
    assert blank_views(views)[0].unique().tolist() == [250] and blank_views(views)[1].unique().tolist() == [
        127
    ]


class Oracle:
    """Reads pages by looking them up, with one wrong letter in every second text; says "abc" of any other
    page.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        texts = [item.target if index % 2 else "#" + item.target[1:] for index, item in enumerate(records)]
        self.texts = {item.pages[0].tobytes(): text for item, text in zip(records, texts, strict=True)}
        self.limits: list[int] = []

    def __call__(
        self, model: Any, tokenizer: Any, pages: Any, prompt: str, spec: Any, limit: int, *_: Any
    ) -> list[Reading]:
        self.limits.append(limit)
        return [Reading(self.texts.get(page.tobytes(), "abc"), True, 4) for page in pages]


@pytest.fixture
def evaluated(
    model: OpticalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Evaluation, list[Record], list[Record], Oracle]:
    prose, lots = make_records(9), make_records(4, seed=1)
    oracle = Oracle([*prose, *lots])
    monkeypatch.setattr(suite, "read", oracle)
    held_out = {"ratio-2": write_shard_set(tmp_path / "ratio-2", prose)}
    floor = {"ratio-2": write_shard_set(tmp_path / "random-2", lots)}
    return evaluate(model, TOKENIZER, held_out, floor, SPEC, 8, 4), prose[:8], lots, oracle


def test_precision_and_its_floors_follow_their_definitions(evaluated: Any) -> None:
    result, prose, lots, oracle = evaluated
    [row] = result.curve
    texts = [item.target for item in prose]
    read = [oracle.texts[item.pages[0].tobytes()] for item in prose]
    means = {
        "precision": [precision(*pair) for pair in zip(texts, read, strict=True)],
        "word_precision": [word_precision(*pair) for pair in zip(texts, read, strict=True)],
        "precision_shuffled": [precision(texts[i], read[(i + 1) % len(read)]) for i in range(len(read))],
        "precision_blank": [precision(text, "abc") for text in texts],
        "precision_random_text": [
            precision(item.target, oracle.texts[item.pages[0].tobytes()]) for item in lots
        ],
    }
    for key, values in means.items():
        assert row[key] == pytest.approx(np.mean(values)), key
    assert row["precision_interval"][0] < row["precision"] < row["precision_interval"][1]
    assert row["precision_shuffled"] < 0.5 < row["precision"]


def test_the_row_says_how_much_text_stood_on_how_many_vision_tokens(evaluated: Any) -> None:
    result, prose, _, oracle = evaluated
    [row] = result.curve
    assert (row["source"], row["pages"], row["random_text_pages"], row["vision_tokens"]) == (
        "ratio-2",
        8,
        4,
        4,
    )
    lengths = [len(item.target) for item in prose]
    assert row["text_tokens"] == row["text_bytes"] == np.mean(lengths)
    assert row["compression"] == row["bytes_per_vision_token"] == np.mean(lengths) / 4
    assert set(oracle.limits) == {
        int(np.ceil(1.25 * max(lengths))) + 8
    }  # one bound a source: no hint of a page's own length
    assert {
        "accuracy",
        "cross_entropy",
        "cross_entropy_shuffled",
        "cross_entropy_blank",
        "image_gain",
    } <= row.keys()


def test_samples_are_best_median_and_worst_by_precision(evaluated: Any) -> None:
    result, prose, lots, oracle = evaluated
    assert [(sample.choice, sample.source, sample.random) for sample in result.samples] == [
        ("best", "ratio-2", False),
        ("median", "ratio-2", False),
        ("worst", "ratio-2", False),
        ("median", "random-2", True),
    ]
    best, median, worst, _ = result.samples
    scores = sorted(precision(item.target, oracle.texts[item.pages[0].tobytes()]) for item in prose)
    assert (best.precision, worst.precision) == (
        scores[-1],
        scores[0],
    ) and worst.precision <= median.precision <= best.precision
    for sample in result.samples:
        assert sample.precision == precision(sample.reference, sample.hypothesis)
        assert any(
            item.key == sample.key and np.array_equal(item.pages[0], sample.page) for item in [*prose, *lots]
        )


def test_layouts_other_than_data_parallel_are_refused(
    model: OpticalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("megatron.core.parallel_state.get_tensor_model_parallel_world_size", lambda: 2)
    with pytest.raises(UserError, match="parallel.tensor=1"):
        evaluate(model, TOKENIZER, {}, {}, SPEC, 8, 4)


def write_run(folder: Path, model: OpticalModel, data: Path) -> Path:
    """A run folder with a checkpoint of `model`, as a stage leaves it."""
    config = Config()
    config.model = TINY
    config.data.root, config.data.image_size, config.data.max_length = (
        str(data),
        SPEC.image_size,
        SPEC.max_length,
    )
    config.data.held_out = {"ratio-2": SourceConfig(path=str(data / "held_out" / "ratio-2"))}
    config.data.floor = {"ratio-2": SourceConfig(path=str(data / "held_out" / "random-2"))}
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.structured(config)))
    pieces = [piece for entry in describe(model) for piece in cut(entry, entry.data, "model.")]
    checkpoint.save(folder / "checkpoints", 7, pieces, {"step": 7, "extra": {}}, keep=1)
    return folder


def test_a_checkpoint_is_evaluated_written_and_shown(
    model: OpticalModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_shard_set(tmp_path / "pages" / "held_out" / "ratio-2", make_records(4))
    write_shard_set(tmp_path / "pages" / "held_out" / "random-2", make_records(4, seed=1))
    run = write_run(tmp_path / "mine", model, tmp_path / "pages")
    trained = load_trained(run / "checkpoints")
    assert trained.step == 7 and trained.run_folder.samefile(run) and not trained.model.training
    assert all(
        torch.equal(*pair) for pair in zip(model.parameters(), trained.model.parameters(), strict=True)
    )
    path = evaluate_run(EvaluateConfig(checkpoint=str(run), pages=4, batch_size=2))
    assert path == run / "evaluation.json" and "ratio-2: precision" in capsys.readouterr().out
    written = json.loads(path.read_text())
    assert written["step"] == 7 and written["curve"][0]["pages"] == 4
    assert written["parameters"]["total"] == sum(weight.numel() for weight in model.parameters())
    assert all((run / sample["page"]).is_file() for sample in written["samples"])
    page = write_report(run).read_text()
    assert page.count("data:image/png") == 4 and str(tmp_path) not in page


def test_run_folders_are_found_and_mistakes_named(tmp_path: Path) -> None:
    step = tmp_path / "smoke" / "pretrain" / "checkpoints" / "step-00000007"
    step.mkdir(parents=True)
    with pytest.raises(UserError, match="no run here"):
        run_folder_of(tmp_path / "smoke")
    (step.parents[1] / "config.yaml").write_text("seed: [")
    assert run_folder_of(step).samefile(step.parents[1]) and run_folder_of(step.parent).samefile(
        step.parents[1]
    )
    with pytest.raises(UserError, match="choose checkpoint=.*pretrain"):
        run_folder_of(tmp_path / "smoke")
    with pytest.raises(UserError, match="no such folder"):
        run_folder_of(tmp_path / "nothing")
    with pytest.raises(UserError, match="config.yaml: not the configuration"):
        read_config(step.parents[1] / "config.yaml")


def test_other_data_keeps_the_layout_of_the_runs_own(tmp_path: Path) -> None:
    config = Config()
    config.data.root = "runs/pages"
    config.data.held_out = {"ratio-4": SourceConfig(path="runs/pages/held_out/ratio-4")}
    trained: Any = type("Trained", (), {"config": config})
    assert sources(trained, "held_out", None) == {"ratio-4": Path("runs/pages/held_out/ratio-4")}
    assert sources(trained, "held_out", "other") == {"ratio-4": Path("other/held_out/ratio-4")}
    config.data.held_out["ratio-4"].path = "elsewhere/ratio-4"
    with pytest.raises(ConfigError, match="not below its data.root"):
        sources(trained, "held_out", "other")


def test_results_belong_to_the_recipe_where_there_is_one(tmp_path: Path) -> None:
    run = tmp_path / "smoke" / "pretrain"
    run.mkdir(parents=True)
    assert output_folder(run, None) == run
    (tmp_path / "smoke" / "recipe.json").write_text("{}")
    assert output_folder(run, None) == tmp_path / "smoke" and output_folder(run, "x") == Path("x")


def measure(model: OpticalModel, folder: Path) -> dict[str, Any]:
    """The curve, a probe's figures and the samples' texts, in the process groups that are there."""
    held_out = {"ratio-2": folder / "ratio-2"}
    result = evaluate(model, TOKENIZER, held_out, {"ratio-2": folder / "random-2"}, SPEC, 8, 4)
    quick = Probe(model, held_out, Collator(TOKENIZER, SPEC), pages=8, batch_size=8)()
    return {"curve": result.curve, "probe": quick, "texts": [sample.hypothesis for sample in result.samples]}


def on_a_rank(folder: str) -> dict[str, Any]:
    """What one of several ranks measures."""
    torch.set_num_threads(1)
    topology.start(topology.Topology.of_world(topology.environment()[1]), seed=0)
    try:
        return measure(tiny_model(), Path(folder))
    finally:
        topology.stop()


def test_two_ranks_find_what_one_process_finds(model: OpticalModel, tmp_path: Path) -> None:
    write_shard_set(tmp_path / "ratio-2", make_records(8))
    write_shard_set(tmp_path / "random-2", make_records(5, seed=1))  # shares of unequal size
    alone = measure(model, tmp_path)
    first, second = launch(on_a_rank, 2, str(tmp_path))
    assert first == second and first["texts"] == alone["texts"]
    [row], [expected] = first["curve"], alone["curve"]
    for key, value in expected.items():
        # Ranks shuffle within their own share: which page is the wrong one differs, and with it that loss.
        if (not key.endswith("_shuffled") and key != "image_gain") or key == "precision_shuffled":
            assert row[key] == pytest.approx(value) if not isinstance(value, str) else row[key] == value, key
    for key in ("accuracy", "cross_entropy"):
        assert first["probe"]["ratio-2"][key] == pytest.approx(alone["probe"]["ratio-2"][key])
