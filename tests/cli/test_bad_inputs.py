"""What users get wrong: each mistake is told in plain words, with its exit code, and destroys nothing.

A table of cases. Each runs the real command line as a process of its own in a folder of its own, and is judged by its
row in the table, and by what holds for all (`judge`).
"""

import dataclasses
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import bad_files as bad
import numpy as np
import pytest

from forks import PLAIN

COMMAND = (sys.executable, "-m", "lowerbound")
SMALL = "--hidden 8 --latent-dim 2 --epochs 1 --no-report --out run"
TRAIN = f"train vae {SMALL} --data"
SECONDS = 60


@dataclass(frozen=True)
class Case:
    """One mistake (or oddity that is none).

    Args:
        row: its number in the list of bad inputs, or that of its nearest neighbour.
        name: what it is.
        words: the command line, as a shell would split it.
        code: expected exit code.
        stderr: texts that must stand on standard error.
        make: writes the files into the folder.
        stdout: texts that must stand on standard output.
        check: further assertions; takes the folder and the result.
        same_as: another command that must print the same JSON, but for the data's name.
        needs: runs to copy into runs/.
        changes: what the command may change (a prefix of paths).
        prefix: words before the command.
        environment: the whole environment, or None for the usual one.
    """

    row: int
    name: str
    words: str
    code: int
    stderr: tuple[str, ...] = ()
    make: Callable[[Path], None] = lambda folder: None
    stdout: tuple[str, ...] = ()
    check: Callable[[Path, "Result"], None] | None = None
    same_as: str = ""
    needs: tuple[str, ...] = ()
    changes: str = ""
    prefix: tuple[str, ...] = ()
    environment: dict[str, str] | None = None

    @property
    def id(self) -> str:
        return f"{self.row}-{self.name}".replace(" ", "_")


@dataclass
class Result:
    """What came out of a case."""

    folder: Path
    code: int
    stdout: str
    stderr: str
    before: dict[str, bytes] = field(default_factory=dict)


def from_the_start(folder: Path, words: str, *, prefix=(), environment=None) -> Result:
    """Run a command as a process that nothing has prepared."""
    words = [*prefix, *COMMAND, *shlex.split(words)]
    environment = PLAIN if environment is None else {**environment, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=folder, capture_output=True, timeout=SECONDS, env=environment)
    return Result(folder, done.returncode, *map(_text, (done.stdout, done.stderr)))


def _text(stream: bytes) -> str:
    return stream.decode("utf-8", "backslashreplace")


@pytest.fixture
def lowerbound(server, tmp_path_factory):
    """Run a command in a folder, as a process that need not load libraries."""
    out, err = (tmp_path_factory.mktemp("said") / name for name in ("out", "err"))

    def run(folder: Path, words: str) -> Result:
        code = server.run(shlex.split(words), folder, out, err, seconds=SECONDS)
        return Result(folder, code, *(_text(path.read_bytes()) for path in (out, err)))

    return run


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file that can be read under a folder by its relative path."""
    paths = (Path(where) / name for where, _, names in os.walk(folder) for name in names)
    return {os.fsdecode(path.relative_to(folder)): path.read_bytes() for path in paths if path.is_file()}


# --- what else must hold of one case ---------------------------------------------------------------------------------


def finite(folder, result):
    """Assert that training gave finite numbers and a model."""
    events = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    elbos = [event["elbo"] for event in events if event["event"] == "epoch"]
    assert elbos and np.isfinite(elbos).all()
    assert (folder / "run" / "model" / "model.safetensors").is_file()


def no_run(folder, result):
    assert not (folder / "run").exists()


def initial_model(folder, result):
    assert (folder / "run" / "model" / "model.safetensors").is_file()
    assert json.loads((folder / "run" / "status.json").read_text())["epoch"] == 0


def constant_came_back(folder, result):
    lines = (folder / "s.csv").read_text().splitlines()
    place = [name.strip('"') for name in lines[0].split(",")].index("unit")
    assert len(lines) == 6
    assert {line.split(",")[place] for line in lines[1:]} == {"7"}


def nothing_raw(folder, result):
    """Assert that no control or direction character of the data reached the terminal."""
    for text in (result.stdout, result.stderr):
        assert all(c.isprintable() or c == "\n" for c in text), ascii(text)


def same_numbers(result, other):
    """Assert that two commands printed the same JSON, but for the data's name."""
    assert other.code == 0, other.stderr
    here, there = (json.loads(text) for text in (result.stdout, other.stdout))
    for numbers in (here, there):
        for name in ("name", "path", "form", "notes", "recipes"):
            numbers.pop(name, None)
    assert here == there


def one_of_many(count):
    def check(folder, result):
        assert json.loads((folder / "run" / "data.json").read_text())["spec"]["size"] == count

    return check


