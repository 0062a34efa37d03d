"""A smaller vocabulary: the same tokens and hidden states as before, from a smaller tokenizer."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import BertProcessing, ByteLevel, Sequence, TemplateProcessing
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertTokenizer,
    CanineTokenizer,
    DebertaV2Tokenizer,
    PreTrainedTokenizerFast,
    RobertaTokenizer,
    XLMRobertaTokenizer,
)

from effjax.data.wordpiece import train_wordpiece
from effjax.hf import from_pretrained, save_pretrained
from effjax.models import Model, create
from effjax.models.base import json_fields
from effjax.models.model import apply
from effjax.prune import vocabulary

TRAINED_ON = [
    "the film is good and the actors are better than the film deserves",
    "a bad film , but a good end ; the ending of the actors was bad",
    "nobody filmed the better endings of a better and unfilmable novel",
    "understanding understandable standing of the good old days 12345 67890 xyz jkq",
]
TEXTS = [
    "the film is not good",
    "a bad end , the actors are better \u2603 than it",
    "unfilmable  standing of the days ; understand it, <mask>",
    "",
]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]  # RoBERTa's order: padding is id 1


def byte_level(special: list[str]) -> Tokenizer:
    """A byte-level BPE."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TRAINED_ON, trainer)
    return tokenizer


def bert() -> Any:
    return train_wordpiece(TRAINED_ON, 120)


def roberta() -> Any:
    model = model_of(byte_level(SPECIAL))
    merges: Any = [tuple(pair) for pair in model["merges"]]
    return RobertaTokenizer(vocab=model["vocab"], merges=merges, model_max_length=32)


def modernbert() -> Any:
    """Special tokens follow the vocabulary, and are not of it; one is no special token."""
    tokenizer = byte_level([])
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_tokens([AddedToken("  ", normalized=True)])
    tokenizer.add_special_tokens(["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"])
    special = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    template = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=special
    )
    tokenizer.post_processor = Sequence([ByteLevel(trim_offsets=True), template])
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "cls", "sep", "pad", "mask")}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=32, **names)


def sentence_pieces(special: list[str], unknown: str) -> list[tuple[str, float]]:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=100, special_tokens=special, unk_token=unknown, show_progress=False
    )
    tokenizer.train_from_iterator(TRAINED_ON, trainer)
    return [(piece, score) for piece, score in model_of(tokenizer)["vocab"]]


def xlm_roberta() -> Any:
    return XLMRobertaTokenizer(vocab=sentence_pieces(SPECIAL, "<unk>"), padding_side="left")


def deberta() -> Any:
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    return DebertaV2Tokenizer(vocab=sentence_pieces(special, "[UNK]"), do_lower_case=True)


def words_with_ends() -> Any:
    """BPE with marks of what is inside a word and of where it ends, and BERT's post-processor."""
    marks: dict[str, Any] = {"continuing_subword_prefix": "##", "end_of_word_suffix": "</w>"}
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]", **marks))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.BpeTrainer(
        vocab_size=170, special_tokens=special, show_progress=False, **marks
    )
    tokenizer.train_from_iterator(TRAINED_ON, trainer)
    tokenizer.post_processor = BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "cls", "sep", "pad")}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def model_of(tokenizer: Tokenizer) -> dict[str, Any]:
    return state_of(tokenizer)["model"]


def state_of(tokenizer: Tokenizer) -> dict[str, Any]:
    return json.loads(tokenizer.to_str())


@dataclass(frozen=True)
class Kind:
    """A tokenizer and the architecture that reads its tokens."""

    tokenizer: Callable[[], Any]
    architecture: str


KINDS = {
    "WordPiece": Kind(bert, "bert"),
    "byte-level BPE": Kind(roberta, "roberta"),
    "BPE with added tokens": Kind(modernbert, "modernbert"),
    "BPE with marks": Kind(words_with_ends, "bert"),
    "Unigram": Kind(xlm_roberta, "xlm-roberta"),
    "Unigram of DeBERTa": Kind(deberta, "deberta-v2"),
}


@pytest.fixture(scope="module", params=KINDS)
def whole(request: pytest.FixtureRequest) -> tuple[Model, Any]:
    """A tiny random model with seven more rows than its tokenizer has tokens, and the tokenizer."""
    kind = KINDS[request.param]
    tokenizer = kind.tokenizer()
    return tiny(kind.architecture, tokenizer, vocab_size=len(tokenizer) + 7), tokenizer


def tiny(architecture: str, tokenizer: Any, vocab_size: int) -> Model:
    return create(
        architecture,
        size={"bert": "tiny", "deberta-v2": "v3-xsmall"}.get(architecture, "base"),
        key=jax.random.key(0),
        vocab_size=vocab_size,
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=7,
        max_position_embeddings=300,
        pad_token_id=tokenizer.pad_token_id,
    )


def pieces(tokenizer: Any, *texts: str) -> list[str]:
    return tokenizer.convert_ids_to_tokens(tokenizer(*texts)["input_ids"])


