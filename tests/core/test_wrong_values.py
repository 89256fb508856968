"""Wrong names, values and types, as a user without type checks meets them: refused, and never taken silently.

The other tests run with annotations executed, which would refuse these values first, so a process of its own does it.
"""

import json
import subprocess
import sys
import textwrap

import pytest

VALUES = {
    "an optimizer": "lb.fit(recipe, data, optimizer='adam2', epochs=1, progress=False)",
    "a schedule of the learning rate": "lb.fit(recipe, data, lr_schedule='linear', epochs=1, progress=False)",
    "a precision": "lb.fit(recipe, data, precision='float16', epochs=1, progress=False)",
    "a device": "lb.fit(recipe, data, device='gpu', epochs=1, progress=False)",
    "a binarisation": "lb.load_data('digits', binarize='sometimes')",
    "a kind of data": "lb.from_arrays(data.test.x, kind='sound')",
    "a split": "data.split('exam')",
    "an activation": "lb.recipes.vae(data.spec, activation='sigh')",
    "a negative beta": "lb.recipes.beta_vae(data.spec, beta=-1.0)",
    "a beta that is no number": "lb.recipes.beta_vae(data.spec, beta=float('nan'))",
    "a warm-up of half a step": "lb.recipes.vae(data.spec, warmup=0.5)",
    "a negative warm-up": "lb.recipes.vae(data.spec, warmup=-3)",
    "a variance": "lb.recipes.gaussian_vae(data.spec, variance='wide')",
    "a scale of zero": "lb.recipes.gaussian_vae(data.spec, variance='fixed', scale=0.0)",
    "a noise": "lb.recipes.denoising_vae(data.spec, noise='pink')",
    "a share of noise": "lb.recipes.denoising_vae(data.spec, noise='mask', amount=1.5)",
    "a variance head": "lb.families.Normal((2,), head='square')",
    "units of a density": "lb.evaluate(recipe.build()[0], data.test, units='metres')",
    "a rule for missing cells": "lb.from_arrays([[1.0, 2.0], [3.0, 4.0]], missing='drop')",
    "a layout of images": "lb.from_arrays(data.test.x, layout='whc')",
    "an augmentation": "lb.fit(recipe, data, augment=('spin',), epochs=1, progress=False)",
    "a colour": "lb.load_data('digits', color='sepia')",
    "a temperature": "recipe.build()[0].sample(3, temperature=-1.0)",
    "what to show": "recipe.build()[0].sample(3, show='median')",
}
TYPES = {
    "a batch of one and a half": "lb.fit(recipe, data, batch_size=1.5, epochs=1, progress=False)",
    "one and a half epochs": "lb.fit(recipe, data, epochs=1.5, progress=False)",
    "a text for epochs": "lb.fit(recipe, data, epochs='3', progress=False)",
    "a patience of one and a half": "lb.fit(recipe, data, patience=1.5, epochs=1, progress=False)",
    "a seed of one and a half": "lb.fit(recipe, data, seed=1.5, epochs=1, progress=False)",
    "a text for a learning rate": "lb.fit(recipe, data, lr='fast', epochs=1, progress=False)",
    "a text for a scale": "lb.from_arrays(data.test.x, scale='255')",
    "a latent of 3.5 dimensions": "lb.recipes.vae(data.spec, latent_dim=3.5)",
    "a text for a latent": "lb.recipes.vae(data.spec, latent_dim='8')",
    "one width for hidden layers": "lb.recipes.vae(data.spec, hidden=32)",
    "one and a half samples": "lb.recipes.vae(data.spec, num_samples=1.5)",
    "a text for beta": "lb.recipes.beta_vae(data.spec, beta='4')",
    "a number of samples to draw": "recipe.build()[0].sample(2.5)",
    "half a sample to evaluate with": "lb.evaluate(recipe.build()[0], data.test, num_samples=1.5)",
}
USES = VALUES | TYPES
SCRIPT = """
    import json, sys
    import lowerbound as lb

    data = lb.load_data("digits")
    recipe = lb.recipes.vae(data.spec, latent_dim=2, hidden=(4,))
    for use in json.loads(sys.argv[1]):
        try:
            eval(use)
            said = ["nothing", ""]
        except lb.LowerboundError as error:
            said = [f"exit {error.exit_code}", str(error)]
        except BaseException as error:
            said = [type(error).__name__, str(error)]
        print(json.dumps(said), flush=True)
"""


@pytest.fixture(scope="module")
def answers():
    arguments = [sys.executable, "-c", textwrap.dedent(SCRIPT), json.dumps(list(USES.values()))]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return dict(zip(USES, (json.loads(line) for line in done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("use", VALUES)
def test_a_wrong_value_is_refused_with_what_was_expected(use, answers):
    said, message = answers[use]
    assert said == "exit 2", message
    assert "expected" in message


@pytest.mark.parametrize("use", TYPES)
def test_a_wrong_type_is_never_taken_silently(use, answers):
    # Python's own TypeError will do for a program; what must not happen is that one and a half epochs are trained.
    said, message = answers[use]
    assert said in ("exit 2", "TypeError"), message
