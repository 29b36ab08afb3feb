"""Pages to text from the settings of the command, written as it is read."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from train.generate.config import GenerateConfig, images

if TYPE_CHECKING:
    import numpy as np

    from train.load import Trained

BROKEN = "\ufffd"  # the end of a text whose last character is not complete yet


def main(config: GenerateConfig) -> None:
    """Prints the text of each page, its name before it where there are several."""
    from parallel.topology import Topology, start, stop

    start(Topology(), seed=0)
    try:
        from train.load import load_trained

        trained = load_trained(Path(config.checkpoint))
        prompt = default_prompt(trained) if config.prompt is None else config.prompt
        paths = images(config.image)
        for path in paths:
            if len(paths) > 1:
                print(f"== {path}")
            for text in stream(trained, load_page(path), prompt, config.max_new_tokens):
                print(text, end="", flush=True)
            print()
    finally:
        stop()


def load_page(path: Path) -> "np.ndarray":
    """uint8 [height, width] for a grey picture, else [height, width, 3], upright. Raises UserError for no
    picture.
    """
    import numpy as np
    from PIL import Image, ImageOps

    from data_pipeline.errors import UserError

    try:
        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture)
            if upright.has_transparency_data:
                paper = Image.new("RGBA", upright.size, "white")
                upright = Image.alpha_composite(paper, upright.convert("RGBA"))
            return np.asarray(upright.convert("L" if upright.mode in ("1", "L", "LA") else "RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"image={path}: not a picture that can be read ({error})") from None


def default_prompt(trained: "Trained") -> str:
    """What the run's own held-out pages ask. Raises UserError where they are no longer there."""
    from data_pipeline.errors import DataError, UserError
    from data_pipeline.reader import records

    try:
        for source in trained.config.data.held_out.values():
            return next(records(Path(source.path), 1)).prompt
    except DataError as error:
        raise UserError(
            f"the prompt that the model was trained with cannot be found: {error}. Give it: prompt='…'"
        ) from None
    raise UserError("the run has no held-out pages to take the prompt from: give it, prompt='…'")


def stream(trained: "Trained", page: "np.ndarray", prompt: str, max_new_tokens: int) -> Iterator[str]:
    """The text of one page in pieces, as it is decoded; a character is held back until all its bytes are
    there.
    """
    from data_pipeline.batch import prompt_batch
    from train.generate.decoding import decode

    tokenizer, spec = trained.tokenizer, trained.spec
    batch = prompt_batch([page], prompt, tokenizer, spec).to(next(trained.model.parameters()).device)
    ids: list[int] = []
    said = ""
    for token in decode(
        trained.model, batch, tokenizer, min(max_new_tokens, spec.max_length - batch.tokens.shape[1])
    ):
        ids.append(int(token))
        text = tokenizer.decode(ids)
        if not text.endswith(BROKEN):
            yield text[len(said) :]
            said = text
    yield tokenizer.decode(ids)[len(said) :]