def hidden(model: Model, tokenizer: Any, texts: list[str]) -> np.ndarray:
    batch = dict(tokenizer(texts, padding=True, return_tensors="np"))
    with jax.disable_jit():
        return np.asarray(apply(model.module, model.params, batch).last_hidden)


def assert_alike(found: Any, want: Any, texts: list[str]) -> None:
    """The same tokens, alone and in pairs, of two tokenizers whose ids differ."""
    for text in texts:
        assert pieces(found, text) == pieces(want, text)
    assert pieces(found, *texts[:2]) == pieces(want, *texts[:2])


def test_texts_become_the_same_tokens_and_hidden_states(whole: tuple[Model, Any]) -> None:
    model, tokenizer = whole
    small, smaller = vocabulary(model, tokenizer, iter(TEXTS))
    assert small.config.vocab_size == len(smaller) < len(tokenizer)
    assert smaller(TEXTS)["input_ids"] != tokenizer(TEXTS)["input_ids"]
    assert_alike(smaller, tokenizer, TEXTS)
    ours, theirs = hidden(small, smaller, TEXTS), hidden(model, tokenizer, TEXTS)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_stock_transformers_loads_what_is_saved(whole: tuple[Model, Any], tmp_path: Path) -> None:
    small, smaller = vocabulary(*whole, TEXTS)
    save_pretrained(small, tmp_path / "small", tokenizer=smaller)
    loaded = AutoTokenizer.from_pretrained(tmp_path / "small")
    assert loaded(TEXTS) == smaller(TEXTS)
    assert loaded(TEXTS[:2], TEXTS[1:3]) == smaller(TEXTS[:2], TEXTS[1:3])
    assert loaded.model_max_length == smaller.model_max_length
    theirs = AutoModel.from_pretrained(tmp_path / "small").eval()
    batch = loaded(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        want = theirs(**batch).last_hidden_state.numpy()
    token = batch["attention_mask"].numpy() > 0
    np.testing.assert_allclose(hidden(small, smaller, TEXTS)[token], want[token], atol=1e-5)


def test_settings_stay(whole: tuple[Model, Any]) -> None:
    model, tokenizer = whole
    padding = {"pad_id": tokenizer.pad_token_id, "pad_token": tokenizer.pad_token}
    tokenizer.backend_tokenizer.enable_truncation(17)
    tokenizer.backend_tokenizer.enable_padding(length=19, **padding)
    before = state_of(tokenizer.backend_tokenizer)
    smaller = vocabulary(model, tokenizer, TEXTS)[1]
    assert type(smaller) is type(tokenizer)
    names = ("model_max_length", "padding_side", "truncation_side", "special_tokens_map")
    names += ("name_or_path", "model_input_names", "all_special_tokens")
    for name in names:
        assert getattr(smaller, name) == getattr(tokenizer, name)
    after = state_of(smaller.backend_tokenizer)
    for name in ("truncation", "normalizer", "pre_tokenizer", "decoder"):
        assert after[name] == before[name]
    # What may differ of an added token is its id.
    added = [
        [{**token, "id": None} for token in state["added_tokens"]] for state in (before, after)
    ]
    assert added[0] == added[1]
    for token in after["added_tokens"]:
        assert smaller.convert_ids_to_tokens(token["id"]) == token["content"]
    assert after["padding"] == {**before["padding"], "pad_id": smaller.pad_token_id}
    assert after["truncation"]["max_length"] == 17


def test_rare_words_are_spelled_by_their_pieces(whole: tuple[Model, Any]) -> None:
    model, tokenizer = whole
    smaller = vocabulary(model, tokenizer, TEXTS, at_least=2)[1]
    every = vocabulary(model, tokenizer, TEXTS)[1]
    assert len(smaller) < len(every)
    counted = Counter(x for text in TEXTS for x in tokenizer.tokenize(text))
    frequent = {token for token, number in counted.items() if number >= 2}
    assert frequent <= smaller.get_vocab().keys() < every.get_vocab().keys()
    spelled = 0
    for text in [*TEXTS, *TRAINED_ON]:
        found, want = smaller.tokenize(text), tokenizer.tokenize(text)
        plain = [text.replace("##", "") for text in ("".join(found), "".join(want))]
        assert plain[0] == plain[1]
        spelled += len(found) > len(want)
    assert spelled > 3


def word_piece(*tokens: str) -> Any:
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *tokens]
    return BertTokenizer(vocab={token: number for number, token in enumerate(vocab)})


def test_what_is_kept() -> None:
    tokenizer = word_piece("x", "it", "##er", "##e", "film", "##s", "!", "never", "ever")
    tokenizer.add_tokens(["added"])
    model = tiny("bert", tokenizer, vocab_size=30)
    extra = json_fields({"eos_token_id": tokenizer.convert_tokens_to_ids("never"), "x": 3})
    model = model.replace(config=model.config.replace(extra=extra))
    small, smaller = vocabulary(model, tokenizer, ["its film", "films"])
    kept = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "x", "it", "##e", "film", "##s", "!"]
    assert sorted(smaller.get_vocab(), key=smaller.get_vocab().get) == [*kept, "never", "added"]
    assert small.config.extra_fields == {"eos_token_id": 11, "x": 3}
    table = np.asarray(model.params["embedding"]["word"]["embedding"])
    old = tokenizer.convert_tokens_to_ids([*kept, "never", "added"])
    np.testing.assert_array_equal(small.params["embedding"]["word"]["embedding"], table[old])


