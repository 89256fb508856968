"""Image files: every picture of a folder becomes a row of one uint8 array, and what was changed for that is told."""

import errno
import mmap
import os
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from math import prod
from pathlib import Path, PurePath
from typing import Literal, TypeAlias, get_args

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

from ..core.errors import DataError, LowerboundError, OutOfResource, UsageError

Alpha: TypeAlias = Literal["refuse", "drop", "white", "black"]
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # nothing else is parsed: EPS would start Ghostscript
_MAX_PIXELS = 100_000_000
_MAX_BYTES = 16 << 30
_SPLITS = {
    "train": ("train", "training"),
    "valid": ("valid", "val", "validation"),
    "test": ("test", "testing"),
}
_DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_GREY = ("1", "L", "LA", "La", *_DEEP)
_SETTLED = {1: ("L", "LA", "La", *_DEEP), 3: ("RGB", "RGBA", "RGBa", "RGBX")}  # what other notes or none tell of
_MODES = {
    **{"1": "black and white", "L": "grey", "LA": "grey with alpha", "La": "grey with alpha"},
    **{"P": "palette", "PA": "palette with alpha", "RGB": "colour", "RGBA": "colour with alpha"},
    **{"RGBa": "colour with alpha", "RGBX": "colour", "CMYK": "", "YCbCr": ""},
    **dict.fromkeys(_DEEP, "grey"),
}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = [_TURNS[orientation] for orientation in (5, 6, 7, 8)]
_DAMAGE = (  # what Pillow raises on damaged files; its plugins guard against little
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, AssertionError),
    *(ArithmeticError, RuntimeError, MemoryError, struct.error, zlib.error, Image.DecompressionBombError),
)


@dataclass(frozen=True)
class Images:
    """What was read.

    Args:
        x: `[N, C, H, W]`, uint8; C is 1 (grey) or 3 (colour).
        labels: the class sub-folder of each, printable; None if the files lie directly in the folder.
        files: the path of each relative to the folder, as the file system has it.
        notes: lines for people, what was converted with counts.
        skipped: "file: reason" of each file that was left out.
    """

    x: np.ndarray
    labels: tuple[str, ...] | None
    files: tuple[str, ...]
    notes: tuple[str, ...]
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class _Head:
    """What the header of a file says; the size is (height, width) of the picture turned upright."""

    file: str
    mode: str
    size: tuple[int, int]
    turned: bool
    grey: bool
    alpha: bool
    deep: bool
    several: bool


def printable(text: str) -> str:
    """Return the text with control characters, and bytes of a name that are not UTF-8, escaped as in Python."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def is_image(path: Path) -> bool:
    """Tell by its name whether a path is an image to be read: one of `SUFFIXES`, and not hidden."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def has_images(folder: Path) -> bool:
    """Tell whether a folder holds at least one image, at most 2 levels down."""
    level = [folder]
    for _ in range(3):
        below: list[Path] = []
        for here in level:
            for path in _visible(here):
                if _is_folder(path):
                    below.append(path)
                elif is_image(path):
                    return True
        level = below
    return False


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    except OSError:
        return []


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # no right to look: whoever opens it is told
        return False


def split_folders(folder: Path) -> dict[str, Path]:
    """Return the sub-folders that are splits by name: train, and valid and test where there are such.

    Also training, val, validation and testing, in any case of letters; empty unless there is one for training.

    Raises:
        DataError: if two are one split, or if "train" may as well be a class, beside other folders of images alone.
    """
    inside = [p for p in _visible(folder) if _is_folder(p)]
    found = {split: [p for p in inside if p.name.lower() in names] for split, names in _SPLITS.items()}
    if not found["train"]:
        return {}
    for split, paths in found.items():
        if len(paths) > 1:
            names = " and ".join(p.name for p in paths)
            raise DataError(f"{names} are both the {split} split", where=printable(str(folder)), expected="one folder")
    splits = {split: paths[0] for split, paths in found.items() if paths}
    others = [p for p in inside if p not in splits.values() and has_images(p)]
    if others and len(splits) == 1:
        raise DataError(
            f"{splits['train'].name} may be a split or a class: {printable(others[0].name)} lies beside it",
            where=printable(str(folder)),
            fix="rename it if it is a class, or give the path of the training folder alone",
        )
    return splits


