"""Sequences: from lists and files to numbers and back; what cannot be read is refused with its place."""

import pytest
import torch

from lowerbound import composed, from_sequences, load_data, load_rows, recipes, to_sequences
from lowerbound.core.errors import DataError, Incompatible, ShapeError, UsageError
from lowerbound.data.corruptions import GaussianNoise
from lowerbound.objectives import ELBO, RAE, Corrupt
from lowerbound.priors import VampPrior

TEXTS = ["CCO", "CC", "", "C=O", "北京", "NCCN", "e\u0301", "CCC"]
WHOLE = {"valid_fraction": 0.0, "test_fraction": 0.0}


def test_texts_become_numbers_with_a_mask_and_come_back():
    data = from_sequences(TEXTS)
    rows = data.split("all")
    assert data.spec.vocabulary == tuple(sorted(set("".join(TEXTS))))
    assert (data.spec.kind, data.spec.support, data.spec.shape) == ("sequence", "symbols", (4,))
    batch = rows.batch(slice(None))
    assert batch.mask.sum(1).tolist() == [len(text) for text in TEXTS]
    assert batch.x[1].tolist() == [data.spec.vocabulary.index("C")] * 2 + [len(data.spec.vocabulary)] * 2
    assert to_sequences(batch.x, data.spec) == TEXTS
    assert data.spec.size == len(data.train)


def test_whole_numbers_and_words_are_symbols_too():
    numbers = from_sequences([[10, 9], [9, -1, 10], []], **WHOLE)
    assert numbers.spec.vocabulary == ("-1", "9", "10")
    assert to_sequences(numbers.train.values(), numbers.spec) == [("10", "9"), ("9", "-1", "10"), ()]
    words = from_sequences([["to", "be"], ["or", "not", "to", "be"]], max_length=6, **WHOLE)
    assert words.spec.shape == (6,)
    assert to_sequences(words.train.values(), words.spec)[1] == ("or", "not", "to", "be")


@pytest.mark.parametrize(
    ("given", "options", "said"),
    [
        ([], {}, "no symbol"),
        (["", ""], {}, "no symbol"),
        (["ab"], {}, "1 examples"),
        (["ab", "b\nc"], {}, "row 2"),
        (["ab", "abcd"], {"max_length": 3}, "row 2"),
        (["ab", "bca"], {"vocabulary": "ab"}, "row 2, symbol 2"),
        (["ab", "a"], {"vocabulary": "aba"}, "twice"),
        (["ab", "a"], {"vocabulary": []}, "empty"),
        (["ab", "a"], {"max_length": 0}, "most symbols"),
        (["ab", ["a"]], {}, "row 1"),
        ([[1], [2.5]], {}, "row 2"),
        ([[1], 3], {}, "row 2"),
        (["ab", "a"], {"y": [1]}, "labels"),
    ],
)
def test_what_are_no_sequences_is_refused(given, options, said):
    with pytest.raises((DataError, UsageError)) as caught:
        from_sequences(given, **options)
    assert said in str(caught.value)


def test_a_file_of_lines_is_read_and_new_lines_as_a_model_saw_its_own(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes("\ufeffanna\r\nbob\n\nzoë\nab\n".encode())
    data = load_data(f"lines:{path}", test_fraction=0.0, valid_fraction=0.0)
    assert to_sequences(data.train.values(), data.spec) == ["anna", "bob", "zoë", "ab"]
    assert data.notes == ("1 empty lines were left out",)
    again = load_data(**data.origin)
    assert torch.equal(again.train.x, data.train.x)
    (tmp_path / "more.txt").write_text("nab\n")
    rows, _ = load_rows(tmp_path / "more.txt", data.spec)
    assert to_sequences(rows.values(), data.spec) == ["nab"]
    assert rows.spec.shape == data.spec.shape
    for text, said in (("nab\n\nxa\n", "line 3, symbol 1"), ("a\nbanana\n", "6 symbols"), ("\n\n", "0 sequences")):
        (tmp_path / "more.txt").write_text(text)
        with pytest.raises(DataError) as caught:
            load_rows(f"lines:{tmp_path / 'more.txt'}", data.spec)
        assert said in str(caught.value)


def test_files_that_are_no_lines_of_text_are_refused(tmp_path):
    (tmp_path / "latin.txt").write_bytes("anna\nzo\xeb\n".encode("latin-1"))
    with pytest.raises(DataError, match="no utf-8 text") as caught:
        load_data(f"lines:{tmp_path / 'latin.txt'}")
    assert "line 2" in str(caught.value)
    assert len(load_data(f"lines:{tmp_path / 'latin.txt'}", encoding="latin-1").split("all")) == 2
    for source, said in (("lines:nowhere.txt", "cannot be read"), (f"lines:{tmp_path}", "cannot be read")):
        with pytest.raises(DataError, match=said):
            load_data(source)
    with pytest.raises(UsageError, match="encoding"):
        load_data(f"lines:{tmp_path / 'latin.txt'}", encoding="klingon")
    with pytest.raises(UsageError, match="--label"):
        load_data(f"lines:{tmp_path / 'latin.txt'}", label="a")
    with pytest.raises(DataError, match="kind it was trained on"):
        load_rows(f"lines:{tmp_path / 'latin.txt'}", load_data("digits").spec)


def test_rows_with_other_numbers_for_their_symbols_do_not_match_a_model():
    one, other = (from_sequences(texts, **WHOLE) for texts in (["ab", "ba"], ["bc", "cb"]))
    with pytest.raises(DataError, match="numbers other symbols"):
        other.train.matching(one.spec)
    with pytest.raises(UsageError, match="no sequences"):
        to_sequences(torch.zeros(1, 4), load_data("ring").spec)


def test_parts_that_mean_nothing_on_symbols_are_refused_by_name():
    spec = from_sequences(["ab", "ba", "b"]).spec
    for name in ("vae", "iwae", "gaussian_vae"):
        with pytest.raises(Incompatible, match=r"sequences|symbols"):
            getattr(recipes, name)(spec)
    with pytest.raises(ShapeError, match="no images"):
        recipes.pixel_vae(spec)
    made = recipes.sequence_vae(spec, width=8)
    for change, said in (
        ({"objective": Corrupt(ELBO(), GaussianNoise(0.1))}, "which has symbols"),
        ({"objective": RAE()}, "mean x symbols"),
        ({"prior": VampPrior((16,), (2,), 3)}, "pseudo-inputs x categories"),
    ):
        with pytest.raises(Incompatible, match=said):
            composed(made, **change)
    with pytest.raises(Incompatible, match="no symbols"):
        recipes.sequence_vae(load_data("ring").spec)


def test_no_sequences_are_refused_with_a_vocabulary_too():
    with pytest.raises(DataError, match="0 examples"):
        from_sequences([], vocabulary=["a", "b"])
