"""Which stage holds what."""

import pytest

from conf.errors import ConfigError
from train.config import ParallelConfig
from train.model.placement import Part, embedding_stage, of_rank, parts


def layers_of(layers: int, **sizes) -> list[int]:
    return [part.layers for part in parts(ParallelConfig(**sizes), layers)]


def test_one_process_holds_everything() -> None:
    assert parts(ParallelConfig(), 3) == [Part(True, True, 0, 3, True)]


@pytest.mark.parametrize(
    ("sizes", "layers", "expected"),
    [
        ({"pipeline": 2}, 3, [1, 2]),
        ({"pipeline": 4}, 12, [3, 3, 3, 3]),
        ({"pipeline": 4}, 6, [1, 1, 2, 2]),
        ({"pipeline": 2}, 1, [0, 1]),
        ({"pipeline": 3, "encoder_stages": 1}, 3, [0, 1, 2]),
        ({"pipeline": 4, "encoder_stages": 2}, 12, [0, 0, 6, 6]),
        ({"pipeline": 2, "virtual": 2}, 12, [3, 3, 3, 3]),
        ({"pipeline": 2, "decoder_layers": [2, 1]}, 3, [2, 1]),
        ({"pipeline": 4, "encoder_stages": 2, "decoder_layers": [3, 0]}, 3, [0, 0, 3, 0]),
    ],
)
def test_layers_are_as_even_as_can_be_or_as_asked(sizes: dict, layers: int, expected: list[int]) -> None:
    assert layers_of(layers, **sizes) == expected


def test_as_in_the_paper_the_encoder_has_two_stages() -> None:
    sizes = ParallelConfig(pipeline=4, encoder_stages=2)
    assert parts(sizes, 12) == [
        Part(window=True, embedding=False, first_layer=0, layers=0, head=False),
        Part(window=False, embedding=True, first_layer=0, layers=0, head=False),
        Part(window=False, embedding=False, first_layer=0, layers=6, head=False),
        Part(window=False, embedding=False, first_layer=6, layers=6, head=True),
    ]
    assert embedding_stage(sizes) == 1
    assert embedding_stage(ParallelConfig(pipeline=4, encoder_stages=1)) == 0


def test_a_rank_of_an_interleaved_pipeline_holds_every_so_many_pieces() -> None:
    sizes = ParallelConfig(pipeline=2, virtual=3)
    assert [part.first_layer for part in of_rank(sizes, 6, 1)] == [1, 3, 5]
    assert [part.head for part in of_rank(sizes, 6, 1)] == [False, False, True]
    assert [part.embedding for part in of_rank(sizes, 6, 0)] == [True, False, False]


@pytest.mark.parametrize(
    ("sizes", "layers", "message"),
    [
        ({"pipeline": 2, "decoder_layers": [1, 1]}, 3, r"give 2 numbers.*parallel.decoder_layers=\[1, 2\]"),
        ({"pipeline": 2, "decoder_layers": [3]}, 3, r"give 2 numbers"),
        ({"pipeline": 2, "decoder_layers": [4, -1]}, 3, r"give 2 numbers"),
        (
            {"pipeline": 2, "encoder_stages": 2},
            3,
            r"parallel.pipeline=3 or more, or parallel.encoder_stages=1",
        ),
        ({"encoder_stages": 1}, 3, r"parallel.pipeline=2 or more, or parallel.encoder_stages=0"),
        ({"pipeline": 4, "encoder_stages": 3}, 3, r"choose 0, 1 or 2"),
        ({"pipeline": 2, "virtual": 2, "encoder_stages": 1}, 3, r"parallel.encoder_stages=0"),
        ({"virtual": 2}, 4, r"parallel.pipeline=2 or more"),
        ({"pipeline": 0}, 4, r"parallel.pipeline=1 or more"),
        ({"pipeline": 4}, 2, r"piece 1 of 4 would hold nothing"),
    ],
)
def test_what_cannot_be_placed_says_what_to_choose(sizes: dict, layers: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parts(ParallelConfig(**sizes), layers)
