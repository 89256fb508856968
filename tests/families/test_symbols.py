"""Sequences of symbols: probabilities sum to one, padding is nothing, each symbol sees those before it alone."""

import itertools
import math

import pytest
import torch

from lowerbound.core.errors import ShapeError, UsageError
from lowerbound.core.model import Encoder
from lowerbound.families import Symbols
from lowerbound.networks import Recurrent, SequenceEncoder, Transformer

V, C = 3, 4  # symbols, context
READERS = ("gru", "transformer")
both = pytest.mark.parametrize("reader", READERS)


def family(reader, length, *, ends=True, shape=None, symbols=V, **options):
    """Return a family in double precision; the same weights whatever the length."""
    torch.manual_seed(3)
    places, tokens = length + ends, symbols + 2
    shapes = ((places,), (places, symbols + ends), tokens)
    network = Recurrent(*shapes, width=8, layers=2, context=C)
    if reader == "transformer":
        network = Transformer(*shapes, width=8, heads=2, context=C)
    for parameter in network.parameters():  # so that nothing is near uniform, or near certain
        parameter.data.mul_(1.3 if reader == "transformer" else 2)
    return Symbols(shape or (length,), symbols, network, **options, ends=ends).double()


def contexts(*lead):
    return torch.randn(*lead, C, dtype=torch.float64)


def every(length, alphabet=V):
    return torch.tensor(list(itertools.product(range(alphabet), repeat=length)), dtype=torch.float64)


def padded(strings, length):
    """Return strings `[N, t]` in cells `[N, length]`, and their mask; what is padded is NaN."""
    x = torch.full((len(strings), length), math.nan, dtype=torch.float64)
    x[:, : strings.shape[1]] = strings
    return x, (~x.isnan()).double()


@both
@torch.no_grad()
def test_all_strings_and_the_longer_ones_have_probability_one(reader):
    longest = 4
    px = family(reader, longest)(contexts(1))
    total = sum(
        float(px.log_prob(*padded(every(t) if t else torch.zeros(1, 0), longest)).exp().sum())
        for t in range(longest + 1)
    )
    # a longer string begins with 4 symbols after which no end follows: by the chain rule, from the network itself
    rest = 0.0
    for string in every(longest).long():
        tokens = torch.cat([torch.tensor([V]), string])[None]
        shares = px.family.network(tokens, px.context).softmax(-1)[0]
        rest += float(shares[:longest].gather(1, string[:, None]).prod() * (1 - shares[longest, V]))
    assert 0.001 < rest < 0.999
    assert total + rest == pytest.approx(1, abs=1e-9)


@both
@pytest.mark.parametrize("symbols", [2, 3])
@torch.no_grad()
def test_all_images_have_probability_one_where_nothing_ends(reader, symbols):
    px = family(reader, 6, ends=False, shape=(1, 2, 3), symbols=symbols, scale=symbols - 1)(contexts(1))
    x = (every(6, symbols) / (symbols - 1)).reshape(-1, 1, 2, 3)
    assert float(px.log_prob(x).exp().sum()) == pytest.approx(1, abs=1e-9)


@both
def test_longer_padding_and_what_it_holds_change_nothing(reader):
    strings, context = every(3)[:9], contexts(2, 9).requires_grad_()
    found = []
    for length in (3, 4, 8):
        made = family(reader, length)
        x, mask = padded(strings, length)
        log_px = made(context).log_prob(x, mask)
        gradients = torch.autograd.grad(log_px.sum(), [context, *made.parameters()])
        found.append((log_px.detach(), *gradients))
        ended = torch.where(mask.bool(), x, V)  # the end in the cells themselves says the same without a mask
        torch.testing.assert_close(made(context).log_prob(ended), log_px)
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-9, atol=1e-12)
    assert found[0][0].shape == (2, 9)


@both
@pytest.mark.parametrize("ends", [True, False])
def test_an_encoder_reads_up_to_the_end_alone_and_reads_all_of_that(reader, ends):
    torch.manual_seed(5)
    networks = [SequenceEncoder((t,), (2, 3), V, reader, width=8, heads=2, ends=True).double() for t in (4, 9)]
    networks[1].load_state_dict(networks[0].state_dict())
    (short, short_mask), (long, long_mask) = (padded(every(3), t) for t in (4, 9))
    one = Encoder([networks[0]])(short, None, short_mask)[0]
    other = Encoder([networks[1]])(long, None, long_mask)[0]
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(networks[1](torch.where(long_mask.bool(), long, V)), other)
    assert len({tuple(row) for row in one.flatten(1).round(decimals=9).tolist()}) == 27  # every symbol counts
    empty = Encoder([networks[0]])(short, None, torch.zeros_like(short))[0]
    assert bool(empty.isfinite().all())


@both
def test_a_symbol_changes_no_parameter_up_to_its_own_place(reader):
    length = 5
    made = family(reader, length)
    string, context = torch.tensor([[0, 2, 1, 1, 0]]), contexts(1)

    def logits(symbols):
        return made.network(torch.cat([torch.tensor([[V]]), symbols], 1), context)[0]

    before = logits(string)
    for t in range(length):
        other = string.clone()
        other[0, t] = (other[0, t] + 1) % V
        changed = (logits(other) != before).any(-1)
        assert changed.tolist() == [place > t for place in range(length + 1)]


