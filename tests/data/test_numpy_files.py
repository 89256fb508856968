"""NumPy files: layouts, names, byte orders, and a refusal by name for everything that is no plain array."""

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from numpy.lib import format as npy

from lowerbound.core.errors import DataError
from lowerbound.data import numpy_files
from lowerbound.data.numpy_files import read_arrays, read_npy, read_npz

X = np.arange(7 * 4 * 3, dtype=np.float32).reshape(7, 4, 3) / 8
Y = np.array([2, 0, 1, 1, 0, 2, 1])
TEST_X, TEST_Y = X[:5] + 1, Y[:5]


def saved(array):
    """Return the bytes of a .npy file."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def headed(text, body=b"", version=(1, 0)):
    """Return a .npy file of the header's text as it stands."""
    raw = text.encode()
    return npy.magic(*version) + struct.pack("<H" if version == (1, 0) else "<I", len(raw)) + raw + body


def claiming(shape, descr="'<f4'", body=b""):
    return headed(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}", body)


def put(folder, content, name="some.npy"):
    path = folder / name
    path.write_bytes(content)
    return path


def zipped(folder, members, name="some.npz", **options):
    path = folder / name
    with zipfile.ZipFile(path, "w", **options) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return path


def arrays(folder, **members):
    return zipped(folder, {f"{name}.npy": saved(np.asarray(array)) for name, array in members.items()})


@pytest.mark.parametrize(
    "array",
    [X, np.asfortranarray(X), X.astype(">f4"), np.asfortranarray(X.astype(">f8")), X[::-2, ::-1, 1:], Y, Y > 0,
     (X * 8).astype(np.uint8), (X * 8).astype(">u2"), X.astype(np.float16), np.float32(2.5), np.zeros((0, 3))],
    ids=lambda a: f"{np.asarray(a).dtype.str}{np.asarray(a).shape}",
)  # fmt: skip
def test_every_layout_and_byte_order_gives_the_same_values(array, tmp_path):
    mapped = read_npy(put(tmp_path, saved(array)))
    (read,) = read_npz(arrays(tmp_path, x=array)).values()
    for found in (mapped, read):
        np.testing.assert_array_equal(found, array)
        assert found.shape == np.shape(array)
        assert found.dtype == np.asarray(array).dtype.newbyteorder("=")
        assert found.dtype.isnative


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_is_read(version, tmp_path):
    stream = io.BytesIO()
    npy.write_array(stream, X, version=version)
    np.testing.assert_array_equal(read_npy(put(tmp_path, stream.getvalue())), X)


def test_a_header_of_python_2_is_read(tmp_path):
    path = put(tmp_path, headed("{'descr': '<f4', 'fortran_order': False, 'shape': (7L, 4L, 3L)}", X.tobytes()))
    np.testing.assert_array_equal(read_npy(path), X)


def test_a_npy_file_is_mapped_and_writing_to_it_leaves_the_file_alone(tmp_path):
    path = put(tmp_path, saved(X))
    found = read_npy(path)
    assert isinstance(found, np.memmap)
    tensor = torch.from_numpy(found)  # a read-only map would make torch warn, which fails here
    tensor += 1
    np.testing.assert_array_equal(read_npy(path), X)


def test_members_can_be_written_to_and_may_be_compressed(tmp_path):
    np.savez_compressed(tmp_path / "c.npz", x=X)
    tensor = torch.from_numpy(read_npz(tmp_path / "c.npz")["x"])
    tensor += 1
    np.testing.assert_array_equal(tensor.numpy(), X + 1)


