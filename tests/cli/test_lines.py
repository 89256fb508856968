"""The command line on a file of lines: from texts to texts."""

import pytest

TEXTS = [f"{a}{b}{c}" for a in ("ka", "mo", "ri", "") for b in ("sun", "tel") for c in ("a", "os", "ix", "")]


@pytest.fixture
def home(tmp_path, monkeypatch, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").write_text("\n".join(TEXTS * 4) + "\n")
    (tmp_path / "new.txt").write_text("kasunix\nrisun\n")
    small = ("--width", "8", "--latent-dim", "2", "--epochs", "1", "--no-report")
    assert told("train", "sequence_vae", "--data", "lines:names.txt", *small, "--out", "runs/n")[0] == 0
    return tmp_path


def test_texts_go_in_and_texts_come_out(home, told):
    for words, file, count in (
        (("sample", "runs/n", "--num", "7"), "samples-draw.txt", 7),
        (("reconstruct", "runs/n", "--data", "new.txt"), "reconstructions-mean.txt", 2),
        (("interpolate", "runs/n", "--from", "0", "--to", "1", "--steps", "5"), "interpolation-line-mean.txt", 5),
    ):
        code, _, err = told(*words)
        assert code == 0, err
        lines = (home / "runs/n/samples" / file).read_text().split("\n")
        assert len(lines) == count + 1
        assert set("".join(lines)) <= set("".join(TEXTS))
    code, _, err = told("score", "runs/n", "--data", "lines:new.txt", "--json")
    assert code == 0, err
    assert told("evaluate", "runs/n", "--num-samples", "20")[0] == 0
    assert told("report", "runs/n")[0] == 0
    page = (home / "runs/n/report.html").read_text()
    tables = [part.split("</table>")[0] for part in page.split("<table>")[1:]]
    heads = [table.split("</thead>")[0] for table in tables]
    first = (home / "runs/n/samples/interpolation-line-mean.txt").read_text().split("\n")[0]
    assert sum(">text<" in head for head in heads) == 2  # samples, and the originals beside their reconstructions
    way = next(table for table in tables if "share of the way" in table)
    assert f"<td>0%</td><td>{first}</td><td>{first}</td>" in way


def test_what_a_model_of_lines_cannot_take_is_said(home, told):
    (home / "bad.txt").write_text("\n\nkasunix\r\n\nkasu!\n")  # empty lines are left out and counted
    code, _, err = told("score", "runs/n", "--data", "bad.txt")
    assert code == 2
    assert "line 5, symbol 5" in err
    (home / "bad.txt").write_text("\nkasunix\n" + "ka" * 20)
    assert "line 3" in told("score", "runs/n", "--data", "bad.txt")[2]
    (home / "bad.txt").write_text("\nka\n" + "ka" * 5001)
    code, _, err = told("train", "sequence_vae", "--data", "lines:bad.txt")
    assert code == 2
    assert "10,002 symbols" in err and "line 3" in err
    (home / "bad.txt").write_text("kasu\nmotel\n", encoding="utf-16")
    assert "--encoding utf-16" in told("data", "lines:bad.txt")[2]
    assert told("data", "lines:bad.txt", "--encoding", "utf-16")[0] == 0
    code, _, err = told("denoise", "runs/n", "--noise", "gaussian", "--amount", "0.1")
    assert code == 2
    assert "symbols" in err
    code, _, err = told("sample", "runs/n", "--out", "x.png")
    assert code == 2
    assert ".txt, .npz" in err
    code, _, err = told("train", "vae", "--data", "lines:names.txt")
    assert code == 2
    assert "sequence_vae" in err
    code, _, err = told("train", "sequence_vae", "--data", "lines:names.txt", "--label", "kind")
    assert code == 2
    assert "have no columns" in err
    assert "from_sequences" in err
    code, out, _ = told("data", "lines:names.txt")
    assert code == 0
    assert "each symbol is scored given those before it" in out