@dataclass(frozen=True)
class Pictures:
    """Image files whose headers were read: they have one shape, and each can be decoded by its number.

    Args:
        folder: where they lie.
        heads: what their headers say.
        shape: `(C, H, W)` of each once decoded.
        alpha: what becomes of transparent pixels.
        notes: lines for people.
        skipped: "file: reason" of each file that was left out.
    """

    folder: Path
    heads: list[_Head]
    shape: tuple[int, int, int]
    alpha: Alpha
    notes: tuple[str, ...]
    skipped: tuple[str, ...]

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The class sub-folder of each, printable; None if the files lie directly in the folder."""
        return tuple(printable(h.file.split("/")[0]) for h in self.heads) if "/" in self.heads[0].file else None

    @property
    def files(self) -> tuple[str, ...]:
        """The path of each relative to the folder, as the file system has it."""
        return tuple(h.file for h in self.heads)

    def decode(self, number: int, tally: Counter[str]) -> np.ndarray:
        """Return one picture, `[C, H, W]` uint8; what had to be done for that is counted in `tally`.

        Raises:
            DataError: if it is damaged, or has transparent pixels that are refused.
        """
        head, clear = self.heads[number], tally["clear"]
        with _opened(self.folder, head.file, whole=True) as image:
            values = _values(image, self.folder, head, self.shape, self.alpha, tally)
        if tally["clear"] > clear and self.alpha == "refuse":
            raise _transparent(self.folder, head.file, self.heads)
        return values

    def told(self, tally: Counter[str]) -> tuple[str, ...]:
        """Return what was found and changed, once all were decoded."""
        return (*self.notes, *_notes(self.heads, self.shape[0], (0, *self.shape), self.alpha, tally))


def list_images(
    path: Path,
    *,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    alpha: Alpha = "refuse",
    skip_bad: bool = False,
) -> Pictures:
    """Read the headers of one image file or a folder of them; arguments and errors as for `read_images`."""
    _check_options(size, channels, alpha)
    folder, files, notes = _listed(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata, and of sizes that are checked here
        heads, skipped = _heads(folder, files, skip_bad=skip_bad)
    if not heads:
        raise DataError(f"0 examples in {printable(str(path))}", expected="images that can be read")
    if skipped:
        names = _few(sorted({*files} - {h.file for h in heads}))
        notes.append(f"skipped {len(skipped)} of {len(files)} files that cannot be read: {names}")
    channels = channels or (1 if all(h.grey for h in heads) else 3)
    shape = (channels, *(size or _common_size(heads, folder)))
    return Pictures(folder, heads, shape, alpha, tuple(notes), tuple(skipped))


def decoded_bytes(path: Path, size: tuple[int, int] | None) -> int:
    """Return about how many bytes the images of a folder take once decoded, by their number and the first of them."""
    folder, files, _ = _listed(path)
    height, width = size or (0, 0)
    for file in [] if size else files[:1]:
        with suppress(DataError), _opened(folder, file, whole=False) as image:
            width, height = image.size
    return len(files) * 3 * height * width


def read_images(
    path: Path,
    *,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    alpha: Alpha = "refuse",
    skip_bad: bool = False,
) -> Images:
    """Read one image file or a folder of them, sorted by path; the sub-folders of a folder are classes.

    Every header is read before memory is taken; then the files are decoded one at a time.

    Args:
        path: the file or folder.
        size: (height, width) to scale each image to so that it covers it, cut to the centre; None: all must be equal.
        channels: 1 (grey) or 3 (colour); None: grey if all are.
        alpha: what becomes of transparent pixels: refused, shown without transparency, or put on white or black.
        skip_bad: leave out files that cannot be read instead of refusing them.

    Raises:
        DataError: if there are no images, a file is damaged, animated, too large or of floating-point values, pixels
            are transparent, sizes differ, or files lie both in the folder and in sub-folders.
        UsageError: if an option has an impossible value.
    """
    listed = list_images(path, size=size, channels=channels, alpha=alpha, skip_bad=skip_bad)
    x = _room(len(listed.heads), listed.shape[0], listed.shape[1:])
    tally: Counter[str] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i, row in enumerate(x):
            row[:] = listed.decode(i, tally)
    return Images(x, listed.labels, listed.files, listed.told(tally), listed.skipped)


def _check_options(size: tuple[int, int] | None, channels: int | None, alpha: str) -> None:
    if size is not None and min(size) < 1:
        raise UsageError(f"an image cannot be {size[0]} x {size[1]}", expected="height and width, 1 or more")
    if channels not in (None, 1, 3):
        raise UsageError(f"an image cannot have {channels} channels", expected="1 (grey) or 3 (colour)")
    if alpha not in get_args(Alpha):
        raise UsageError(f"there is no way {alpha!r} to treat transparency", expected=", ".join(get_args(Alpha)))


def _listed(path: Path) -> tuple[Path, list[str], list[str]]:
    """Return the folder, the images in it and notes on what else is there."""
    if not _is_folder(path):
        return path.parent, [path.name], []
    try:
        files, left = _walk(path)
    except OSError as error:
        where = printable(os.fsdecode(error.filename or path))
        raise DataError(f"{where} cannot be read: {error.strerror}", where=printable(str(path))) from error
    if not files:
        suffixes = ", ".join(SUFFIXES)
        raise DataError(f"0 examples in {printable(str(path))}", expected=f"images: {suffixes}")
    direct = [file for file in files if "/" not in file]
    if 0 < len(direct) < len(files):
        nested = next(file for file in files if "/" in file)
        raise DataError(
            f"{len(direct)} images lie in the folder itself and {len(files) - len(direct)} in sub-folders: "
            f"{printable(direct[0])}, {printable(nested)}",
            where=printable(str(path)),
            expected="all in the folder, or all in one sub-folder for each class",
            fix="move the ones or the others",
        )
    return path, files, [f"ignored {len(names)} {what}: {_few(names)}" for what, names in left.items() if names]


def _walk(folder: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Return the images under a folder by relative path, sorted, and what is left aside and why."""
    others, hidden, again = [], [], []
    files: list[str] = []
    todo, seen = [""], set()
    while todo:
        inside = todo.pop()
        stat = (folder / inside).stat()
        if (stat.st_dev, stat.st_ino) in seen:  # links may form a loop
            again.append(inside)
            continue
        seen.add((stat.st_dev, stat.st_ino))
        for path in sorted((folder / inside).iterdir(), reverse=True):
            name = f"{inside}/{path.name}" if inside else path.name
            kept = todo if _is_folder(path) else files if is_image(path) else others
            (hidden if path.name.startswith(".") else kept).append(name)
    left = {"files that are no images": others, "hidden files": hidden, "links to folders read already": again}
    return sorted(files), {what: sorted(names) for what, names in left.items()}