TEN_TB = 10 * 10**12
NOT_ARRAYS = {
    "empty": (b"", "some.npy is empty"),
    "page": (b"<!DOCTYPE html><html>", "not a .npy file: it starts with b'<!DOCTYP'"),
    "zip": (b"PK\x03\x04 and so on", "not a .npy file: it starts with b'PK"),
    "magic alone": (saved(X)[:6], "header of some.npy cannot be read"),
    "inside the header": (saved(X)[:40], "header of some.npy cannot be read: EOF"),
    "version": (npy.MAGIC_PREFIX + b"\x09\x00" + saved(X)[8:], "its version is 9.0"),
    "no dict": (headed("[1, 2]"), "not a dictionary"),
    "no keys": (headed("{'descr': '<f4'}"), "cannot be read"),
    "no literal": (headed("{'descr': open('/etc/passwd')}"), "cannot be read"),
    "deep": (headed("(" * 5000), "cannot be read"),
    "unhashable": (headed("{[]: 1}"), "cannot be read"),
    "long": (headed("{" + " " * 20000 + "}"), "is large"),
    "length that lies": (npy.magic(2, 0) + struct.pack("<I", 2**32 - 1) + b"{}", "EOF"),
    "no type": (claiming((3,), "'<q7'"), "cannot be read"),
    "negative": (claiming((-2, 3)), r"claims the shape \(-2, 3\)"),
    "two negatives": (claiming((-2, -3), body=bytes(24)), r"claims the shape"),
    "huge": (claiming((2**40, 2**40)), "claims the shape"),
    "huge and empty": (claiming((0, 2**40, 2**40)), "claims the shape"),
    "no number Python prints": (claiming("(0x" + "f" * 6000 + ",)"), "impossible shape of 1 axes"),
    "axes": (claiming((1,) * 40, body=bytes(4)), "impossible shape of 40 axes"),
    "10 TB": (claiming((TEN_TB // 4,)), rf"holds 0 bytes of values\n.*some.npy\n.*{TEN_TB:,}"),
    "short": (saved(X)[:-1], r"holds 335 bytes of values\n.*some.npy\n.*336, from its shape \(7, 4, 3\) of float32"),
    "longer": (saved(X) + b"\0", r"holds 337 bytes of values\n.*some.npy\n.*336"),
    "objects": (saved(np.array([{}, 1], dtype=object)), "holds Python objects, which are never unpickled"),
    "records": (saved(np.zeros(3, "<i4,<f8")), "holds records"),
    "records of objects": (saved(np.zeros(3, "O,<f8")), "Python objects"),
    "subarrays": (claiming((3,), "('<f4', (2,))", bytes(24)), "holds records"),
    "complex": (saved(np.zeros((3, 2), complex)), r"complex values \(complex128\)"),
    "dates": (saved(np.zeros(3, "M8[s]")), "holds dates"),
    "times": (saved(np.zeros(3, "m8[s]")), "holds times"),
    "text": (saved(np.array(["a", "bc"])), "holds text"),
    "text of no bytes": (claiming((10**12,), "'<U0'"), "holds text"),
}


@pytest.mark.parametrize("name", NOT_ARRAYS)
def test_what_is_no_plain_array_is_refused_by_name(name, tmp_path):
    content, message = NOT_ARRAYS[name]
    with pytest.raises(DataError, match=message) as caught:
        read_npy(put(tmp_path, content))
    assert "some.npy" in str(caught.value)
    assert len(str(caught.value)) < 1000
    if name != "text":
        with pytest.raises(DataError, match=r"member 'x\.npy' of some\.npz"):
            read_npz(zipped(tmp_path, {"x.npy": content}))


@pytest.mark.parametrize("read", [read_npy, read_npz])
def test_what_cannot_be_opened_is_refused_by_name(read, tmp_path):
    for path in (tmp_path, tmp_path / "nothing.npz"):
        with pytest.raises(DataError, match=f"{path.name} cannot be read"):
            read(path)


@pytest.mark.parametrize("content", [b"", b"<html>", saved(X)])
def test_what_is_no_zip_file_is_refused_by_name(content, tmp_path):
    with pytest.raises(DataError, match=r"some\.npz is (empty|not a zip file: it starts with b)"):
        read_npz(put(tmp_path, content, "some.npz"))


def test_members_that_are_no_arrays(tmp_path):
    with pytest.raises(DataError, match=r"'notes\.txt' of some\.npz is not a \.npy file"):
        read_npz(zipped(tmp_path, {"x.npy": saved(X), "notes.txt": b"hello"}))
    with pytest.raises(DataError, match=r"'x\.npy' of some\.npz is packed in an unknown way"):
        read_npz(zipped(tmp_path, {"x.npy": saved(X)}, compression=zipfile.ZIP_BZIP2))
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(tmp_path / "two.npz", "w") as archive:
        archive.writestr("x.npy", saved(X))
        archive.writestr("x.npy", saved(X))
    with pytest.raises(DataError, match=r"two\.npz holds 'x\.npy' more than once"):
        read_npz(tmp_path / "two.npz")


def test_an_encrypted_member(tmp_path):
    content = bytearray(arrays(tmp_path, x=X).read_bytes())
    content[6] |= 1  # the flag in the member's own header, then that in the table of contents
    content[content.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(DataError, match=r"'x\.npy' of some\.npz is encrypted"):
        read_npz(put(tmp_path, bytes(content), "some.npz"))


def test_a_flipped_bit_in_a_member(tmp_path):
    content = bytearray(arrays(tmp_path, x=X).read_bytes())
    content[200] ^= 1
    with pytest.raises(DataError, match=r"'x\.npy' of some\.npz is damaged: Bad CRC"):
        read_npz(put(tmp_path, bytes(content), "some.npz"))


def test_a_member_that_delivers_less_than_its_table_says(tmp_path):
    size = 10**9
    content = bytearray(zipped(tmp_path, {"x.npy": claiming((size,), "'|u1'", b"abc")}).read_bytes())
    start = content.index(b"PK\x01\x02")
    (held,) = struct.unpack_from("<I", content, start + 24)
    struct.pack_into("<I", content, start + 24, held - 3 + size)
    path = put(tmp_path, bytes(content), "some.npz")
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"'x\.npy' of some\.npz holds 3 bytes of values\n.*\n.*1,000,000,000"):
            read_npz(path)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = zipped(tmp_path, {"x.npy": saved(np.zeros(10**6, np.uint8))}, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 5000
    monkeypatch.setattr(numpy_files, "_MAX_UNPACKED", 10**6)
    with pytest.raises(DataError, match=r"some\.npz unpacks to 1,000,128 bytes"):
        read_npz(path)
    monkeypatch.setattr(numpy_files, "_MAX_UNPACKED", 10**6 + 128)
    assert read_npz(path)["x"].shape == (10**6,)


def test_text_with_impossible_characters(tmp_path):
    content = saved(np.array(["ab"]))[:-8] + b"\xff" * 8
    with pytest.raises(DataError, match=r"'y\.npy' of some\.npz holds text with impossible characters"):
        read_npz(zipped(tmp_path, {"y.npy": content}))


def test_the_examples_of_a_npy_file(tmp_path):
    found = read_arrays(put(tmp_path, saved(X), "Some.NPY"))
    np.testing.assert_array_equal(found.x, X)
    assert (found.y, found.weight, found.test, found.notes) == (None, None, None, ())


KERAS = ("x_train", "y_train", "x_test", "y_test")
LAYOUTS = [
    KERAS,
    ("X_Train", "Y_TRAIN", "X_test", "Y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("train_x", "train_y", "test_x", "test_y"),
    ("x", "y", "x_test", "y_test"),
]


@pytest.mark.parametrize("names", LAYOUTS, ids=lambda names: names[0])
def test_training_and_test_splits_by_name(names, tmp_path):
    found = read_arrays(arrays(tmp_path, **dict(zip(names, (X, Y, TEST_X, TEST_Y), strict=True))))
    assert found.test is not None
    for array, expected in zip((found.x, found.y, *found.test), (X, Y, TEST_X, TEST_Y), strict=True):
        np.testing.assert_array_equal(array, expected)
    assert found.weight is None
    assert found.notes == ()


NAMED = [
    ("x", "y", "weight"), ("X", "labels", "weights"), ("data", "label", "sample_weight"), ("images", "Y", "Weight"),
    ("arr_0", "Targets", "weights"), ("samples", "targets", "weight"), ("features", "target", "weight"),
    ("anything", "labels", "weight"),
]  # fmt: skip


@pytest.mark.parametrize(("x", "y", "weight"), NAMED)
def test_examples_labels_and_weights_by_name(x, y, weight, tmp_path):
    found = read_arrays(arrays(tmp_path, **{weight: Y / 2, y: Y, x: X}))
    for array, expected in ((found.x, X), (found.y, Y), (found.weight, Y / 2)):
        np.testing.assert_array_equal(array, expected)
    assert found.test is None
    assert found.notes == ()


@pytest.mark.parametrize("names", [["cat", "a\u05d0\U0001f600", "b\0c", "cat", "d", "", "e"]])
def test_labels_as_text_or_as_a_column(names, tmp_path):
    text = np.array(names)
    for given in (text, text.astype(">U9"), np.array([name.encode() for name in names])):
        found = read_arrays(arrays(tmp_path, x=X, y=given))
        assert found.y is not None
        assert found.y.tolist() == names
    np.testing.assert_array_equal(read_arrays(arrays(tmp_path, x=X, y=Y[:, None])).y, Y)


def test_a_test_split_without_labels_and_arrays_nobody_reads(tmp_path):
    found = read_arrays(arrays(tmp_path, x_train=X, x_test=TEST_X, val_images=X[:3], seed=np.int64(4), y_test=TEST_Y))
    assert found.y is None
    assert found.test is not None
    np.testing.assert_array_equal(found.test[1], TEST_Y)
    assert found.notes == ("some.npz: 'x_train' is x; not used: 'val_images' (3, 4, 3), 'seed' ()",)
    found = read_arrays(arrays(tmp_path, images=X, features=X[..., 0], y_test=TEST_Y))
    np.testing.assert_array_equal(found.x, X)
    assert found.test is None
    assert found.notes == ("some.npz: 'images' is x; not used: 'features' (7, 4), 'y_test' (5,)",)


ODD = {
    "nothing": ({}, r"not clear: it holds no arrays\n"),
    "two": ({"a": X, "b": X[:2]}, r"not clear: 'a' \(7, 4, 3\), 'b' \(2, 4, 3\)\n.*\n.*expected .*x_train"),
    "one axis": ({"a": Y}, r"not clear: 'a' \(7,\)"),
    "labels alone": ({"y": Y[:, None]}, "not clear"),
    "test alone": ({"x_test": X}, "not clear"),
    "many": ({f"a{i}": X for i in range(23)}, r"'a19' \(7, 4, 3\) and 3 more\n"),
    "case": ({"x": X, "X": X}, r"names of some.npz differ by case alone: 'x' \(7, 4, 3\), 'X'"),
    "short labels": ({"x": X, "y": Y[:6]}, "'y' of some.npz has 6 values, for 7 examples"),
    "label table": ({"x": X, "y": np.zeros((7, 2))}, r"'y' of some.npz has shape \(7, 2\), for 7 examples"),
    "one label": ({"x": X, "y": np.int64(3)}, r"'y' of some.npz has shape \(\), for 7 examples"),
    "short weights": ({"x": X, "weights": Y[:6]}, "'weights' of some.npz has 6 values, for 7 examples"),
    "weights as text": ({"x": X, "weights": Y.astype(str)}, "weights 'weights' of some.npz are text"),
    "short test labels": ({"x": X, "x_test": TEST_X, "y_test": Y}, "'y_test' of some.npz has 7 values, for 5 examples"),
    "text": ({"x": np.full((3, 2), "a")}, "'x' of some.npz is text"),
    "no rows": ({"x": X[:0]}, "0 examples in .*some.npz"),
    "no test rows": ({"x": X, "x_test": X[:0]}, "0 examples in .*some.npz\n.*x_test"),
    "no values": ({"x": X[:, :0]}, r"'x' of some.npz has shape \(7, 0, 3\)"),
    "flat": ({"x": Y}, r"'x' of some.npz has shape \(7,\)"),
    "number": ({"x": np.int64(1)}, r"'x' of some.npz has shape \(\)"),
}


@pytest.mark.parametrize("name", ODD)
def test_archives_without_clear_examples(name, tmp_path):
    members, message = ODD[name]
    with pytest.raises(DataError, match=message):
        read_arrays(arrays(tmp_path, **members))


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [(saved(X[:0]), "a.npy", r"0 examples in .*a\.npy"), (saved(Y), "a.npy", r"the array of a\.npy has shape \(7,\)"),
     (saved(X), "a.txt", r"a\.txt is no NumPy file")],
)  # fmt: skip
def test_npy_files_without_examples(content, name, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read_arrays(put(tmp_path, content, name))