def test_what_could_not_be_read_still_cannot() -> None:
    """Without abc, which no text has, abcd would be read as ab and ##cd."""
    tokenizer = word_piece("a", "##b", "##c", "ab", "abc", "##cd", "abx", "x", "y")
    tokenizer.add_tokens(["yy"])
    texts = ["ab xcd", "yyAbcd y", "y"]
    smaller = vocabulary(tiny("bert", tokenizer, 20), tokenizer, texts)[1]
    assert pieces(tokenizer, texts[1]) == ["[CLS]", "yy", "[UNK]", "y", "[SEP]"]
    assert_alike(smaller, tokenizer, texts)
    assert "abx" not in smaller.get_vocab()


def test_what_is_unknown_costs_unigram_as_much_as_before() -> None:
    """The score of an unknown c is that of zz - 10; with that of cd - 10, cde would be c and de."""
    scores = {"cd": -12.0, "e": -11.9, "d": -1.0, "de": -1.0, "zz": -30.0, "dde": -2.0}
    special = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0)]
    tokenizer = XLMRobertaTokenizer(vocab=[*special, *scores.items()])
    model = tiny("xlm-roberta", tokenizer, vocab_size=len(tokenizer))
    smaller = vocabulary(model, tokenizer, ["cde"])[1]
    assert smaller.tokenize("cde") == tokenizer.tokenize("cde") == ["▁", "cd", "e"]
    assert (
        {"cd", "e", "d", "zz"}
        < smaller.get_vocab().keys()
        == tokenizer.get_vocab().keys()
        - {
            "de",
            "dde",
        }
    )


def test_bytes_that_stand_for_unknown_characters_stay() -> None:
    special = [("<unk>", 0.0), ("<pad>", 0.0), ("\u2581", -1.0), ("film", -2.0), ("end", -3.0)]
    pairs = [*special, *((f"<0x{byte:02X}>", -9.0) for byte in range(256))]
    unigram = Tokenizer(models.Unigram(pairs, unk_id=0, byte_fallback=True))
    names = {"unk_token": "<unk>", "pad_token": "<pad>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=unigram, **names)
    smaller = vocabulary(tiny("bert", tokenizer, len(tokenizer)), tokenizer, ["film"])[1]
    assert smaller.tokenize("film\u00e9") == ["film", "<0xC3>", "<0xA9>"]
    assert tokenizer.get_vocab().keys() - smaller.get_vocab().keys() == {"end"}


def test_tokens_before_the_padding_stay_where_positions_count_from_it() -> None:
    vocab = ["unused", "other", "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "more", "film"]
    tokenizer = BertTokenizer(vocab={token: number for number, token in enumerate(vocab)})
    sizes = {}
    for architecture in ("bert", "roberta"):
        small = vocabulary(tiny(architecture, tokenizer, 9), tokenizer, ["film"])[0].config
        sizes[architecture] = small.vocab_size, small.pad_token_id
    assert sizes == {"bert": (6, 0), "roberta": (8, 2)}


def test_bad_input_is_one_line() -> None:
    tokenizer = bert()
    model = tiny("bert", tokenizer, vocab_size=len(tokenizer))
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "film": 1}, unk_token="[UNK]"))
    other = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]")
    larger = bert()
    larger.add_tokens(["one more"])
    lower = xlm_roberta()
    lower.backend_tokenizer.normalizer = normalizers.Lowercase()
    cases: list[tuple[str, Any, Any, dict[str, Any]]] = [
        ("CanineTokenizer is no fast tokenizer", CanineTokenizer(), TEXTS, {}),
        ("is a WordLevel; supported: WordPiece, BPE, Unigram", other, TEXTS, {}),
        (f"has token {len(tokenizer)}; the model has 0 to", larger, TEXTS, {}),
        ("there are no texts", tokenizer, [], {}),
        ("texts is one string", tokenizer, "a text", {}),
        ("at_least is 0; expected 1 or more", tokenizer, TEXTS, {"at_least": 0}),
        ("XLMRobertaTokenizer, transformers reads the .* another normalizer$", lower, TEXTS, {}),
    ]
    for message, bad, texts, options in cases:
        with pytest.raises(ValueError, match=message) as caught:
            vocabulary(model, bad, texts, **options)
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_released_tokenizer(assets: Path) -> None:
    folder = assets / "models" / "all-MiniLM-L6-v2"
    model, tokenizer = from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    texts = [*TRAINED_ON, *TEXTS, "Zürich, Århus \U0001f600 東京!"]
    small, smaller = vocabulary(model, tokenizer, texts)
    assert 1000 < small.config.vocab_size < 0.2 * model.config.vocab_size
    assert_alike(smaller, tokenizer, texts)
    ours, theirs = hidden(small, smaller, texts), hidden(model, tokenizer, texts)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
