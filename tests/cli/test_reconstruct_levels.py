"""`lowerbound reconstruct --keep`: the levels of a ladder that are drawn anew, and at which temperature."""

import numpy as np
import pytest

from lowerbound import fit, load_data, recipes


@pytest.fixture(scope="module")
def ladder(tmp_path_factory):
    """Return the folder of a ladder of three levels."""
    folder, data = tmp_path_factory.mktemp("trained") / "ladder", load_data("digits")
    made = recipes.ladder_vae(data.spec, latent_dims=(2, 3, 5), hidden=24)
    fit(made, data, epochs=2, seed=1, out=folder, progress=False, report=False)
    return folder


@pytest.fixture
def rebuilt(ladder, told, tmp_path):
    """Run the command with a seed and return what the examples became."""

    def run(seed, *words):
        path = tmp_path / f"{seed}.npz"
        code, _, err = told("reconstruct", str(ladder), "--num", "7", "--out", str(path), "--seed", str(seed), *words)
        assert code == 0, err
        made = np.load(path)["x"]
        path.unlink()
        return made

    return run


def test_levels_below_are_drawn_anew_and_at_temperature_0_they_are_not(rebuilt):
    assert not np.array_equal(rebuilt(1, "--keep", "1"), rebuilt(2, "--keep", "1"))
    cold = ("--keep", "1", "--temperature", "0")
    np.testing.assert_array_equal(rebuilt(1, *cold), rebuilt(2, *cold))


def test_each_level_below_has_its_temperature(rebuilt):
    spread = {
        warm: np.abs(
            rebuilt(1, "--keep", "1", "--temperature", *warm) - rebuilt(2, "--keep", "1", "--temperature", *warm)
        )
        for warm in (("0", "0"), ("0", "0.5"), ("0.5", "0"), ("0.5", "0.5"), ("1", "1"))
    }
    assert spread["0", "0"].max() == 0
    assert all(found.max() > 0 for warm, found in spread.items() if warm != ("0", "0"))
    np.testing.assert_array_equal(spread["1", "1"], np.abs(rebuilt(1, "--keep", "1") - rebuilt(2, "--keep", "1")))


def test_the_file_says_what_was_drawn(told, ladder):
    words = ("reconstruct", str(ladder), "--num", "3", "--keep", "1", "--temperature", "0.7", "0.9")
    assert told(*words)[0] == 0
    assert (ladder / "samples" / "reconstructions-mean-keep-1-temperature-0.7-0.9.png").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--temperature", "0.5"), ("--keep",)),
        (("--keep", "1", "--temperature", "0.5", "0.6", "0.7"), ("3 temperatures", "2 levels", "one for each")),
        (("--keep", "3", "--temperature", "0.5", "0.6"), ("2 temperatures", "0 levels")),
        (("--keep", "1", "--temperature", "-1"), ("temperature", "0 or more")),
    ],
)
def test_temperatures_that_mean_nothing_are_refused(told, ladder, words, said):
    code, _, err = told("reconstruct", str(ladder), *words)
    assert code == 2
    assert all(part in err for part in said), err


@pytest.mark.parametrize("words", ["interpolate --from 0 --to 1", "manifold --steps 3", "traverse --steps 3"])
def test_what_is_made_of_codes_of_the_top_says_where_the_other_levels_are(words, told, ladder, tmp_path):
    command, *more = words.split()
    code, _, err = told(command, str(ladder), *more, "--out", str(tmp_path / "made.npz"))
    assert code == 0, err
    assert "the 2 levels below the top take the means of their priors" in err