def _few(names: Iterable[str], most: int = 5) -> str:
    names = [printable(name) for name in names]
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _bad(folder: Path, file: str, reason: str, fix: str = "replace the file") -> DataError:
    return DataError(
        f"{printable(file)}: {printable(reason)}",
        where=printable(str(folder / file)),
        fix=f"{fix}; --skip-bad leaves out files that cannot be read",
    )


_SIGNS = {b"\x89PNG": "PNG", b"\xff\xd8": "JPEG", b"RIFF": "WebP", b"GIF8": "GIF", b"BM": "BMP"}


def _reason(error: BaseException, start: bytes) -> str:
    if isinstance(error, UnidentifiedImageError):
        known = next((name for sign, name in _SIGNS.items() if start.startswith(sign)), None)
        if known is not None:
            return f"it is a damaged {known} image"
        found = f"it starts with {start!r}" if start else "it is empty"
        return f"it is no PNG, JPEG, WebP, BMP, GIF or TIFF image: {found}"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {_MAX_PIXELS:,} pixels: {error}"
    if isinstance(error, OSError) and error.strerror:
        return f"it cannot be read: {error.strerror}"
    return f"it is damaged: {str(error) or type(error).__name__}"


@contextmanager
def _opened(folder: Path, file: str, *, whole: bool) -> Iterator[ImageFile.ImageFile]:
    """Open a file as an image, and make a DataError of whatever Pillow raises on it, here and in the body.

    With `whole` the checksums of a PNG are compared first: Pillow does not when it decodes.
    """
    path, start = folder / file, b""
    try:
        if not path.is_file():
            path.stat()  # says what is wrong with a link
            raise _bad(folder, file, "it is no regular file")  # a pipe would be waited for
        with path.open("rb") as stream:
            start = stream.read(12)
            with _decoder(stream, whole=whole) as image:
                width, height = image.size
                if width * height > _MAX_PIXELS:
                    size = f"{height:,} x {width:,} (height x width)"
                    raise _bad(folder, file, f"it claims {size}, more than {_MAX_PIXELS:,} pixels", "scale it down")
                yield image
    except LowerboundError:
        raise
    except _DAMAGE as error:
        raise _bad(folder, file, _reason(error, start)) from error


