"""What a model is asked."""

from pathlib import Path
from typing import TYPE_CHECKING

from data_pipeline.errors import DataError, UserError
from data_pipeline.tokenizer import IMAGE

if TYPE_CHECKING:
    from train.load import Trained

RELEASED = "\nFree OCR."  # what a released model was trained with; it comes without pages of its own


def default_prompt(trained: "Trained") -> str:
    """What the run's own held-out pages ask; RELEASED for a run without such. Raises UserError where they are no longer
    there.
    """
    from data_pipeline.reader import records

    try:
        for source in trained.config.data.held_out.values():
            return next(records(Path(source.path), 1)).prompt
    except DataError as error:
        raise UserError(
            f"the prompt that the model was trained with cannot be found: {error}. Give it: prompt='…'"
        ) from None
    return RELEASED


def written_prompt(text: str) -> str:
    r"""A prompt as it is typed: `\n` is a new line, and the release's `<image>` at its start is where the page is anyway.

    Raises UserError for an `<image>` elsewhere: a page always comes first.
    """
    prompt = text.replace("\\n", "\n").removeprefix(IMAGE)
    if IMAGE in prompt:
        raise UserError(
            f"prompt={text}: the page stands before the prompt; {IMAGE} may be at its beginning only"
        )
    return prompt
