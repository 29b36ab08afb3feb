"""Teachers that are not there, or not for this student: another vocabulary, no room for its pages, told of other data."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from data_pipeline.data_config import SHORTEST_TEXT
from data_pipeline.errors import DataError, UserError
from data_pipeline.remote import located
from train.config import Config
from train.find_run import locate, read_config
from train.validate.layout import shared_out_faults


def distill_file_faults(config: Config) -> Iterator[str]:
    """A sentence for a teacher, or for predictions, that are not there or do not fit."""
    try:
        if config.distill.teacher is not None:
            yield from _teacher(config, config.distill.teacher)
        if config.distill.cache is not None:
            yield from _told(config, Path(config.distill.cache))
    except UserError as error:
        yield f"{error}."


def _teacher(config: Config, given: str) -> Iterator[str]:
    found = locate(Path(given), "distill.teacher")
    teacher = read_config(found.folder / "config.yaml")
    yield from _vocabulary(config, teacher, given)
    yield from _room(config, teacher)
    yield from _layout(config, teacher, given)
    if config.distill.features > 0:
        yield from _grids(config, teacher)


def _vocabulary(config: Config, teacher: Config, given: str) -> Iterator[str]:
    """The same ids mean the same, and there are equally many."""
    own, other = config.data.tokenizer, teacher.data.tokenizer
    if not same_tokenizer(own, other):
        yield (
            f"distill.teacher={given}: its tokenizer is {other}, the student's is data.tokenizer={own}, and their tokens do not "
            f"correspond. Choose data.tokenizer={other}, another teacher, or the teacher's texts as data (python -m train.relabel)."
        )
        return
    sizes = config.model.decoder.vocab_size, teacher.model.decoder.vocab_size
    if sizes[0] != sizes[1]:
        yield (
            f"distill.teacher={given}: its output has {sizes[1]} tokens, the student's model.decoder.vocab_size={sizes[0]}. "
            f"Choose model.decoder.vocab_size={sizes[1]}, or another teacher."
        )


def same_tokenizer(one: str, other: str) -> bool:
    """Whether two settings of data.tokenizer give the same ids."""
    if one == other:
        return True
    from data_pipeline.tokenizer import load_tokenizer

    return load_tokenizer(one).digest == load_tokenizer(other).digest


def _room(config: Config, teacher: Config) -> Iterator[str]:
    """Pages in the teacher's modes leave room for text in its rows."""
    from data_pipeline.resolution import mode_of, most_positions

    modes, most = config.distill.teacher_modes or config.data.modes, teacher.model.decoder.max_length
    option = f"distill.teacher_modes={modes}"
    try:
        page = most_positions([mode_of(mode) for mode in modes], teacher.model.encoder.patch)
    except DataError as error:
        yield f"{option}: {error}."
        return
    if (
        page + 2 + SHORTEST_TEXT > most
    ):  # a sample that is too long for the teacher alone is told when it is read
        yield (
            f"{option}: a page takes up to {page} positions before any text, and the teacher has {most}. Choose modes of fewer tokens."
        )


def _layout(config: Config, teacher: Config, given: str) -> Iterator[str]:
    """The teacher is split as its student is."""
    split = replace(config, model=teacher.model)
    for fault in shared_out_faults(split):
        yield f"distill.teacher={given} is split as its student is; of it {fault}"


def _grids(config: Config, teacher: Config) -> Iterator[str]:
    """The student's vision tokens cover whole regions of the teacher's, of a page that both see in the same way."""
    from data_pipeline.resolution import mode_of, token_side

    own = [mode_of(mode) for mode in config.data.modes]
    others = [mode_of(mode) for mode in config.distill.teacher_modes or config.data.modes]
    fits = {mode.fit for mode in (*own, *others)}
    if len(fits) > 1:
        yield (
            f"distill.features={config.distill.features}: data.modes={config.data.modes} and distill.teacher_modes="
            f"{config.distill.teacher_modes} show a page in other shapes, resized and padded, so that their vision tokens cover "
            "other places. Choose modes of one sort (up to 640 pixels: resized), or distill.features=0."
        )
    most = max(token_side(mode.size, config.model.encoder.patch) for mode in own)
    least = min(token_side(mode.size, teacher.model.encoder.patch) for mode in others)
    if least < most:
        yield (
            f"distill.features={config.distill.features}: the teacher sees a page in {least} x {least} vision tokens, the student "
            f"in {most} x {most}. Choose distill.teacher_modes of more pixels, or distill.features=0."
        )


def _told(config: Config, folder: Path) -> Iterator[str]:
    """What a teacher told, of these tokens, at this temperature, of this data."""
    from data_pipeline.prediction_sets import require, sets_in
    from data_pipeline.tokenizer import load_tokenizer

    distill, option = config.distill, f"distill.cache={folder}"
    facts = next(iter(sets_in(folder).values()))
    if facts.tokenizer != load_tokenizer(config.data.tokenizer).digest:
        yield (
            f"{option}: {facts.teacher} told it in the tokens of another tokenizer than data.tokenizer={config.data.tokenizer}. "
            "Choose that teacher's data.tokenizer=, or write the predictions of another teacher."
        )
    elif facts.vocabulary != config.model.decoder.vocab_size:
        yield (
            f"{option}: {facts.teacher} has {facts.vocabulary} tokens, the student model.decoder.vocab_size="
            f"{config.model.decoder.vocab_size}. Choose model.decoder.vocab_size={facts.vocabulary}."
        )
    if facts.temperature != distill.temperature:
        yield (
            f"{option}: it was told at temperature {facts.temperature}, and of the tail only the sum is known. Choose "
            f"distill.temperature={facts.temperature}, or write it again with temperature={distill.temperature}."
        )
    if distill.top_k > facts.top_k:
        yield f"distill.top_k={distill.top_k}: {option} holds {facts.top_k} predictions a position. Choose distill.top_k={facts.top_k}."
    here = {
        name: place
        for name, source in config.data.train.items()
        if isinstance(place := located(source.path), Path)
    }
    require(folder, here)  # what is elsewhere is asked when it is read