# --- the table -------------------------------------------------------------------------------------------------------


def refused(row, name, words, *stderr, code=2, **more):
    return Case(row, name, words, code, stderr, **more)


def fine(row, name, words, *stderr, **more):
    return Case(row, name, words, 0, stderr, **more)


LEAK = bad.normal(40, 3)
UNLABELLED = {3: bad.cells(3, kind="")}
NUL_NAME = 'data: "a\\0b.csv"\n'
RTL = [f'{i},"{text}"' for i, text in enumerate(["\U0001f600 ok", "\u05e9\u05dc\u202e\u05d5\u05dd", "a\x1b[31mb"] * 8)]
CONFIG = "recipe: vae\ndata: ring\n"
NAMED = "n\u00e4\u00efve \u4e2d\u6587.csv"

CASES = [
    # nothing, or next to nothing
    refused(1, "empty csv", f"{TRAIN} a.csv", "0 examples in a.csv", make=bad.raw("a.csv", "")),
    refused(1, "csv with a header alone", f"{TRAIN} a.csv", "0 examples in a.csv", make=bad.table(rows=[])),
    refused(1, "empty folder", f"{TRAIN} photos", "0 examples in photos", make=bad.pictures(0)),
    refused(1, "empty array", f"{TRAIN} a.npy", "0 examples in a.npy", make=bad.npy(np.zeros((0, 3)))),
    refused(2, "one row cannot be trained on", f"{TRAIN} a.csv", "at least 2", make=bad.table(rows=bad.ROWS[:1])),
    fine(
        *(2, "one row can be encoded", "reconstruct table --data a.csv --out r.csv --json"),
        make=bad.table(rows=bad.ROWS[:1]),
        needs=("table",),
        stdout=('"num": 1',),
    ),
    fine(
        *(4, "all rows identical", f"{TRAIN} a.npy", "warning:", "zero variance"),
        make=bad.npy(np.ones((30, 3)) * 2.5),
        check=finite,
    ),
    # numbers that are none, or odd
    refused(5, "nan in an array", f"{TRAIN} a.npy", "1 NaN", "row 8, column 2", make=bad.npy(bad.nan_at(7, 1))),
    fine(
        *(5, "nan kept as missing", f"{TRAIN} a.npy --missing keep --dry-run", "1 of 150 cells are missing"),
        make=bad.npy(bad.nan_at(7, 1)),
    ),
    refused(5, "infinity", f"{TRAIN} a.npy", "infinite", make=bad.npy(np.where(bad.nan_at(7, 1) > 2, np.inf, 1.0))),
    refused(
        *(7, "nan in the test split alone", f"{TRAIN} a.npz", "(test)", "not finite"),
        make=bad.npz(x_train=bad.normal(40, 3), x_test=bad.nan_at(2, 1, (9, 3))),
    ),
    fine(
        *(8, "constant column is told", f"{TRAIN} a.csv --label kind --dry-run", "'unit' is constant (7)"),
        make=bad.table(),
    ),
    fine(
        *(8, "constant column comes back", "sample table --num 5 --out s.csv"),
        needs=("table",),
        check=constant_came_back,
    ),
    refused(
        *(10, "huge numbers as they are", f"{TRAIN} a.npy --standardize no", "1e+15", "scale them down"),
        make=bad.npy(bad.normal(40, 3) * 1e30),
    ),
    fine(10, "huge numbers standardised", f"{TRAIN} a.npy", make=bad.npy(bad.normal(40, 3) * 1e30), check=finite),
    fine(11, "subnormal numbers", f"{TRAIN} a.npy", make=bad.npy(bad.normal(40, 3) * 1e-310), check=finite),
    fine(
        *(13, "whole numbers as floats", "data a.npy"),
        make=bad.npy(np.round(bad.normal(40, 3) * 3)),
        stdout=("holds whole numbers only; if they are classes",),
    ),
    fine(14, "booleans", "data a.npy", make=bad.npy(bad.normal(40, 3) > 0), stdout=("Bernoulli",)),
    refused(16, "complex numbers", f"{TRAIN} a.npy", "complex", "real numbers", make=bad.npy(bad.normal(40, 3) * 1j)),
    fine(
        *(17, "emoji and right-to-left texts", "data a.csv --columns n t:category"),
        make=bad.table(header="n,t", rows=RTL),
        check=nothing_raw,
        stdout=("\U0001f600", "\\u202e", "\\x1b"),
    ),
    refused(
        *(17, "text with NUL among numbers", f"{TRAIN} a.csv", "'n'", "'\\x00'"),
        make=bad.table(header="n,m", rows=[f"{i},2" if i != 20 else "\0,2" for i in range(40)]),
    ),
    # tables
    refused(
        *(19, "two columns of one name", f"{TRAIN} a.csv", "column names occur twice: age"),
        make=bad.table(header="age,income,city,age,kind"),
    ),
    fine(
        *(20, "columns in another order", "score table --data b.csv --num-samples 2 --json"),
        make=bad.columns("unit", "kind", "city", "income", "age", name="b.csv"),
        same_as="score table --data t.csv --split all --num-samples 2 --json",
        needs=("table",),
    ),
    refused(
        *(22, "missing column", "evaluate table --data a.csv", "no column 'income'"),
        make=bad.columns("age", "city", "unit", "kind"),
        needs=("table",),
    ),
    fine(
        *(22, "extra column", "evaluate table --data a.csv --num-samples 2", "ignored columns", "shoe"),
        make=bad.table(header=bad.HEADER + ",shoe", rows=[row + ",44" for row in bad.ROWS]),
        needs=("table",),
    ),
    refused(
        *(23, "unseen category", "evaluate table --data a.csv", "'Kyiv'", "Lima, Oslo, Rome", "row 3"),
        make=bad.table(change={2: bad.cells(2, city="Kyiv")}),
        needs=("table",),
    ),
    refused(
        *(23, "unseen class", "evaluate table --data a.csv", "'z'", "a, b"),
        make=bad.table(change={2: bad.cells(2, kind="z")}),
        needs=("table",),
    ),
    refused(
        *(23, "text in a number column", "evaluate table --data a.csv", "'age'", "'old'", "row 3"),
        make=bad.table(change={2: bad.cells(2, age="old")}),
        needs=("table",),
    ),
    refused(
        *(23, "missing cell where none was", "evaluate table --data a.csv", "missing cells", "'age'", "row 3"),
        make=bad.table(change={2: bad.cells(2, age="")}),
        needs=("table",),
    ),
    refused(
        *(26, "column without a value", f"{TRAIN} a.csv", "all cells of column 'age' are missing", "--columns"),
        make=bad.table(rows=["," + row.split(",", 1)[1] for row in bad.ROWS]),
    ),
    refused(28, "ragged row", f"{TRAIN} a.csv", "line 12 of a.csv", "5, as in", make=bad.table(change={10: "1,2"})),
    refused(
        *(29, "latin-1 text", f"{TRAIN} a.csv", "not UTF-8", "--encoding"),
        make=bad.table(change={2: bad.cells(2, city="Malm\u00f6")}, encoding="latin-1"),
    ),
    fine(
        *(29, "byte order mark and CRLF", "data a.csv --json"),
        make=bad.both(bad.table(encoding="utf-8-sig", newline="\r\n"), bad.table("b.csv")),
        same_as="data b.csv --json",
    ),
    fine(
        *(29, "semicolons are found out", "data a.csv --json"),
        make=bad.both(
            bad.table(header=bad.HEADER.replace(",", ";"), rows=[row.replace(",", ";") for row in bad.ROWS]),
            bad.table("b.csv"),
        ),
        same_as="data b.csv --json",
    ),
    refused(
        *(29, "wrong delimiter", f"{TRAIN} a.csv --delimiter '|'", "no line of a.csv", "leave --delimiter out"),
        make=bad.table(),
    ),
    refused(29, "no such encoding", f"{TRAIN} a.csv --encoding klingon", "klingon", "latin-1", make=bad.table()),
    refused(29, "no header line", f"{TRAIN} a.csv", "no header line", make=bad.table(header="1,2,3,7,4")),
    refused(
        26, "no such column", f"{TRAIN} a.csv --columns agee", "no column 'agee'", "did you mean", make=bad.table()
    ),
    refused(
        *(26, "no such kind of column", f"{TRAIN} a.csv --columns age:categorical", "'categorical'", "category"),
        make=bad.table(),
    ),
    refused(55, "no such label column", f"{TRAIN} a.csv --label knd", "'knd'", "did you mean", make=bad.table()),
    refused(
        55, "label without value", f"{TRAIN} a.csv --label kind", "'kind'", "row 4", make=bad.table(change=UNLABELLED)
    ),
    refused(
        *(55, "label column alone", f"{TRAIN} a.csv --label kind", "no column beside"),
        make=bad.table(header="kind", rows=["a", "b"] * 9),
    ),
    refused(
        *(55, "negative weights", f"{TRAIN} a.csv --weight income", "'income'", "negative", "row 6"),
        make=bad.table(change={5: bad.cells(5, income="-3")}),
    ),
    refused(
        *(55, "weights all zero", f"{TRAIN} a.csv --weight unit", "'unit'", "above 0"),
        make=bad.table(rows=[row.replace(",7,", ",0,") for row in bad.ROWS]),
    ),
    refused(
        *(55, "weights that are text", f"{TRAIN} a.csv --weight city", "'city'", "numbers"),
        make=bad.table(),
    ),
    # likelihoods
    refused(
        *(34, "real pixels and a likelihood of grey ones", "train mnist_vae_2017 --out run --data a.npy"),
        *("GreyBernoulli cannot score a", "values are real", "gaussian_vae"),
        make=bad.npy(bad.normal(30, 6, 6)),
    ),
    refused(
        *(35, "pixels of -1 and 1", f"{TRAIN} a.npy", "-1 and 1", "(x + 1) / 2"),
        make=bad.npy(np.sign(bad.normal(30, 6, 6))),
    ),
    # images
    fine(
        *(
            37,
            "mixed kinds of images",
            f"{TRAIN} photos --dry-run",
            "12 grey",
            "1 CMYK",
            "16 bits",
            "1 palette",
            "alpha channel of 1",
        ),
        make=bad.both(
            bad.pictures(),
            bad.picture("photos/b.png", "RGB"),
            bad.picture("photos/c.png", "P"),
            bad.picture("photos/d.jpg", "CMYK"),
            bad.picture("photos/e.png", "I;16"),
            bad.picture("photos/f.png", "RGBA"),
        ),
    ),
    refused(
        *(37, "transparent pixels", f"{TRAIN} photos", "b.png has transparent pixels", "--alpha"),
        make=bad.both(bad.pictures(), bad.picture("photos/b.png", "RGBA", opacity=100)),
    ),
    refused(
        *(38, "damaged png", f"{TRAIN} photos", "b.png", "--skip-bad"),
        make=bad.both(bad.pictures(), bad.damaged_png),
    ),
    fine(
        *(38, "bad files skipped", f"{TRAIN} photos --skip-bad --valid-fraction 0 --test-fraction 0"),
        "skipped 2 of 14 files",
        "b.png",
        "c.png",
        make=bad.both(bad.pictures(), bad.damaged_png, bad.raw("photos/c.png", "")),
        check=one_of_many(12),
    ),
    refused(
        *(40, "zero-byte png", f"{TRAIN} photos", "b.png", "empty"),
        make=bad.both(bad.pictures(), bad.raw("photos/b.png", "")),
    ),
    refused(
        *(41, "text called png", f"{TRAIN} photos", "b.png", "no PNG"),
        make=bad.both(bad.pictures(), bad.raw("photos/b.png", "hello")),
    ),
    fine(
        43,
        "photo on its side",
        f"{TRAIN} photos --dry-run",
        "turned 1 upright",
        make=bad.both(bad.pictures(), bad.turned),
    ),
    refused(
        *(44, "animation", f"{TRAIN} photos", "b.gif", "several pictures"),
        make=bad.both(bad.pictures(), bad.animated),
    ),
    refused(
        *(41, "forty gigapixels", f"{TRAIN} photos", "b.png", "100,000,000 pixels"),
        make=bad.both(bad.pictures(), bad.huge_png),
    ),
    refused(
        *(46, "image that cannot be opened", f"{TRAIN} photos", "b.png", "No such file"),
        make=bad.both(bad.pictures(), bad.dangling("photos/b.png")),
    ),
    refused(46, "table that cannot be opened", f"{TRAIN} a.csv", "a.csv", make=bad.dangling("a.csv")),
    fine(
        *(47, "name that is no UTF-8", f"{TRAIN} photos --dry-run"),
        make=bad.both(bad.pictures(), bad.raw(b"photos/b\xff\xfe.txt", b"x"), bad.picture(b"photos/\xff.png")),
    ),
    refused(
        *(38, "images beside folders of images", f"{TRAIN} photos", "in the folder itself", "sub-folders"),
        make=bad.both(bad.pictures(), bad.pictures(folder_name="photos/cats")),
    ),
    refused(
        38,
        "sizes that differ",
        f"{TRAIN} photos",
        "--image-size",
        make=bad.both(bad.pictures(), bad.picture("photos/b.png", size=(9, 8))),
    ),
    refused(38, "image size 0", f"{TRAIN} photos --image-size 0", "image size", make=bad.pictures()),
    # arrays
    refused(49, "web page called gz", f"{TRAIN} a.csv.gz", "not a gzip", make=bad.raw("a.csv.gz", "<html>404</html>")),
    refused(
        *(49, "web page called idx gz", f"{TRAIN} train-images-idx3-ubyte.gz", "gzip"),
        make=bad.raw("train-images-idx3-ubyte.gz", "<html>404</html>"),
    ),
    refused(
        *(50, "idx of another kind", f"{TRAIN} a-idx3-ubyte", "IDX"),
        make=bad.idx("a-idx3-ubyte", (5, 4, 4), bytes(80), magic=b"\1\2"),
    ),
    refused(
        *(50, "idx that claims more than it holds", f"{TRAIN} a-idx3-ubyte", "bytes"),
        make=bad.idx("a-idx3-ubyte", (60_000, 4_000, 4_000), bytes(80)),
    ),
    refused(52, "npy that claims terabytes", f"{TRAIN} a.npy", "1,600 bytes", "319,999,999,968", make=bad.lying_npy),
    fine(
        *(53, "fortran order", "data f.npy --json"),
        make=bad.both(bad.npy(np.asfortranarray(bad.normal(40, 3)), "f.npy"), bad.npy(bad.normal(40, 3))),
        same_as="data a.npy --json",
    ),
    refused(
        *(55, "fewer labels than rows", f"{TRAIN} a.npz", "39 values, for 40 examples"),
        make=bad.npz(x=bad.normal(40, 3), y=np.arange(39) % 3),
    ),
    refused(
        *(55, "unknown names of arrays", f"{TRAIN} a.npz", "'p'", "'q'", "x=..."),
        make=bad.npz(p=bad.normal(40, 3), q=bad.normal(40, 3)),
    ),
    refused(50, "half a parquet file", f"{TRAIN} a.parquet", "a.parquet", make=bad.parquet(share=0.5)),
    fine(
        *(56, "test rows from the training rows", f"{TRAIN} a.npz --dry-run", "of 9 test rows are also training rows"),
        make=bad.npz(x_train=LEAK, x_test=LEAK[3:12]),
    ),
    # names and options
    refused(58, "unknown option", f"{TRAIN} ring --latent-dims 3", "--latent-dims", "did you mean --latent-dim?"),
    refused(
        *(58, "unknown option in a file", "train --config c.yaml --out run"),
        "'latent_dims'",
        "line 3",
        "did you mean latent_dim?",
        make=bad.raw("c.yaml", CONFIG + "latent_dims: 3\n"),
    ),
    refused(58, "unknown recipe", "train vaee --data digits", "'vaee'", "did you mean vae?"),
    refused(58, "unknown command", "tain vae --data digits", "'tain'", "did you mean train?"),
    refused(58, "unknown data", f"{TRAIN} digts", "'digts'", "did you mean digits?"),
    refused(58, "no data", "train vae", "--data is missing"),
    refused(58, "option that means nothing here", f"{TRAIN} ring --label kind", "--label", "ring"),
    refused(
        58, "option of images for a table", f"{TRAIN} a.csv --image-size 8", "--image-size", "a.csv", make=bad.table()
    ),
    refused(
        58, "option of tables for images", f"{TRAIN} photos --columns a", "--columns", "photos", make=bad.pictures()
    ),
    refused(58, "path too long", f"{TRAIN} {'a' * 5000}", "is no path"),
    refused(
        58, "path with NUL", "train vae --config c.yaml --out run", "'a\\x00b.csv'", make=bad.raw("c.yaml", NUL_NAME)
    ),
    refused(59, "negative beta", f"{TRAIN.replace('vae', 'beta_vae', 1)} digits --beta -1", "beta", "0 or more"),
    refused(61, "no latent dimension", f"{TRAIN} ring --latent-dim 0", "above 0"),
    refused(61, "negative latent dimension", f"{TRAIN} ring --latent-dim -1", "above 0"),
    refused(61, "half a latent dimension", f"{TRAIN} ring --latent-dim 3.5", "--latent-dim", "'3.5'", "whole number"),
    refused(
        *(61, "latent dimension in words", "train --config c.yaml --out run", "'eight'", "whole number"),
        make=bad.raw("c.yaml", CONFIG + "latent_dim: eight\n"),
    ),
    fine(62, "more latent dimensions than values", "train vae --data ring --hidden 4 --epochs 0", "warning: 20 latent"),
    fine(64, "batch larger than the data", f"{TRAIN} ring --batch-size 9999", "9999", "batches of 8100"),
    refused(65, "batch of nothing", f"{TRAIN} ring --batch-size 0", "batch size", "above 0"),
    refused(65, "negative batch", f"{TRAIN} ring --batch-size -1", "batch size", "above 0"),
    fine(67, "no epochs", f"{TRAIN} ring --epochs 0", check=initial_model),
    refused(67, "negative epochs", f"{TRAIN} ring --epochs -1", "epochs", "0 or more"),
    *(
        refused(68, f"learning rate {lr}", f"{TRAIN} ring --lr {lr}", "learning rate", "above 0")
        for lr in ("nan", "inf", "0", "-1")
    ),
    refused(70, "no samples in training", f"{TRAIN} ring --num-samples 0", "number of samples", "above 0"),
    refused(70, "no samples in evaluation", "evaluate digits --num-samples 0", "above 0", needs=("digits",)),
    refused(73, "half precision", f"{TRAIN} ring --precision float16", "'float16'", "bf16"),
    refused(
        *(74, "bad yaml", "train --config c.yaml --out run", "not YAML", "line 4, column 3"),
        make=bad.raw("c.yaml", CONFIG + "hidden: [1, 2\nlr: 3\n"),
    ),
    refused(
        *(74, "bad json", "train --config c.json --out run", "line 1, column"),
        make=bad.raw("c.json", '{"recipe": "vae", "data" "digits"}'),
    ),
    refused(74, "folder as config", "train --config conf --out run", "conf", "directory", make=bad.raw("conf/a", "x")),
    refused(74, "no config", "train --config nosuch --out run", "nosuch"),
    refused(
        *(74, "list of lists in a file", "train --config c.yaml --out run", "hidden", "line 3"),
        make=bad.raw("c.yaml", CONFIG + "hidden: [[1], [2]]\n"),
    ),
    refused(76, "negative seed", f"{TRAIN} ring --seed -1", "seed", "2^63"),
    refused(76, "huge seed", f"{TRAIN} ring --seed {10**25}", "seed", "2^63"),
    refused(76, "negative seed of the data", f"{TRAIN} ring --data-seed -1", "seed", "2^63"),
    refused(76, "negative seed of a sample", "sample digits --seed -1", "seed", "2^63", needs=("digits",)),
    refused(70, "fraction of 2", f"{TRAIN} ring --valid-fraction 2", "validation fraction", "below 1"),
    refused(68, "unknown device", f"{TRAIN} ring --device tpu", "'tpu'", "cpu"),
    refused(58, "unknown augmentation", f"{TRAIN} ring --augment wobble", "'wobble'", "shift, rotate"),
    refused(58, "augmented table", f"{TRAIN} a.csv --augment flip", "augmented", "images", make=bad.table()),
    # runs and folders
    refused(79, "run exists", f"{TRAIN} ring", "run exists already", "--out", make=bad.raw("run/a.txt", "mine")),
    refused(82, "folder that cannot be", "train vae --data digits --epochs 0 --out /proc/nosuch/run", "/proc/nosuch"),
    refused(82, "file where a folder belongs", f"{TRAIN} ring --out a.txt/run", "a.txt", make=bad.raw("a.txt", "mine")),
    refused(82, "sample to nowhere", "sample digits --out /proc/nosuch/a.png", "/proc/nosuch", needs=("digits",)),
    refused(
        82,
        "sample under a file",
        "sample digits --out a.txt/a.png",
        "a.txt",
        make=bad.raw("a.txt", "mine"),
        needs=("digits",),
    ),
    refused(82, "images as a table", "sample digits --out a.csv", ".csv", ".png", needs=("digits",)),
    refused(82, "table as an image", "sample table --out a.png", ".png", ".csv", needs=("table",)),
    fine(
        *(94, "no environment at all", f"data '{NAMED}'"),
        make=bad.table(NAMED),
        environment={},
        stdout=("age",),
    ),
    fine(
        *(94, "ascii terminal", f"data '{NAMED}'"),
        make=bad.table(NAMED, change={3: bad.cells(3, city="\u4e2d\u6587")}),
        environment={**PLAIN, "PYTHONIOENCODING": "ascii"},
        stdout=("age",),
    ),
    fine(94, "language C, home gone", f"{TRAIN} digits", environment={"LANG": "C", "HOME": "/nosuch"}, check=finite),
    refused(
        *(97, "half the weights", "evaluate digits", "model.safetensors", "damaged"),
        code=4,
        make=bad.cut("runs/digits/model/model.safetensors"),
        needs=("digits",),
    ),
    refused(
        *(98, "one bit of the weights", "sample digits", "model.safetensors", "SHA-256"),
        code=4,
        make=bad.flipped("runs/digits/model/model.safetensors"),
        needs=("digits",),
    ),
    refused(
        *(101, "weights of another shape", "sample digits", "(9, 64) in the file, (8, 64) in the model"),
        code=4,
        needs=("digits",),
        make=bad.forged(lambda w: w.update({k: t.new_zeros(9, 64) for k, t in w.items() if t.shape == (8, 64)})),
    ),
    refused(
        *(104, "weights of NaN", "sample digits", "NaN"),
        code=4,
        make=bad.forged(lambda w: next(iter(w.values())).fill_(float("nan"))),
        needs=("digits",),
    ),
    fine(
        *(97, "resume past a damaged checkpoint", "resume digits --epochs 2 --no-report", "step-999999", "damaged"),
        make=bad.older_checkpoint,
        needs=("digits",),
        changes="runs/digits",
    ),
    refused(
        *(97, "resume without a whole checkpoint", "resume digits --epochs 2", "damaged"),
        code=4,
        make=bad.cut("runs/digits/checkpoints/*/state.safetensors"),
        needs=("digits",),
    ),
    refused(
        *(101, "resume on changed data", "resume table --epochs 2", "not what table was trained on", "--init-from"),
        make=bad.table("t.csv", change={2: bad.cells(2, age="99")}),
        needs=("table",),
    ),
    refused(
        *(101, "resume on data that are gone", "resume table --epochs 2", "t.csv"),
        make=bad.without("t.csv"),
        needs=("table",),
    ),
    refused(
        *(97, "resume without checkpoints", "resume digits --epochs 2", "no checkpoint"),
        make=bad.without("runs/digits/checkpoints"),
        needs=("digits",),
    ),
    refused(79, "resume of a finished run", "resume digits", "1 epochs already", "--epochs above 1", needs=("digits",)),
    refused(
        *(101, "start from weights of other shapes", "train vae --data digits --hidden 9 --init-from digits --out run"),
        "(8, 64) in the trained model, (9, 64) in the new one",
        needs=("digits",),
    ),
    refused(79, "no such run", "evaluate nosuch", "'nosuch'", "digits", needs=("digits",)),
    refused(
        *(1, "split without rows", "evaluate table --split valid", "0 valid examples", "--split test or train"),
        needs=("table",),
    ),
    refused(58, "no such class", "sample cvae --label 11", "'11'", "0, 1, 2", needs=("cvae",)),
    refused(58, "class of a model without", "sample digits --label 1", "not conditional", needs=("digits",)),
    refused(
        59, "negative temperature", "sample digits --temperature -1", "temperature", "0 or more", needs=("digits",)
    ),
    refused(
        *(59, "temperatures of other levels", "sample digits --temperature 1 0.5", "2 temperatures", "1 latent group"),
        needs=("digits",),
    ),
    refused(
        *(59, "levels that are not there", "reconstruct digits --keep 2", "--keep cannot be 2", "0 to 1"),
        needs=("digits",),
    ),
    refused(70, "no samples", "sample digits --num 0", "0 samples", "at least 1", needs=("digits",)),
    refused(
        58,
        "images for a model of a table",
        "evaluate table --data photos",
        "photos",
        make=bad.pictures(),
        needs=("table",),
    ),
    refused(
        58,
        "table for a model of images",
        "evaluate digits --data a.csv",
        "a is a table",
        make=bad.table(),
        needs=("digits",),
    ),
    refused(
        *(101, "arrays of another shape", "evaluate digits --data a.npy", "(1, 5, 5)", "(1, 8, 8)"),
        make=bad.npy(bad.grey(9, 5, 5) % 17),
        needs=("digits",),
    ),
]


