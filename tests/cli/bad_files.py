"""Files that a user gives by mistake, and small right ones; each function returns one that writes into a folder."""

import gzip
import hashlib
import json
import os
import shutil
import struct
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from safetensors.torch import load_file, save_file

CITIES = ("Oslo", "Rome", "Lima")
HEADER = "age,income,city,unit,kind"
ROWS = [f"{20 + i % 31},{1000.5 + 37 * i},{CITIES[i % 3]},7,{'ab'[i % 2]}" for i in range(40)]


def both(*makers):
    """Apply several makers."""

    def make(folder):
        for maker in makers:
            maker(folder)

    return make


def raw(name, content):
    """A file of these bytes or this text."""

    def make(folder):
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return make


def table(name="a.csv", header=HEADER, rows=ROWS, change=None, **options):
    """A CSV; `change` maps the number of a row to the text it has instead."""
    lines = [header, *(change.get(i, row) if change else row for i, row in enumerate(rows))]
    return raw(name, (options.get("newline", "\n").join(lines) + "\n").encode(options.get("encoding", "utf-8")))


def cells(row=0, **changed):
    """One row of the table with some cells changed."""
    values = dict(zip(HEADER.split(","), ROWS[row].split(","), strict=True))
    return ",".join({**values, **changed}.values())


def columns(*names, name="a.csv"):
    """The right table with these columns alone, in this order."""
    place = [HEADER.split(",").index(name) for name in names]
    rows = [",".join(row.split(",")[i] for i in place) for row in ROWS]
    return table(name, header=",".join(names), rows=rows)


def normal(*shape, seed=0):
    """Real values."""
    return np.random.default_rng(seed).normal(size=shape)


def grey(*shape, seed=0):
    """Bytes."""
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def npz(name="a.npz", **arrays):
    """A .npz file of arrays."""

    def make(folder):
        np.savez(folder / name, **arrays)

    return make


def npy(x, name="a.npy"):
    """A .npy file of one array."""

    def make(folder):
        np.save(folder / name, x)

    return make


def lying_npy(folder):
    """A .npy file whose header claims terabytes."""
    np.save(folder / "a.npy", normal(50, 4))
    content = (folder / "a.npy").read_bytes()
    (folder / "a.npy").write_bytes(content.replace(b"(50, 4), }      ", b"(9999999999, 4),}", 1)[: len(content)])


def nan_at(row, column, shape=(50, 3)):
    """Real values with one NaN."""
    x = normal(*shape)
    x[row, column] = np.nan
    return x


def idx(name, shape, content, kind=8, magic=b"\0\0"):
    """An IDX file: its header claims `shape`."""
    head = magic + bytes([kind, len(shape)]) + b"".join(struct.pack(">I", n) for n in shape)
    return raw(name, head + content)


def parquet(name="a.parquet", share=1.0):
    """A Parquet file, cut to a share of its bytes."""

    def make(folder):
        pq.write_table(pa.table({"a": normal(50), "b": normal(50, seed=1)}), folder / name)
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * share)])

    return make


def pictures(count=12, folder_name="photos", size=(8, 8)):
    """A folder of grey PNGs a0.png, a1.png, ..."""

    def make(folder):
        (folder / folder_name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.fromarray(grey(*size, seed=i)).save(folder / folder_name / f"a{i}.png")

    return make


def picture(name, mode="L", value=100, size=(8, 8), **options):
    """One image file of one colour."""

    def make(folder):
        image = Image.new("RGB", size, (value, value // 2, 0)).convert(mode)
        if mode in ("RGBA", "LA"):
            image.putalpha(options.pop("opacity", 255))
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, **options)

    return make


def turned(folder):
    """A photo that lies on its side, as its EXIF says."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(grey(8, 8)).save(folder / "photos" / "b.jpg", exif=exif)


def animated(folder):
    """A GIF of two pictures."""
    frames = [Image.fromarray(grey(8, 8, seed=i)) for i in range(2)]
    frames[0].save(folder / "photos" / "b.gif", save_all=True, append_images=frames[1:])


def damaged_png(folder):
    """A PNG of which one byte of the pixels is another."""
    Image.fromarray(grey(8, 8)).save(folder / "photos" / "b.png")
    content = bytearray((folder / "photos" / "b.png").read_bytes())
    content[content.index(b"IDAT") + 12] ^= 255
    (folder / "photos" / "b.png").write_bytes(bytes(content))


def huge_png(folder):
    """A PNG of a hundred bytes that claims 40 gigapixels."""
    head = struct.pack(">IIBBBBB", 200_000, 200_000, 8, 0, 0, 0, 0)

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(b"\0" * 50)), chunk(b"IEND", b""))
    (folder / "photos" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def dangling(name):
    """A link to nothing: a file that is there and cannot be opened, also by root."""

    def make(folder):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(folder / "gone")

    return make


def packed(name, text):
    """A gzip file."""
    return raw(name, gzip.compress(text.encode()))


def without(*names):
    """Remove files or folders of a run."""

    def make(folder):
        for path in (folder / name for name in names):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return make


def cut(name, share=0.5):
    """Cut a file to a share of its bytes."""

    def make(folder):
        for path in sorted(folder.glob(name)):
            content = path.read_bytes()
            path.write_bytes(content[: int(len(content) * share)])

    return make


def flipped(name):
    """Flip one bit in the middle of a file."""

    def make(folder):
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 4
        (folder / name).write_bytes(bytes(content))

    return make


def forged(change):
    """Change the weights of runs/digits and sign them, as another version or a forger would."""

    def make(folder):
        model = folder / "runs" / "digits" / "model"
        weights = load_file(model / "model.safetensors")
        change(weights)
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, model / "model.safetensors")
        manifest = json.loads((model / "MANIFEST.json").read_text())
        content = (model / "model.safetensors").read_bytes()
        manifest["files"]["model.safetensors"] = hashlib.sha256(content).hexdigest()
        (model / "MANIFEST.json").write_text(json.dumps(manifest))

    return make


def older_checkpoint(folder):
    """Give runs/digits a second, damaged checkpoint that is newer than its right one."""
    inside = folder / "runs" / "digits" / "checkpoints"
    (last,) = inside.iterdir()
    shutil.copytree(last, inside / "step-999999")
    cut("runs/digits/checkpoints/step-999999/state.safetensors")(folder)
