"""`lowerbound encode RUN`: codes of examples."""

from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import numpy as np

from ..core.spec import DataSpec
from ..explore.latents import encode_rows
from ..explore.write_rows import rows_written
from .common import RowsOptions, open_rows
from .mistakes import parse
from .output import wrote
from .score import name_type, parts_of, row_names


@dataclass(kw_only=True)
class Encode(RowsOptions):
    """Write each row's code: z and sd (mean and standard deviation of q(z|x)), its place, and its label."""

    out: Path | None = None
    """File to write: .npz, .csv or .parquet (default: samples/codes in the run, in the form of the data)."""


def command(words: list[str]) -> int:
    """Run `lowerbound encode`."""
    options = parse(Encode, words, "encode")
    opened = open_rows(options)
    path = options.out or opened.folder / "samples" / "codes"
    path = path if path.suffix else path.with_name(path.name + _suffix(opened.spec))
    size, rows = 0, opened.rows
    names = name_type(rows)
    with rows_written(path, len(rows)) as write:
        for _, part in parts_of(rows):
            codes = encode_rows(opened.model, part)
            z = codes.mean.flatten(1).numpy()
            columns, size = {**row_names(part, names), "z": z, "sd": codes.scale.flatten(1).numpy()}, z.shape[1]
            if part.y is not None:
                columns["label"] = np.asarray(rows.spec.classes)[part.y.cpu().numpy()]
            write(columns)
    following = f"lowerbound decode {quote(options.run)} {quote(str(path))}"
    return wrote(path, following, as_json=options.json, num=len(rows), latent_dim=size)


def _suffix(spec: DataSpec) -> str:
    return {"csv": ".csv", "parquet": ".parquet"}.get(spec.form, ".npz")