def _decoder(stream: BufferedReader, *, whole: bool) -> ImageFile.ImageFile:
    image = Image.open(stream, formats=_FORMATS)
    if whole and image.format == "PNG":
        image.verify()  # uses it up
        image = Image.open(stream, formats=_FORMATS)
    return image


def _heads(folder: Path, files: list[str], *, skip_bad: bool) -> tuple[list[_Head], list[str]]:
    """Return the heads of the files, and a line for each that was skipped.

    To skip a file it has to be decoded here already, so that only good ones decide on size and channels.
    """
    heads: list[_Head] = []
    skipped: list[str] = []
    for file in files:
        try:
            with _opened(folder, file, whole=skip_bad) as image:
                head = _head(image, folder, file)
                if skip_bad:
                    _values(image, folder, head, (3, *head.size), "drop", Counter())
            heads.append(head)
        except DataError as error:
            if not skip_bad:
                raise
            skipped.append(str(error).split("\n")[0])
    return heads, skipped


def _head(image: ImageFile.ImageFile, folder: Path, file: str) -> _Head:
    several = bool(getattr(image, "is_animated", False))
    if several and image.format != "MPO":  # of an MPO the first is the photo, the others are for previews and depth
        raise _bad(folder, file, "it holds several pictures (animation or pages)", "save the one you mean as PNG")
    if image.mode not in _MODES:
        what = "floating-point values" if image.mode == "F" else f"colours of type {image.mode}"
        raise _bad(folder, file, f"it has {what}", "save it with 8 or 16 bits")
    turn = _turn(image)
    width, height = image.size
    if turn in _SIDEWAYS and image.format != "TIFF":  # Pillow turns TIFF itself
        width, height = height, width
    sixteen = any(";16" in str(tile[3]) for tile in image.tile[:1])  # in BMP that is a whole pixel
    deep = image.mode in _DEEP or (sixteen and image.format != "BMP")
    clear = image.has_transparency_data
    return _Head(file, image.mode, (height, width), turn is not None, _is_grey(image), clear, deep, several)


def _turn(image: ImageFile.ImageFile) -> Image.Transpose | None:
    """Return how the picture has to be turned as its EXIF data say; None if it is upright or they are damaged."""
    if image.format == "PNG" and "exif" not in image.info and image.fp is not None:
        with mmap.mmap(image.fp.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(b"eXIf") >= 0:
                image.load()  # it stands behind the pixels
    try:
        return _TURNS.get(Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1))  # PNG's own would decode
    except _DAMAGE:
        return None


