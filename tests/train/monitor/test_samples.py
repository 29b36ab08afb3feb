"""Pages that are read while training: really by the model as it trains, in every layout that can, changing nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from data_pipeline.batch import Collator
from data_pipeline.reader import records
from data_pipeline.remote import DEFAULTS
from parallel import topology
from parallel.layers import Site, fold
from tests.parallel.ranks import free_ports, launch
from tests.train.evaluate.reading_run import SPEC, TOKENIZER, tiny_model
from tests.train.monitor import sample_ranks
from tests.train.monitor.sample_ranks import LAYOUTS, read_here
from tests.train.shard_set import make_records, write_shard_set
from train.generate.decoding import read
from train.model.optical import OpticalModel
from train.monitor.reading import SampleReader, chosen, reader_of
from train.monitor.samples import folder_of, forget_after, read_pages
from train.transform.low_rank import Factors, LowRank
from train.transform.nf4 import pack, rounded
from train.transform.sites import sites


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples") / "held_out"
    for seed, source in enumerate(("a", "b")):
        write_shard_set(folder / source, make_records(3, seed, prompt=source))
    return folder


@pytest.fixture(scope="module")
def one_process() -> Iterator[None]:
    topology.start(topology.Topology(), seed=0)
    yield
    topology.stop()


def tuned(site: Site, name: str) -> None:
    """Factors that do something."""
    factors = LowRank(site, Factors(2, 2.0, True), name, seed=0)
    with torch.no_grad():
        for parameter in factors.parameters():
            parameter.copy_(parameter if parameter.all() else torch.full_like(parameter, 0.05))
    site.attach("low_rank", factors)


def with_factors() -> OpticalModel:
    model = tiny_model()
    for name, site in sites(model).items():
        if site.kind == "linear":
            rounded(site)
            tuned(site, name)
    return model


def reader(model: torch.nn.Module, held_out: Path, folder: Path) -> SampleReader:
    sources = {source: held_out / source for source in ("a", "b")}
    return reader_of(model, TOKENIZER, SPEC, sources, 3, folder, pytest.fail, stage=1)


@pytest.mark.usefixtures("one_process")
def test_what_is_read_is_what_the_model_makes_of_its_chains_and_nothing_of_it_stays(held_out: Path, tmp_path: Path) -> None:
    model, folded, packed = with_factors(), with_factors(), with_factors()
    fold(folded)
    for site in sites(packed).values():
        if site.kind == "linear":
            pack(site)
    batch = Collator(TOKENIZER, SPEC)(make_records(2), ["a", "a"])
    before, parameters = model(batch).logits, dict(model.named_parameters())
    means = reader(model, held_out, tmp_path)(5)
    after = dict(model.named_parameters())
    assert list(parameters) == list(after) and all(after[name] is parameter for name, parameter in parameters.items())
    assert model.training and model(batch).logits.equal(before)
    shown = read_pages(folder_of(tmp_path, 5))
    assert [(page.source, page.key) for page in shown] == [("a", "page-0-000"), ("a", "page-0-001"), ("b", "page-1-000")]
    for page in shown:
        [record] = [record for record in records(held_out / page.source) if record.key == page.key]
        [alone] = read(folded, TOKENIZER, [record.pages[0]], page.source, SPEC, reader(model, held_out, tmp_path).decoding)
        assert (page.read, page.reference) == (alone.text, record.target)
    assert len({page.read for page in shown}) > 1, "the model does not look, and this test shows nothing"
    assert means["precision/a"] == pytest.approx((shown[0].precision + shown[1].precision) / 2)
    assert means["edit_distance/b"] == pytest.approx(1 - means["precision/b"])
    reader(packed, held_out, tmp_path / "packed")(5)
    assert [page.read for page in read_pages(folder_of(tmp_path / "packed", 5))] == [page.read for page in shown]
    html = (folder_of(tmp_path, 5) / "index.html").read_text()
    assert html.count("data:image/png") == 3 and "what the page says" in html


@pytest.mark.usefixtures("one_process")
def test_a_long_text_is_read_and_compared_as_far_as_it_goes(held_out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.monitor.reading.LONGEST", 3)
    [sample] = chosen(TOKENIZER, SPEC, {"a": held_out / "a"}, 1, DEFAULTS)
    assert sample.reference == sample.record.target[:3]


@pytest.mark.usefixtures("one_process")
def test_weights_that_are_split_everywhere_are_told_of(held_out: Path, tmp_path: Path) -> None:
    said: list[str] = []
    nothing = reader_of(tiny_model(), TOKENIZER, SPEC, {"a": held_out / "a"}, 3, tmp_path, said.append, stage=3)
    assert nothing(1) == {} and len(said) == 1 and "engine.zero=2" in said[0] and not list(tmp_path.iterdir())


@pytest.mark.usefixtures("one_process")
def test_samples_of_work_that_is_lost_go(held_out: Path, tmp_path: Path) -> None:
    look = reader(tiny_model(), held_out, tmp_path)
    for step in (3, 6):
        look(step)
    forget_after(tmp_path, 4)
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["step-00000003"]


@pytest.mark.usefixtures("one_process")
def test_every_layout_reads_the_same_or_says_why_it_cannot(held_out: Path, tmp_path: Path) -> None:
    first, second = launch(sample_ranks.play, 2, held_out, tmp_path, free_ports(len(LAYOUTS)))
    means, texts, _ = read_here(held_out, tmp_path / "alone", {})
    assert len(texts) == 3 and len(set(texts)) > 1
    for layout in ("data 2", "tensor 2", "expert 2 over tensor"):
        assert first[layout] == (pytest.approx(means), texts, []), layout
        assert second[layout][0] == first[layout][0], layout
    for layout, option in (("pipeline 2", "parallel.pipeline=2"), ("expert 2 over data", "parallel.expert=2")):
        nothing, _, [said] = first[layout]
        assert nothing == {} and "no pages are read while training" in said and option in said
