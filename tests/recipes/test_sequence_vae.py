"""Sequences from the file to new ones: trained, scored, saved with their vocabulary, drawn as text."""

import json
import math

import pytest
import torch

from lowerbound import evaluate, fit, from_sequences, load, recipes, save, score, to_sequences
from lowerbound.core.errors import DataError
from lowerbound.core.types import Batch
from lowerbound.core.walk import mode

SYLLABLES = ("ka", "mo", "ri", "su")


def words(count):
    draw = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 4, (count,), generator=draw).tolist()
    return ["".join(SYLLABLES[i] for i in torch.randint(4, (n,), generator=draw).tolist()) for n in lengths]


@pytest.fixture(scope="module", params=["gru", "transformer"])
def trained(request):
    data = from_sequences(words(800), name="words")
    recipe = recipes.sequence_vae(data.spec, reader=request.param, width=32, latent_dim=4, warm_up_steps=20)
    return fit(recipe, data, epochs=10, batch_size=64, lr=1e-2, seed=1, progress=False), data


def test_draws_are_words_like_those_it_saw(trained):
    run, data = trained
    drawn = to_sequences(run.model.sample(200, show="draw", seed=3), data.spec)
    syllables = [word[i : i + 2] for word in drawn for i in range(0, len(word), 2)]
    assert sum(s in SYLLABLES for s in syllables) > 0.9 * len(syllables)
    assert {len(word) for word in drawn} >= {2, 4, 6}
    nats = evaluate(run.model, data.test, num_samples=50)
    assert nats.nll.target == "log p(x)"
    entropy = math.log(3) + 2 * math.log(4)  # of the words in nats: lengths 1 to 3, and 2 syllables on average
    assert entropy - 4 * nats.nll.se < nats.nll.value < entropy + 0.8


def test_it_comes_back_with_its_vocabulary(trained, tmp_path):
    run, data = trained
    again = load(save(run.model, tmp_path / "model"))
    assert again.spec == run.model.spec
    assert json.loads((tmp_path / "model/config.json").read_text())["model"]["args"]["spec"]["args"]["vocabulary"] == [
        *data.spec.vocabulary
    ]
    a, b = (model.sample(5, show="draw", seed=2) for model in (run.model, again))
    assert to_sequences(a, again.spec) == to_sequences(b, data.spec)


def test_the_whole_model_looks_at_nothing_after_the_end(trained):
    run, data = trained
    batch = data.test.batch(slice(0, 20))
    holes = torch.where(batch.mask.bool(), batch.x, math.nan)
    with torch.no_grad():
        found = [run.model(b, 1, mode) for b in (batch, Batch(holes, mask=batch.mask), Batch(batch.x))]
    for other in found[1:]:
        torch.testing.assert_close(other.log_px, found[0].log_px)
        torch.testing.assert_close(other.log_w, found[0].log_w)
    assert torch.equal(run.model.encode(holes, mask=batch.mask), run.model.encode(batch.x, mask=batch.mask))


def test_new_rows_of_symbols_it_does_not_know_are_refused(trained):
    run, _ = trained
    other = from_sequences(["kaka", "xyz"], test_fraction=0.0, valid_fraction=0.0)
    with pytest.raises(DataError, match="numbers other symbols"):
        score(run.model, other.train.matching(run.model.spec))
    known = from_sequences(["kaka", "s"], vocabulary=run.model.spec.vocabulary, max_length=6, test_fraction=0.0)
    assert bool(score(run.model, known.train.matching(run.model.spec), num_samples=20).log_px.isfinite().all())
