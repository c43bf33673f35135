"""A file has its name only when it is whole."""

import pytest

from camid_utils import files


def test_a_whole_file_takes_its_name_and_leaves_nothing_beside(tmp_path):
    path = files.write_text(tmp_path / "new" / "folder" / "note.txt", "Größe 3 × 4\n")
    assert path.read_text(encoding="utf-8") == "Größe 3 × 4\n"
    assert [p.name for p in path.parent.iterdir()] == ["note.txt"]


@pytest.mark.parametrize("before", [None, "old"])
def test_an_interrupted_file_leaves_what_was_there(tmp_path, before):
    path = tmp_path / "note.txt"
    if before:
        path.write_text(before)
    with pytest.raises(KeyboardInterrupt), files.complete(path) as partial:
        partial.write_text("half of the n")
        assert partial.parent == path.parent  # else the last step would be a copy, which can be cut short
        assert not path.exists() or path.read_text() == "old"
        raise KeyboardInterrupt
    assert [p.read_text() for p in tmp_path.iterdir()] == ([before] if before else [])


def test_a_block_that_wrote_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), files.complete(tmp_path / "note.txt"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_file_is_replaced(tmp_path):
    for text in ("first", "second"):
        files.write_text(tmp_path / "note.txt", text)
    assert (tmp_path / "note.txt").read_text() == "second"