# --- running and judging --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(server, tmp_path_factory) -> Path:
    """Small runs of images, images with classes, and a table; the table's rows in t.csv."""
    folder = tmp_path_factory.mktemp("trained")
    bad.table("t.csv")(folder)
    commands = [
        "train vae --data digits --hidden 8 --latent-dim 2 --epochs 1 --no-report --out runs/digits",
        "train cvae --data digits --hidden 8 --latent-dim 2 --epochs 1 --no-report --out runs/cvae",
        "train vae --data t.csv --label kind --valid-fraction 0 --hidden 8 --latent-dim 2 --epochs 1 --no-report "
        "--out runs/table",
    ]
    for words in commands:
        code = server.run(words.split(), folder, folder / "out", folder / "err")
        assert code == 0, (folder / "err").read_text()
    return folder


def prepare(case: Case, folder: Path, trained: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name in case.needs:
        shutil.copytree(trained / "runs" / name, folder / "runs" / name)
        about = folder / "runs" / name / "data.json"
        about.write_text(about.read_text().replace(str(trained), str(folder)))
        shutil.copy(trained / "t.csv", folder / "t.csv")
    case.make(folder)


def judge(case: Case, result: Result) -> None:
    """What holds for every case."""
    said = result.stderr
    assert "Traceback" not in said
    assert result.code == case.code, said
    for text in case.stderr:
        assert text in said, f"{text!r} is missing in:\n{said}"
    for text in case.stdout:
        assert text in result.stdout, f"{text!r} is missing in:\n{result.stdout}"
    error = [line for line in said.splitlines() if line.startswith("error: ")]
    if case.code:
        assert len(error) == 1
        told = said.split(error[0])[1].splitlines()[1:]
        assert any(line.startswith(("  expected ", "  fix      ")) for line in told), f"what to do is missing:\n{said}"
        assert all(line.startswith("  ") for line in told), said
    else:
        assert not error
    after = contents(result.folder)
    kept = {n for n in result.before if not (case.changes and n.startswith(case.changes))}
    assert {n for n in kept if after.get(n) != result.before[n]} == set()
    assert {n for n in after if ".tmp" in n or ".old-" in n} == set()
    if case.code == 2:
        assert not (result.folder / "run" / "status.json").exists(), "a run was started"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_bad_input(case, tmp_path, trained, lowerbound):
    prepare(case, tmp_path, trained)
    before = contents(tmp_path)
    if case.prefix or case.environment is not None:
        result = from_the_start(tmp_path, case.words, prefix=case.prefix, environment=case.environment)
    else:
        result = lowerbound(tmp_path, case.words)
    judge(case, dataclasses.replace(result, before=before))
    if case.check is not None:
        case.check(tmp_path, result)
    if case.same_as:
        same_numbers(result, lowerbound(tmp_path, case.same_as))


def test_names_are_unique():
    assert len({case.id for case in CASES}) == len(CASES)


# --- what takes more than one process, or a folder of its own kind ---------------------------------------------------


def start(folder: Path, words: str) -> subprocess.Popen:
    return subprocess.Popen(
        [*COMMAND, *shlex.split(words)],
        cwd=folder, env=PLAIN, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_of_two_starts_at_once_exactly_one_wins(tmp_path):
    both = [start(tmp_path, f"{TRAIN} ring") for _ in range(2)]
    said = [process.communicate(timeout=SECONDS)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 2], said
    loser = said[0] if both[0].returncode else said[1]
    assert "run exists already" in loser
    assert "Traceback" not in "".join(said)
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "done"


@pytest.fixture
def tiny(small_disk):
    """A disk of 300 kB."""
    return small_disk("300k")


def fill(folder: Path, left: int) -> None:
    """Fill the disk but for `left` bytes."""
    space = os.statvfs(folder)
    (folder / "filler").write_bytes(bytes(space.f_bavail * space.f_frsize - left))


def judge_full(result: Result) -> None:
    assert result.code == 5, result.stderr
    assert "error: the disk is full" in result.stderr
    assert "Traceback" not in result.stderr
    assert {n for n in contents(result.folder) if ".tmp" in n or ".old-" in n} == set()


def test_a_disk_that_fills_while_a_checkpoint_is_written(tiny, trained, lowerbound):
    shutil.copytree(trained / "runs" / "digits", tiny / "runs" / "digits")
    before = contents(tiny)
    fill(tiny, 24 << 10)
    judge_full(lowerbound(tiny, "resume digits --epochs 2 --no-report"))
    after = contents(tiny)
    kept = [name for name in before if "/checkpoints/" in name]  # the model may be a newer one, whole as well
    assert kept and all(after[name] == before[name] for name in kept)
    (tiny / "filler").unlink()
    assert lowerbound(tiny, "resume digits --epochs 2 --no-report").code == 0  # nothing was lost: it goes on
    assert lowerbound(tiny, "sample digits --num 2").code == 0


@pytest.mark.parametrize(
    "words",
    [
        "evaluate digits --num-samples 2",
        "sample digits",
        "score digits --num-samples 2",
    ],
)
def test_a_disk_that_is_full_from_the_start(words, tiny, trained, lowerbound):
    shutil.copytree(trained / "runs" / "digits", tiny / "runs" / "digits")
    fill(tiny, 0)
    before = contents(tiny)
    judge_full(lowerbound(tiny, words))
    assert contents(tiny) == before


def test_output_to_a_full_device():
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*COMMAND, "recipes"], stdout=full, stderr=subprocess.PIPE, env=PLAIN, text=True)
    assert done.returncode == 5, done.stderr
    assert "error: the disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_second_ctrl_c_leaves_at_once_and_nothing_saved_is_lost(tmp_path, trained, lowerbound):
    shutil.copytree(trained / "runs" / "digits", tmp_path / "runs" / "digits")
    before = contents(tmp_path)
    with start(tmp_path, "resume digits --epochs 100000") as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("epoch"):
                process.send_signal(signal.SIGINT)
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
        process.wait(SECONDS)
    assert process.returncode == 130
    assert "Traceback" not in rest
    after = contents(tmp_path)
    assert all(after[name] == before[name] for name in before if "/checkpoints/" in name)
    assert {n for n in after if ".tmp" in n or ".old-" in n} == set()
    assert lowerbound(tmp_path, "sample digits --num 2").code == 0


def test_a_reader_that_takes_the_first_line_alone():
    words = ["bash", "-o", "pipefail", "-c", f"{shlex.join([*COMMAND, 'recipes'])} | head -1"]
    done = subprocess.run(words, capture_output=True, env=PLAIN, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr.startswith("next:")
    assert len(done.stderr.splitlines()) == 1


def test_everything_works_without_a_network(tmp_path):
    if subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode:
        pytest.skip("this machine does not let a process leave the network")
    result = from_the_start(tmp_path, f"{TRAIN} mnist --epochs 0", prefix=("unshare", "-n"))
    assert result.code == 0, result.stderr