@both
@torch.no_grad()
def test_draws_come_as_often_as_they_are_probable(reader):
    """Each of 15 frequencies lies within 5 of its standard errors: fails by chance less than once in 100,000 seeds."""
    made, draws = family(reader, 3, symbols=2), 40_000
    px = made(contexts(1))
    found = px.sample((draws,))[:, 0]
    ended = found.long() == 2
    assert bool((ended[:, 1:] | ~ended[:, :-1]).all()), "after an end there is nothing"
    shares, total = [], 0.0
    for t in range(4):
        for string in every(t, 2) if t else [torch.zeros(0)]:
            x = torch.full((1, 3), 2.0, dtype=torch.float64)
            x[0, :t] = string
            p = float(px.log_prob(x).exp())
            if t == 3:  # what has not ended is cut off: the share of all that begin so
                shown = torch.cat([torch.tensor([[2]]), x.long()], 1)
                p = float(made.network(shown, px.context).softmax(-1)[0, :3].gather(1, x.long().T).prod())
            share = float((found == x).all(1).double().mean())
            assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / draws)
            shares.append(share)
            total += p
    assert total == pytest.approx(1)
    assert len([s for s in shares if s > 0.005]) > 5


@both
def test_one_step_after_another_is_the_whole_pass(reader):
    made, context = family(reader, 6), contexts(5)
    x = made(context).sample()
    state, token, total = made.network.begin(context), torch.full((5,), V), torch.zeros(5, dtype=torch.float64)
    over = torch.zeros(5, dtype=torch.bool)
    for t in range(7):
        logits, state = made.network.step(token, state)
        token = x[:, t].long() if t < 6 else torch.full((5,), V)
        total += torch.where(over, 0.0, logits.log_softmax(-1).gather(1, token[:, None])[:, 0])
        over |= token == V
    torch.testing.assert_close(total, made(context).log_prob(x))


def test_the_mean_is_the_most_probable_symbol_each_time():
    made, context = family("gru", 4), contexts(2, 3)
    mean = made(context).mean
    assert mean.shape == (2, 3, 4)
    for k, b in itertools.product(range(2), range(3)):
        read = [V]
        for t in range(4):
            likely = int(made.network(torch.tensor([read]), context[k, b][None])[0, -1].argmax())
            assert int(mean[k, b, t]) == (V if read[1:] and read[-1] == V else likely)
            read.append(int(mean[k, b, t]))


@both
def test_word_dropout_hides_symbols_in_training_alone(reader):
    x, context = every(4), contexts(81)
    plain, dropped = family(reader, 4), family(reader, 4, word_dropout=0.5)
    wanted = plain(context).log_prob(x)
    assert torch.equal(plain.train()(context).log_prob(x), wanted)
    assert torch.equal(dropped.eval()(context).log_prob(x), wanted)
    one, other = (dropped.train()(context).log_prob(x) for _ in range(2))
    assert not torch.equal(one, wanted)
    assert not torch.equal(one, other)
    hidden = (dropped.dropped(torch.zeros(100, 100, dtype=torch.long)) == V + 1).double().mean()
    assert abs(float(hidden) - 0.5) < 0.025  # 5 standard errors
    first = family(reader, 1, word_dropout=0.5).train()  # the first symbol is scored given no other
    assert torch.equal(
        first(context)._log_prob_places(*first_only(x)), first.eval()(context)._log_prob_places(*first_only(x))
    )


def first_only(x):
    return x[:, :1].long(), torch.zeros(len(x), 1, dtype=torch.bool), contexts(len(x)) * 0


def test_a_fit_starts_at_the_shares_of_the_symbols():
    made = family("gru", 4)
    x, mask = padded(torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]], dtype=torch.float64), 4)
    values, known = made.observations(torch.where(mask.bool(), x, 0.0), mask)
    assert values.tolist() == [[2, 1, 0, 1], [1, 2, 0, 1]]
    assert bool((known == 1).all())
    with torch.no_grad():
        assert not bool(made.bias_for(values.mean(0), values.var(0)).any())
    bias = dict(made.network.named_parameters())["out.bias"].softmax(0)
    torch.testing.assert_close(bias, torch.tensor([3, 3, 0, 2], dtype=torch.float64) / 8, atol=1e-3, rtol=1e-3)


def test_what_means_nothing_is_refused():
    made = family("gru", 3)
    gap = torch.tensor([[1.0, 0.0, 1.0]])
    with pytest.raises(ShapeError, match="inside a sequence"):
        made.eval()(contexts(1)).log_prob(torch.zeros(1, 3), gap)
    with pytest.raises(ShapeError, match="inside a sequence"):
        family("gru", 3, ends=False).eval()(contexts(1)).log_prob(torch.zeros(1, 3), torch.tensor([[1.0, 1.0, 0.0]]))
    with pytest.raises(UsageError, match="word dropout"):
        family("gru", 3, word_dropout=1.0)
    with pytest.raises(ShapeError, match="of 3 symbols"):
        Symbols((3,), V, Recurrent((3,), (3, V), V + 2, context=C))
