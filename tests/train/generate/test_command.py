"""The command, as it is called: what it prints, what it writes, how it ends; in one process and in several."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ranks import free_ports, launch

from conf.command import run as run_command
from conf.compose import compose
from conf.errors import ConfigError
from data_pipeline.errors import UserError
from parallel import topology
from tests.train.generate.paper import ENCRYPTED, blocks, pdf, picture
from tests.train.generate.reading_ranks import read, settings
from tests.train.generate.tiny_run import write_run
from train.generate.arguments import literal
from train.generate.command import main
from train.generate.config import GenerateConfig, check, decoding_of, no_repeat_of
from train.generate.prompt import written_prompt

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a run, a smaller run, a book of five pages, and pictures."""
    root = tmp_path_factory.mktemp("world")
    topology.start(topology.Topology(), seed=0)
    write_run(root / "run")
    write_run(root / "draft", seed=1)
    topology.stop()
    first, *others = (Image.fromarray(blocks(seed)) for seed in range(5))
    first.save(root / "book.pdf", save_all=True, append_images=others)
    for seed in range(3):
        picture(root / f"scans/{seed}.png", seed)
    yield root


def call(*arguments: str, world: Path) -> int:
    options = [f"checkpoint={world}/run", "prompt=read", "batch_size=2", *arguments]
    return run_command(main, "generate", GenerateConfig, literal(options), check=check)


def test_one_page_is_printed_as_it_is_decoded_and_is_what_a_batch_says(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(f"image={world}/scans/1.png", world=world) == 0
    streamed = capsys.readouterr()
    assert streamed.out.strip() and "1 page in" in streamed.err
    assert call(f"image={world}/scans", "json=true", world=world) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(line["document"]).name for line in lines] == ["0.png", "1.png", "2.png"]
    assert lines[1]["text"] + "\n" == streamed.out and lines[0]["text"] != lines[1]["text"]
    assert {line["kind"] for line in lines} <= {"ended", "cut"} and all(line["tokens"] > 0 for line in lines)
    assert call(f"image={world}/scans", world=world) == 0
    assert capsys.readouterr().out == "".join(f"== {line['document']}\n{line['text']}\n" for line in lines)