def _is_grey(image: ImageFile.ImageFile) -> bool:
    if image.mode not in ("P", "PA") or image.palette is None:
        return image.mode in _GREY
    kind, raw = image.palette.getdata()
    planar, width = kind.endswith(";L"), len(kind.split(";")[0])
    entries = np.frombuffer(raw, np.uint8)[: len(raw) // width * width]
    entries = entries.reshape(width, -1) if planar else entries.reshape(-1, width).T
    return bool((entries[:3] == entries[0]).all())


def _common_size(heads: list[_Head], folder: Path) -> tuple[int, int]:
    sizes = Counter(h.size for h in heads).most_common()
    if len(sizes) > 1:
        listed = "; ".join(f"{height} x {width}: {count}" for (height, width), count in sizes[:5])
        rarest = next(h.file for h in heads if h.size == sizes[-1][0])
        raise DataError(
            f"the images have {len(sizes)} sizes (height x width: files): {listed}{'; ...' if len(sizes) > 5 else ''}",
            where=printable(str(folder / rarest)),
            expected="one size",
            fix="--image-size 64, or HEIGHT WIDTH",
        )
    return sizes[0][0]


def _room(count: int, channels: int, size: tuple[int, int]) -> np.ndarray:
    shape = (count, channels, *size)
    try:
        if prod(shape) <= _MAX_BYTES:
            return np.empty(shape, np.uint8)
    except MemoryError:
        pass
    raise DataError(
        f"{count} images of {channels} x {size[0]} x {size[1]} take {prod(shape) / 2**30:.1f} GiB",
        expected=f"{_MAX_BYTES >> 30} GiB or less, and no more than the memory that is free",
        fix="a smaller --image-size, or --memory map, which leaves them on disk",
    )


def _values(
    image: ImageFile.ImageFile, folder: Path, head: _Head, shape: tuple[int, ...], alpha: Alpha, tally: Counter[str]
) -> np.ndarray:
    """Return the picture as `[C, H, W]`, uint8, upright, opaque, of the shape wanted."""
    image.load()
    turn = _turn(image)
    upright = _eight_bits(image, folder, head.file, tally) if image.mode in _DEEP else image
    upright = upright if turn is None else upright.transpose(turn)
    if (upright.height, upright.width) != head.size:
        raise _bad(folder, head.file, "it changed while it was read", "try again")
    plain, mode = _opaque(upright, alpha, tally), "L" if shape[0] == 1 else "RGB"
    plain = plain if plain.mode == mode else plain.convert(mode)  # it would copy
    if head.size != shape[1:]:
        tally["resized"] += 1
        plain = ImageOps.fit(plain, (shape[2], shape[1]), Image.Resampling.LANCZOS)
    values = np.asarray(plain)
    return values[None] if shape[0] == 1 else values.transpose(2, 0, 1)


def picture_values(image: Image.Image, channels: int, size: tuple[int, int] | None, alpha: Alpha) -> np.ndarray:
    """Return a picture that is in memory and upright as `[C, H, W]` uint8, as the same file would give it.

    Raises:
        DataError: if it has transparent pixels that are refused, or values that no picture has.
    """
    tally: Counter[str] = Counter()
    if image.mode not in _MODES:
        raise DataError(f"a picture has colours of type {image.mode}", expected="8 or 16 bits", fix="convert it")
    plain = _eight_bits(image, Path(), "a picture", tally) if image.mode in _DEEP else image
    plain, mode = _opaque(plain, alpha, tally), "L" if channels == 1 else "RGB"
    if tally["clear"] and alpha == "refuse":
        raise DataError("a picture has transparent pixels", expected="opaque ones", fix="--alpha white, black or drop")
    plain = plain if plain.mode == mode else plain.convert(mode)
    if size is not None and (plain.height, plain.width) != size:
        plain = ImageOps.fit(plain, (size[1], size[0]), Image.Resampling.LANCZOS)
    values = np.asarray(plain)
    return values[None] if channels == 1 else values.transpose(2, 0, 1)


def _eight_bits(image: Image.Image, folder: Path, file: str, tally: Counter[str]) -> Image.Image:
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise _bad(folder, file, f"it has values from {low} to {high}", "save it with values of 0 to 65535")
    tally["peak"] = max(tally["peak"], high)
    grey = Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
    key = image.info.get("transparency")
    if key is not None:
        grey.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return grey


def _opaque(image: Image.Image, alpha: Alpha, tally: Counter[str]) -> Image.Image:
    if not image.has_transparency_data:
        return image
    image = image.convert("LA" if image.mode in _GREY else "RGBA")
    mask = image.getchannel("A")
    plain = image.convert(image.mode[:-1])
    if mask.getextrema() == (255, 255):
        tally["opaque"] += 1
        return plain
    tally["clear"] += 1
    if alpha in ("refuse", "drop"):
        return plain
    back = Image.new(plain.mode, plain.size, alpha)
    back.paste(plain, mask=mask)
    return back


def _transparent(folder: Path, file: str, heads: list[_Head]) -> DataError:
    return DataError(
        f"{printable(file)} has transparent pixels",
        where=printable(str(folder / file)),
        expected=f"opaque ones; {sum(h.alpha for h in heads)} of {len(heads)} files know transparency",
        fix="--alpha white or --alpha black to put them on that colour, --alpha drop to ignore transparency",
    )


def _notes(heads: list[_Head], channels: int, shape: tuple[int, ...], alpha: str, tally: Counter[str]) -> list[str]:
    modes = Counter(h.mode for h in heads if h.mode not in _SETTLED[channels])
    kinds = [f"{count} {_MODES[mode]} ({mode})" if _MODES[mode] else f"{count} {mode}" for mode, count in modes.items()]
    deep, turned, several = (sum(flags) for flags in zip(*((h.deep, h.turned, h.several) for h in heads), strict=True))
    peak = f"; the largest value is {tally['peak']}" if tally["peak"] else ""
    clear = "ignored the transparency of {}" if alpha == "drop" else f"put {{}} with transparent pixels on {alpha}"
    told = {
        f"converted to {'grey' if channels == 1 else 'colour'}: {', '.join(kinds)}": len(kinds),
        f"reduced {deep} from 16 bits to 8 (65535 to 255){peak}": deep,
        f"turned {turned} upright, as their EXIF orientation says": turned,
        f"took the first picture of {several} photos with several (MPO)": several,
        f"dropped the alpha channel of {tally['opaque']}, which is opaque": tally["opaque"],
        clear.format(tally["clear"]): tally["clear"],
        f"resized {tally['resized']} to {shape[2]} x {shape[3]}, cut to the centre": tally["resized"],
    }
    return [f"{note} (of {len(heads)} images)" for note, count in told.items() if count]


def write_images(folder: Path, x: np.ndarray, names: Sequence[str] | None = None) -> list[Path]:
    """Write each image as a PNG and return the paths; files of these names are replaced.

    Args:
        folder: where to; it is made if need be, and nothing is written outside it.
        x: `[N, C, H, W]`, uint8, C 1 or 3.
        names: path of each relative to the folder, its suffix becomes .png; None: 000000.png, 000001.png, ...

    Raises:
        DataError: if x is no such array, or names are not one for each image, equal, or lead outside the folder.
        OutOfResource: if the disk is full.
    """
    if x.dtype != np.uint8 or x.ndim != 4 or x.shape[1] not in (1, 3) or 0 in x.shape[1:]:
        raise DataError(f"images cannot be written from {x.dtype} {x.shape}", expected="uint8 [N, 1 or 3, H, W]")
    digits = max(6, len(str(len(x) - 1)))
    targets = _targets(folder, [f"{i:0{digits}}.png" for i in range(len(x))] if names is None else names, len(x))
    for values, target in zip(x, targets, strict=True):
        picture = Image.fromarray(values[0] if len(values) == 1 else np.ascontiguousarray(values.transpose(1, 2, 0)))
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            picture.save(target, "PNG")
        except OSError as error:
            kind = OutOfResource if error.errno in (errno.ENOSPC, errno.EDQUOT) else DataError
            where = printable(str(target))
            raise kind(f"{where} cannot be written: {error.strerror or error}", where=where) from error
    return targets


def _targets(folder: Path, names: Sequence[str], count: int) -> list[Path]:
    if len(names) != count:
        raise DataError(f"{len(names)} names were given for {count} images", expected="one for each")
    bare = [str(PurePath(n).with_suffix("")) if PurePath(n).suffix.lower() in SUFFIXES else n for n in names]
    if len(set(bare)) < len(names):
        bare = list(names)  # a.jpg and a.png become a.jpg.png and a.png.png
    targets = [folder / f"{name}.png" for name in bare]
    try:
        inside = folder.resolve()
        found = [target.resolve() for target in targets]  # a link may lead elsewhere, too
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"a name cannot be a file's: {error}", where=printable(str(folder))) from error
    for name, target in zip(names, found, strict=True):
        if not target.is_relative_to(inside) or PurePath(name).name in ("", ".."):
            raise DataError(f"{printable(name)!r} is no name of a file inside the folder", where=printable(str(folder)))
    if len(set(found)) < count:
        name = next(name for name, times in Counter(found).items() if times > 1).name
        raise DataError(f"two images would be written as {printable(name)}", where=printable(str(folder)))
    return targets
