"""Image files: what comes out of every kind of them, what is said of it, and what is refused."""

import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lowerbound.core.errors import DataError, UsageError
from lowerbound.data.images import (
    SUFFIXES,
    has_images,
    is_image,
    printable,
    read_images,
    split_folders,
    write_images,
)

H, W = 9, 13
EXIF_ORIENTATION = 0x0112


def pixels(n, channels=3, seed=0):
    """Return n random images [n, H, W(, channels)]."""
    shape = (n, H, W) if channels == 1 else (n, H, W, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def save(path, values, mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


def refused(path, *words, **options):
    with pytest.raises(DataError) as caught:
        read_images(path, **options)
    text = str(caught.value)
    assert all(line.isprintable() for line in text.split("\n")), text
    for word in words:
        assert word in text, text
    return text


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, *chunks, depth=8, colour=0):
    """Return a PNG with a header of these sizes and the given chunks."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = (chunk(b"IHDR", header), *chunks, chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(("channels", "suffix"), [(1, ".png"), (3, ".png"), (3, ".bmp"), (1, ".tif"), (3, ".tiff")])
def test_lossless_files_come_back_in_the_order_of_their_names(channels, suffix, tmp_path):
    values = pixels(3, channels)
    for name, one in zip("cab", values, strict=True):
        save(tmp_path / f"{name}{suffix}", one)
    found = read_images(tmp_path)
    assert found.files == (f"a{suffix}", f"b{suffix}", f"c{suffix}")
    assert found.x.dtype == np.uint8
    assert found.x.shape == (3, channels, H, W)
    assert (found.labels, found.notes, found.skipped) == (None, (), ())
    for row, index in zip(found.x, (1, 2, 0), strict=True):
        for c in range(channels):
            expected = values[index] if channels == 1 else values[index][..., c]
            np.testing.assert_array_equal(row[c], expected)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_suffix_is_read(suffix, tmp_path):
    save(tmp_path / f"a{suffix.upper()}", np.full((H, W), 200, np.uint8))
    found = read_images(tmp_path)
    assert found.x.shape == (1, 3 if suffix == ".webp" else 1, H, W)
    assert np.abs(found.x.astype(int) - 200).max() <= 2


def test_one_file_is_read_whatever_its_name(tmp_path):
    values = pixels(1)[0]
    save(tmp_path / "a", values, format="PNG")
    found = read_images(tmp_path / "a")
    assert (found.files, found.labels) == (("a",), None)
    np.testing.assert_array_equal(found.x[0].transpose(1, 2, 0), values)


def test_sub_folders_are_classes_and_the_rest_is_told(tmp_path):
    for name in ("dog/x/1.png", "cat/2.png", "dog/0.png"):
        save(tmp_path / name, pixels(1)[0])
    for name in ("a.txt", "cat/b.json", ".DS_Store", "dog/._0.png"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    found = read_images(tmp_path)
    assert found.files == ("cat/2.png", "dog/0.png", "dog/x/1.png")
    assert found.labels == ("cat", "dog", "dog")
    assert found.notes == (
        "ignored 2 files that are no images: a.txt, cat/b.json",
        "ignored 2 hidden files: .DS_Store, dog/._0.png",
    )


def test_files_beside_sub_folders_are_refused(tmp_path):
    save(tmp_path / "a.png", pixels(1)[0])
    save(tmp_path / "dog/b.png", pixels(1)[0])
    refused(tmp_path, "1 images lie in the folder itself and 1 in sub-folders", "dog/b.png", "move")


def test_no_images(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    refused(tmp_path, "0 examples in", str(tmp_path))
    refused(tmp_path / "missing", "missing", "No such file")


def test_links_may_form_loops(tmp_path):
    save(tmp_path / "dog/b.png", pixels(1)[0])
    (tmp_path / "dog/up").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to("self")
    found = read_images(tmp_path)
    assert found.files == ("dog/b.png",)
    assert "ignored 1 links to folders read already: dog/up" in found.notes
    (tmp_path / "dog/loop.png").symlink_to("loop.png")
    refused(tmp_path, "dog/loop.png", "symbolic links")


def test_modes_are_converted_and_counted(tmp_path):
    colour, grey = pixels(1)[0], pixels(1, 1)[0]
    save(tmp_path / "a.png", colour)
    for i in range(3):
        save(tmp_path / f"b{i}.png", grey)
    save(tmp_path / "c.png", colour, "P")
    save(tmp_path / "d.jpg", colour, "CMYK")
    save(tmp_path / "e.png", grey, "1")
    found = read_images(tmp_path)
    assert found.x.shape == (7, 3, H, W)
    np.testing.assert_array_equal(found.x[0], colour.transpose(2, 0, 1))
    np.testing.assert_array_equal(found.x[1], np.stack([grey] * 3))
    assert set(np.unique(found.x[6])) == {0, 255}
    (note,) = found.notes
    assert note.startswith("converted to colour: 3 grey (L), 1 palette (P), 1 CMYK, 1 black and white (1)")
    dark = read_images(tmp_path, channels=1)
    assert dark.x.shape == (7, 1, H, W)
    luma = colour @ np.array([0.299, 0.587, 0.114])  # ITU-R 601-2
    assert np.abs(dark.x[0, 0] - luma).max() <= 1
    assert "converted to grey: 1 colour (RGB)" in dark.notes[0]


@pytest.mark.parametrize("suffix", [".png", ".gif", ".tif", ".bmp"])
@pytest.mark.parametrize("grey", [True, False])
def test_a_palette_of_greys_is_grey(suffix, grey, tmp_path):
    indices = pixels(1, 1)[0] % 4
    palette = np.array([[9, 9, 9], [200, 200, 200], [3, 3, 3], [90, 90, 90 if grey else 91]], np.uint8)
    image = Image.fromarray(indices).convert("P")
    image.putpalette(palette.tobytes())
    image.save(tmp_path / f"a{suffix}")
    found = read_images(tmp_path)
    expected = palette[indices].transpose(2, 0, 1)
    np.testing.assert_array_equal(found.x[0], expected[:1] if grey else expected)


def test_grey_is_kept_or_made_colour(tmp_path):
    save(tmp_path / "a.png", pixels(1, 1)[0])
    assert read_images(tmp_path).x.shape == (1, 1, H, W)
    assert read_images(tmp_path, channels=3).x.shape == (1, 3, H, W)


@pytest.mark.parametrize(("suffix", "dtype"), [(".png", np.uint16), (".tif", np.uint16), (".tif", np.int32)])
def test_16_bits_become_8_by_the_exact_ratio(suffix, dtype, tmp_path):
    values = np.arange(H * W, dtype=dtype).reshape(H, W) * 560
    values.flat[-1] = 65535
    save(tmp_path / f"a{suffix}", values)
    found = read_images(tmp_path)
    np.testing.assert_array_equal(found.x[0, 0], np.rint(values / 257).astype(np.uint8))
    assert found.notes == ("reduced 1 from 16 bits to 8 (65535 to 255); the largest value is 65535 (of 1 images)",)


def test_16_bits_with_a_transparent_value(tmp_path):
    values = np.full((H, W), 5 * 257, np.uint16)
    values[2, 3] = 7
    save(tmp_path / "a.png", values, transparency=7)
    refused(tmp_path, "transparent")
    found = read_images(tmp_path, alpha="white")
    assert found.x[0, 0, 2, 3] == 255
    assert (np.delete(found.x.ravel(), 2 * W + 3) == 5).all()


def test_16_bits_of_colour_are_told(tmp_path):
    rows = b"".join(b"\0" + bytes(range(6)) * 4 for _ in range(5))
    (tmp_path / "a.png").write_bytes(png(4, 5, chunk(b"IDAT", zlib.compress(rows)), depth=16, colour=2))
    found = read_images(tmp_path)
    np.testing.assert_array_equal(found.x[0, :, 0, 0], [0, 2, 4])
    assert found.notes == ("reduced 1 from 16 bits to 8 (65535 to 255) (of 1 images)",)


@pytest.mark.parametrize("values", [np.zeros((H, W), np.float32), np.full((H, W), 65536), np.full((H, W), -1)])
def test_values_beyond_16_bits_are_refused(values, tmp_path):
    save(tmp_path / "a.png", pixels(1, 1)[0])
    save(tmp_path / "b.tif", values.astype(np.float32 if values.dtype == np.float32 else np.int32))
    refused(tmp_path, "b.tif", "values")
    assert read_images(tmp_path, skip_bad=True).files == ("a.png",)


def rgba():
    """Return [H, W, 4] values whose alpha takes every value from 0 on."""
    values = pixels(1, 4)[0]
    values[..., 3] = np.arange(H * W).reshape(H, W) * 2
    return values


@pytest.mark.parametrize(("colour", "ground"), [("white", 255), ("black", 0)])
def test_transparent_pixels_are_put_on_a_colour(colour, ground, tmp_path):
    values = rgba()
    save(tmp_path / "a.png", values)
    save(tmp_path / "b.png", pixels(1)[0])
    refused(tmp_path, "a.png has transparent pixels", "1 of 2 files", "--alpha")
    found = read_images(tmp_path, alpha=colour)
    share = values[..., 3:] / 255
    expected = values[..., :3] * share + ground * (1 - share)
    assert np.abs(found.x[0] - expected.transpose(2, 0, 1)).max() <= 0.51
    assert found.notes == (f"put 1 with transparent pixels on {colour} (of 2 images)",)
    dropped = read_images(tmp_path, alpha="drop")
    np.testing.assert_array_equal(dropped.x[0], values[..., :3].transpose(2, 0, 1))
    assert dropped.notes == ("ignored the transparency of 1 (of 2 images)",)


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1"])
def test_every_way_to_be_transparent_is_seen(mode, tmp_path):
    image = Image.new("RGB", (W, H), (255, 255, 255)).convert(mode)
    image.putpixel((0, 0), (0, 0, 0) if mode == "RGB" else 0)
    first = image.getpixel((0, 0))
    image.save(tmp_path / "a.png", transparency=first)
    refused(tmp_path, "transparent")
    assert (read_images(tmp_path, alpha="white").x == 255).all()
    assert (read_images(tmp_path, alpha="drop").x[:, :, 0, 0] == 0).all()


def test_a_grey_image_with_alpha_stays_grey(tmp_path):
    values = rgba()[..., 2:]
    Image.fromarray(values, "LA").save(tmp_path / "a.png")
    found = read_images(tmp_path, alpha="drop")
    np.testing.assert_array_equal(found.x[0, 0], values[..., 0])


def test_an_opaque_alpha_channel_is_dropped(tmp_path):
    values = pixels(1, 4)[0]
    values[..., 3] = 255
    save(tmp_path / "a.png", values)
    found = read_images(tmp_path)
    np.testing.assert_array_equal(found.x[0], values[..., :3].transpose(2, 0, 1))
    assert found.notes == ("dropped the alpha channel of 1, which is opaque (of 1 images)",)


UPRIGHT = {  # what is stored, from the picture as it is to be seen, by the definition of the tag
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[:, ::-1],
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_pictures_are_turned_upright(orientation, suffix, tmp_path):
    shown = pixels(1)[0]
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    options = {"lossless": True} if suffix == ".webp" else {}
    save(tmp_path / f"a{suffix}", np.ascontiguousarray(UPRIGHT[orientation](shown)), exif=exif, **options)
    save(tmp_path / f"b{suffix}", shown, **options)
    found = read_images(tmp_path)
    np.testing.assert_array_equal(found.x[0], found.x[1])
    np.testing.assert_array_equal(found.x[0], shown.transpose(2, 0, 1))
    told = () if orientation == 1 else ("turned 1 upright, as their EXIF orientation says (of 2 images)",)
    assert found.notes == told


def test_an_orientation_behind_the_pixels_of_a_png(tmp_path):
    shown = pixels(1)[0]
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    whole = save(tmp_path / "a.png", np.ascontiguousarray(UPRIGHT[6](shown))).read_bytes()
    late = chunk(b"eXIf", exif.tobytes()[6:])
    (tmp_path / "a.png").write_bytes(whole[:-12] + late + whole[-12:])
    np.testing.assert_array_equal(read_images(tmp_path).x[0], shown.transpose(2, 0, 1))


def test_16_bits_of_colour_with_a_transparent_value(tmp_path):
    rows = b"".join(b"\0" + bytes([9, 9] * 12) for _ in range(5))
    key = chunk(b"tRNS", bytes([1, 2] * 3))
    (tmp_path / "a.png").write_bytes(png(4, 5, key, chunk(b"IDAT", zlib.compress(rows)), depth=16, colour=2))
    assert (read_images(tmp_path).x == 9).all()


def test_damaged_exif_data_are_passed_over(tmp_path):
    save(tmp_path / "a.jpg", pixels(1)[0], exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert read_images(tmp_path).x.shape == (1, 3, H, W)


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif"])
def test_several_pictures_in_one_file_are_refused(suffix, tmp_path):
    first, *others = [Image.fromarray(a) for a in pixels(3)]
    first.save(tmp_path / f"a{suffix}", save_all=True, append_images=others)
    refused(tmp_path, f"a{suffix}", "several pictures")


def test_of_the_photos_of_a_telephone_the_first_is_taken(tmp_path):
    first, second = [Image.fromarray(a) for a in pixels(2)]
    first.save(tmp_path / "a.mpo", save_all=True, append_images=[second], quality=100, subsampling=0)
    (tmp_path / "a.mpo").rename(tmp_path / "a.jpg")
    found = read_images(tmp_path)
    assert np.abs(found.x[0].astype(int) - np.asarray(first).transpose(2, 0, 1)).max() < 20
    assert found.notes == ("took the first picture of 1 photos with several (MPO) (of 1 images)",)


def test_unequal_sizes_are_refused_and_listed(tmp_path):
    for i in range(3):
        save(tmp_path / f"a{i}.png", pixels(1)[0])
    for i in range(1, 7):
        save(tmp_path / f"b{i}.png", np.zeros((20 + i, 5), np.uint8))
    text = refused(tmp_path, "7 sizes", "9 x 13: 3; 21 x 5: 1;", "...", "b6.png", "--image-size 64, or HEIGHT WIDTH")
    assert "25 x 5" not in text


@pytest.mark.parametrize("size", [(4, 6), (20, 7), (30, 50), (1, 1)])
def test_scaled_images_cover_the_size_and_are_cut_to_the_centre(size, tmp_path):
    values = np.empty((12, 40, 3), np.uint8)
    values[:, :20], values[:, 20:] = 60, 160  # far from 0 and 255, which would cut the overshoot of the filter
    save(tmp_path / "a.png", values)
    save(tmp_path / "b.png", np.full((*size, 3), 77, np.uint8))
    found = read_images(tmp_path, size=size)
    assert found.x.shape == (2, 3, *size)
    row = found.x[0, 0].astype(int)
    assert np.abs(row + row[:, ::-1] - 220).max() <= 2
    assert (found.x[1] == 77).all()
    assert found.notes == (f"resized 1 to {size[0]} x {size[1]}, cut to the centre (of 2 images)",)


def test_equal_aspect_is_not_cut(tmp_path):
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (32, 1))
    save(tmp_path / "a.png", ramp)
    found = read_images(tmp_path, size=(16, 32)).x[0, 0]
    assert np.abs(found[5, 2:-2] - (np.arange(2, 30) * 8 + 2.0)).max() <= 1  # means of pairs


BAD = {
    "empty": b"",
    "text": b"<!DOCTYPE html><html>403</html>",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 13\n",
    "ppm": b"P6 1 1 255 abc",
    "head": b"\x89PNG\r\n\x1a\n",
    "text bomb": png(
        3, 5, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(8 << 20))), chunk(b"IDAT", zlib.compress(bytes(20)))
    ),
    "short": png(W, H, chunk(b"IDAT", zlib.compress(bytes(7)))),
    "no pixels": png(W, H),
    "nothing": png(0, 0, chunk(b"IDAT", zlib.compress(b""))),
}


@pytest.mark.parametrize("kind", BAD)
def test_damaged_files_are_refused_or_skipped(kind, tmp_path):
    values = pixels(2)
    save(tmp_path / "a.png", values[0])
    save(tmp_path / "c.png", values[1])
    (tmp_path / "b.png").write_bytes(BAD[kind])
    refused(tmp_path, "b.png: it ", str(tmp_path / "b.png"), "--skip-bad")
    found = read_images(tmp_path, skip_bad=True)
    np.testing.assert_array_equal(found.x, values.transpose(0, 3, 1, 2))
    assert found.files == ("a.png", "c.png")
    assert len(found.skipped) == 1
    assert found.skipped[0].startswith("b.png: it ")
    assert found.notes == ("skipped 1 of 3 files that cannot be read: b.png",)
    refused(tmp_path / "b.png", "0 examples", skip_bad=True)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".gif", ".bmp", ".tif"])
def test_half_a_file_is_refused(suffix, tmp_path):
    whole = save(tmp_path / f"a{suffix}", pixels(1)[0]).read_bytes()
    (tmp_path / f"a{suffix}").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path, f"a{suffix}: it ")


def test_a_skipped_file_decides_nothing(tmp_path):
    save(tmp_path / "a.png", pixels(1, 1)[0])
    whole = save(tmp_path / "b.png", np.zeros((30, 40, 3), np.uint8)).read_bytes()
    (tmp_path / "b.png").write_bytes(whole[:-20])
    assert read_images(tmp_path, skip_bad=True).x.shape == (1, 1, H, W)


def test_what_is_no_file(tmp_path):
    save(tmp_path / "a.png", pixels(1)[0])
    (tmp_path / "b.png").symlink_to(tmp_path / "nowhere")
    refused(tmp_path, "b.png", "No such file")
    (tmp_path / "b.png").unlink()
    os.mkfifo(tmp_path / "b.png")
    refused(tmp_path, "b.png", "no regular file")
    assert read_images(tmp_path, skip_bad=True).files == ("a.png",)


def test_every_flipped_bit_of_a_png_is_seen(tmp_path):
    values = pixels(1, 1)[0][:3, :5].copy()
    path = save(tmp_path / "a.png", values)
    whole = path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        end = len(whole) - 12
        if end <= place < end + 4 or place >= end + 8:  # length and checksum of the chunk that ends it mean nothing
            np.testing.assert_array_equal(read_images(path).x[0, 0], values)
        else:
            refused(path, "a.png: it ")


@pytest.mark.parametrize("size", [(10_001, 10_000), (14_000, 13_000), (65_000, 65_000)])
def test_a_header_of_too_many_pixels(size, tmp_path):
    (tmp_path / "a.png").write_bytes(png(*size, chunk(b"IDAT", b"")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refused(tmp_path, "a.png", "100,000,000 pixels")


def test_more_bytes_than_there_may_be(tmp_path):
    save(tmp_path / "a.png", pixels(1)[0])
    refused(tmp_path, "1 images", "24.1 GiB", "--image-size", size=(92_900, 92_900))


@pytest.mark.parametrize("options", [{"size": (0, 4)}, {"channels": 2}])
def test_impossible_options(options, tmp_path):
    save(tmp_path / "a.png", pixels(1)[0])
    with pytest.raises(UsageError):
        read_images(tmp_path, **options)


def test_names_that_are_not_utf8_or_not_printable(tmp_path):
    name, broken = os.fsdecode(b"n\xff\n\x1b.png"), os.fsdecode(b"o\xfe.png")
    save(tmp_path / "d\x07" / name, pixels(1)[0])
    found = read_images(tmp_path)
    assert found.files == (f"d\x07/{name}",)
    assert found.labels == ("d\\x07",)
    (tmp_path / "d\x07" / broken).write_bytes(b"\x1b[31m")
    refused(tmp_path, "d\\x07/o\\udcfe.png")
    told = read_images(tmp_path, skip_bad=True)
    assert all(line.isprintable() for line in (*told.notes, *told.skipped))


def test_printable():
    assert printable("é 猫 🐈 a\\b") == "é 猫 🐈 a\\b"
    assert printable("a\0b\n\u202e\udcff") == "a\\x00b\\n\\u202e\\udcff"


def test_is_image():
    assert [is_image(Path(n)) for n in ("a.PNG", "b/c.jpeg", ".a.png", "a.txt", ".png")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_has_images_looks_two_levels_down(tmp_path):
    assert not has_images(tmp_path / "missing")
    save(tmp_path / "a/b/c/d.png", pixels(1)[0])
    assert not has_images(tmp_path)
    assert has_images(tmp_path / "a")
    assert not has_images(tmp_path / "a/b/c/d.png")


def test_split_folders(tmp_path):
    assert split_folders(tmp_path) == {}
    for name in ("Training", "val"):
        (tmp_path / name).mkdir()
    assert split_folders(tmp_path) == {"train": tmp_path / "Training", "valid": tmp_path / "val"}
    (tmp_path / "validation").mkdir()
    with pytest.raises(DataError, match="val and validation are both the valid split"):
        split_folders(tmp_path)


def test_a_class_called_train_is_not_taken_for_a_split_silently(tmp_path):
    for name in ("train", "bus"):
        save(tmp_path / name / "a.png", pixels(1)[0])
    with pytest.raises(DataError, match="bus lies beside it"):
        split_folders(tmp_path)
    (tmp_path / "train").rename(tmp_path / "test")
    assert split_folders(tmp_path) == {}


@pytest.mark.parametrize("channels", [1, 3])
def test_written_images_come_back(channels, tmp_path):
    x = np.random.default_rng(1).integers(0, 256, (3, channels, H, W), np.uint8)
    paths = write_images(tmp_path / "out", x)
    assert [p.name for p in paths] == ["000000.png", "000001.png", "000002.png"]
    np.testing.assert_array_equal(read_images(tmp_path / "out").x, x)


def test_written_images_keep_given_names(tmp_path):
    x = np.random.default_rng(1).integers(0, 256, (3, 1, H, W), np.uint8)
    paths = write_images(tmp_path, x, ["cat/a.jpg", "cat/b.PNG", "v1.2"])
    assert paths == [tmp_path / n for n in ("cat/a.png", "cat/b.png", "v1.2.png")]
    assert all(p.is_file() for p in paths)
    assert [p.name for p in write_images(tmp_path, x[:2], ["a.jpg", "a.png"])] == ["a.jpg.png", "a.png.png"]


@pytest.mark.parametrize("name", ["../a", "/tmp/a", "", "..", "a/../../b", "out/a", "link", "a\0"])
def test_nothing_is_written_outside_the_folder(name, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "out").symlink_to(tmp_path)
    (folder / "link.png").symlink_to(tmp_path / "a.png")
    with pytest.raises(DataError):
        write_images(folder, np.zeros((2, 1, H, W), np.uint8), ["fine", name])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]
    assert sorted(p.name for p in folder.iterdir()) == ["link.png", "out"]


def test_what_cannot_be_written(tmp_path):
    x = np.zeros((2, 1, H, W), np.uint8)
    for values, names in ((x[0], None), (x.astype(float), None), (x, ["a"]), (x, ["a", "a"]), (x[:, :, :0], None)):
        with pytest.raises(DataError):
            write_images(tmp_path, values, names)
    (tmp_path / "000001.png").mkdir()
    with pytest.raises(DataError, match="cannot be written"):
        write_images(tmp_path, x)