def test_a_stream_has_whole_characters_only(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from data_pipeline.tokenizer import byte_tokenizer
    from train.generate import reader as reading

    tokenizer = byte_tokenizer()
    said = [[byte] for byte in "naïve 漢".encode()] + [[0xE6], [tokenizer.eos]]
    reader = object.__new__(reading.Reader)
    reader.team = type("Alone", (), {"tell_followers": lambda self, message: None})()
    reader.trained = type("Trained", (), {"tokenizer": tokenizer})()
    monkeypatch.setattr(reader, "_decode", lambda page: iter([[ids] for ids in said]))
    *pieces, outcome = reader.stream(blocks(0))
    assert pieces == ["n", "a", "ï", "v", "e", " ", "漢", "\ufffd"]
    assert (outcome.kind, outcome.text, outcome.tokens) == ("ended", "naïve 漢\ufffd", 12)


def test_options_of_decoding_reach_the_model(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def text(*arguments: str) -> str:
        assert call(f"image={world}/scans/1.png", *arguments, world=world) == 0
        return capsys.readouterr().out

    plain, brief = text(), text("max_new_tokens=9").rstrip("\ufffd\n")
    assert plain.startswith(brief) and 0 < len(brief) < 30 < len(plain)
    assert (
        text("temperature=3", "seed=1") == text("temperature=3", "seed=1") != text("temperature=3", "seed=2")
    )
    assert text("mode=32") != plain and text("prompt=other") != plain
    assert text("speculate=lookup") == plain == text("speculate=draft", f"draft={world}/draft")
    assert plain == text("mode=64", "prompt=<image>read")


def test_what_fails_is_named_the_rest_is_read_and_the_exit_code_says_so(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pdf(tmp_path / "in/a.pdf", 2, blank=(2,))
    (tmp_path / "in/locked.pdf").write_bytes(ENCRYPTED.read_bytes())
    (tmp_path / "in/text.png").write_text("no picture")
    Image.fromarray(np.zeros((10000, 1), np.uint8)).save(tmp_path / "in/strip.png")
    assert call(f"image={tmp_path}/in", f"out={tmp_path}/out", "max_new_tokens=3", world=world) == 1
    told = capsys.readouterr().err
    for line in ("locked.pdf: is encrypted", "text.png: is neither", "strip.png: 1 x 10000 pixels are no page",
                 "a.pdf, page 2: is blank", "a.pdf, page 1: has no end within max_new_tokens=3"):  # fmt: skip
        assert f"{tmp_path}/in/{line}" in told
    assert (
        "5 pages in" in told and "1 cut at the limit, 1 blank, 3 failed" in told and "Traceback" not in told
    )
    assert [path.name for path in (tmp_path / "out").glob("*.md")] == ["a.md"]


def test_a_page_with_nothing_readable_beside_it_needs_no_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text("seed: 0")  # a run without any checkpoint: nobody looks for one
    assert call(f"image={ENCRYPTED}", world=tmp_path) == 1
    told = capsys.readouterr().err
    assert "encrypted.pdf: is encrypted" in told and "1 page in 0.0 s: 1 failed" in told


def test_a_page_that_leaves_no_room_for_a_text_is_named(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(f"image={world}/scans/0.png", "mode=512", world=world) == 1
    assert "0.png: takes 278 positions as mode=512, of 96 that the model has" in capsys.readouterr().err
    assert call(f"image={world}/scans/0.png", "mode=48", world=world) == 2
    assert "mode=48: 48 pixels are no multiple of 32" in capsys.readouterr().err


def test_killed_and_interrupted_it_goes_on_and_reads_nothing_twice(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """First SIGKILL, then Ctrl-C, to processes of their own; then it may finish."""
    count = 400  # a busy machine looks up from reading them too late now and then
    for seed in range(count):
        picture(tmp_path / f"in/{seed:03d}.png", seed)
    arguments = [f"image={tmp_path}/in", f"out={tmp_path}/out"]
    journal = tmp_path / "out/journal.jsonl"

    def pages() -> int:
        return journal.read_bytes().count(b'"kind"') if journal.exists() else 0

    def stopped(by: signal.Signals) -> tuple[int, str]:
        command = [
            sys.executable,
            "-m",
            "train.generate",
            f"checkpoint={world}/run",
            "prompt=read",
            "batch_size=1",
        ]
        process = subprocess.Popen(
            [*command, *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True,
            # where the tests run in the background of a shell, SIGINT is ignored
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        before, deadline = pages(), time.monotonic() + 60
        while pages() < before + 3 and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(by)
        told = process.communicate(timeout=60)[1]
        assert before + 3 <= pages() < count
        return process.returncode, told

    assert stopped(signal.SIGKILL)[0] == -signal.SIGKILL
    code, told = stopped(signal.SIGINT)
    assert code == 130 and "Traceback" not in told
    assert f"{pages()} of {count} pages are kept in {tmp_path}/out; the same command reads the others" in told
    kept = pages()
    assert call(*arguments, world=world) == 0
    assert f"{kept} read before" in capsys.readouterr().err
    lines = [json.loads(line) for line in journal.read_text().split("\n") if '"kind"' in line]
    assert len(lines) == count == len({line["document"] for line in lines})
    assert len(list((tmp_path / "out").glob("*.md"))) == count


def test_every_layout_reads_what_one_process_reads(world: Path) -> None:
    layouts = ["each its share", "tensor ranks", "tensor ranks that print", "tensor ranks that stream"]
    assert main(settings(world, "alone")) == 0
    alone = (world / "alone/book.md").read_text()
    first, second = launch(read, 2, str(world), layouts, free_ports(len(layouts)))
    assert all(code == 0 for rank in (first, second) for code, _ in rank.values())
    assert all(printed == "" for _, printed in second.values())
    for layout in layouts[:2]:
        assert (world / layout / "book.md").read_text() == alone, layout
    assert len((world / "each its share/journal.1.jsonl").read_text().splitlines()) == 3  # pages 3 to 5
    pages = alone.removesuffix("\n").split("\n\n<--- Page Split --->\n")
    assert len(set(pages)) == 5
    shown = first["tensor ranks that print"][1]
    assert all(f"== {world}/book.pdf, page {number}\n{page}" in shown for number, page in enumerate(pages, 1))
    assert first["tensor ranks that stream"][1].rstrip() == pages[1]


def test_mistakes_are_answered_without_loading_torch(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("seed: 0")
    page = picture(tmp_path / "page.png")
    mistakes = {
        f"image={tmp_path}/none.png": f"image={tmp_path}/none.png: no such file",
        f"image={page} pages=x": "pages=x: write numbers and ranges",
        f"image={page} top_p=0": "top_p=0",
        f"image={page} cache=int4": "cache=int4: choose",
        f"image={page} no_repeat=30/10": "no_repeat=30/10: choose none, image (30/90)",
        f"image={page} mode=huge": "mode=huge: there is no mode",
        f"image={page} speculate=draft": "speculate=draft draft=None",
        f"image={page} speculate=lookup temperature=1": "Choose temperature=0",
        f"image={page} tensor=2": "tensor=2: 1 process was started",
        f"image={page} restart=true": "restart=true: nothing is kept without out=",
        f"image={page} out={page}": "is a file; choose a folder",
        f"image={page} draft={tmp_path}/no speculate=draft": "draft=",
        f"image={page} checkpoint={tmp_path}/no": f"checkpoint={tmp_path}/no: no such folder",
    }
    code = (
        "import sys; from train.generate.__main__ import *\n"
        f"for text in {list(mistakes)!r}:\n"
        f"    code = run(main, 'generate', GenerateConfig, literal(['checkpoint={run}', *text.split()]), check=check)\n"
        "    assert code == 2, text\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    for line, message in zip(done.stderr.splitlines(), mistakes.values(), strict=True):
        assert message in line


def test_several_groups_of_processes_do_not_print_at_once(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    config = GenerateConfig(checkpoint=str(world / "run"), image=[str(world / "scans")], tensor=2)
    with pytest.raises(ConfigError, match="2 groups of processes .* give out=FOLDER"):
        check(config)
    config.tensor = 4
    check(config)


def options(*arguments: str) -> GenerateConfig:
    return compose("generate", GenerateConfig, literal(["checkpoint=x", "image=y", *arguments]))


def test_names_pages_and_prompts_are_taken_as_they_are_typed() -> None:
    assert options("image=my scan (1).png").image == ["my scan (1).png"]
    assert options("image=[a.png,b/c.pdf]").image == ["a.png", "b/c.pdf"]
    assert options("image=it's=a.png").image == ["it's=a.png"]
    assert options("image='quoted.png'").image == ["quoted.png"]
    assert options("image=[ab]*.png").image == ["[ab]*.png"]
    assert options("pages=1-3,7").pages == "1-3,7" and options("pages=3").pages == "3"
    assert options("pages=null", "prompt=null").pages is None
    assert options("prompt=<image>\\n<|grounding|>Convert the document, to markdown.").prompt == (
        "<image>\\n<|grounding|>Convert the document, to markdown."
    )
    assert literal(["-m", "prompt=a,b"]) == ["-m", "prompt=a,b"]  # a sweep
    assert options("mode=1024+640").mode == "1024+640" and options("mode=64").mode == "64"


def test_a_prompt_of_the_release_is_understood() -> None:
    assert written_prompt("<image>\\nFree OCR.") == "\nFree OCR."
    with pytest.raises(UserError, match="at its beginning only"):
        written_prompt("Read <image>")


def test_the_rule_against_repetition_has_the_releases_presets() -> None:
    assert [no_repeat_of(name) for name in ("image", "pdf", "eval")] == [(30, 90), (20, 50), (40, 90)]
    assert (no_repeat_of("none"), no_repeat_of("7/21"), no_repeat_of("20")) == (None, (7, 21), (20, 0))
    config = options("no_repeat=20")
    rule = decoding_of(config, 4096, frozenset({3})).no_repeat
    assert rule is not None and (rule.size, rule.window, rule.allowed) == (20, 4096, frozenset({3}))
    assert config.no_repeat_allowed == ["<td>", "</td>"]
