"""Tables of patches: what a CSV and a folder may look like, and what is refused and how."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsicomp.datasets.patches import IMAGE_SUFFIXES, PatchTable, read_image
from wsicomp.errors import DataError

RGB = (200, 100, 50)


def picture(path: Path, size: tuple[int, int] = (6, 4), mode: str = "RGB") -> Path:
    """A plain image, (width, height) pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, RGB).convert(mode).save(path)
    return path


def table(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "index.csv"
    path.write_text(text, encoding=encoding)
    return path


FULL = """path,label,group,split,organ,diagnosis
a.png,benign,g1,train,lung,none
b.png,malignant,g1,train,,adenocarcinoma
sub/c.png,malignant,g2,test,breast,ductal
"""


def refusal(data: Path, **options: str) -> str:
    with pytest.raises(DataError) as caught:
        PatchTable.load(data, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestCsv:
    def test_every_column_is_read_in_order(self, tmp_path: Path) -> None:
        path = table(tmp_path / "set", FULL)
        loaded = PatchTable.load(path)
        assert loaded.name == "set"
        rows = [(p.path, p.label, p.group, p.split, p.organ) for p in loaded.patches]
        assert rows == [
            (path.parent / "a.png", "benign", "g1", "train", "lung"),
            (path.parent / "b.png", "malignant", "g1", "train", "set"),  # no organ: the table's own name
            (path.parent / "sub/c.png", "malignant", "g2", "test", "breast"),
        ]

    def test_a_folder_with_an_index_is_the_index(self, tmp_path: Path) -> None:
        path = table(tmp_path / "set", FULL)
        picture(tmp_path / "set" / "benign" / "stray.png")
        assert PatchTable.load(path.parent) == PatchTable.load(path)

    @pytest.mark.parametrize(
        ("columns", "expected"),
        [
            ("path,group,slide_id", "mine"),
            ("path,slide_id,group", "theirs"),
            ("path,slide_id,other", "mine"),
            ("path,other,third", "a.png"),
        ],
    )
    def test_the_group_is_group_or_slide_id_or_the_patch_itself(
        self, tmp_path: Path, columns: str, expected: str
    ) -> None:
        loaded = PatchTable.load(table(tmp_path, f"{columns}\na.png,mine,theirs\n"))
        assert loaded.groups().tolist() == [expected]

    def test_only_a_path_is_needed(self, tmp_path: Path) -> None:
        loaded = PatchTable.load(table(tmp_path, "path\na.png\nb.png\n"))
        assert [(p.label, p.split) for p in loaded.patches] == [("", None)] * 2
        assert not loaded.has_splits
        assert loaded.groups().tolist() == ["a.png", "b.png"]

    def test_the_label_may_be_another_column(self, tmp_path: Path) -> None:
        loaded = PatchTable.load(table(tmp_path, FULL), label_column="diagnosis")
        assert loaded.classes() == ("adenocarcinoma", "ductal", "none")

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
    @pytest.mark.parametrize("newline", ["\n", "\r\n"])
    def test_a_spreadsheets_byte_order_mark_and_line_ends_do_not_matter(
        self, tmp_path: Path, encoding: str, newline: str
    ) -> None:
        path = tmp_path / "index.csv"
        path.write_bytes(FULL.replace("\n", newline).encode(encoding))
        assert PatchTable.load(path).classes() == ("benign", "malignant")

    def test_a_cell_too_many_is_ignored(self, tmp_path: Path) -> None:
        path = table(tmp_path, "path,label\na.png,benign,surplus\n")
        assert PatchTable.load(path).classes() == ("benign",)
        assert refusal(path, label_column="stage").endswith("has no column 'stage'; its columns are: path, label")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "no patches in it"),
            ("path,label\n", "no patches in it"),
            ("file,label\na.png,benign\n", "has no column 'path'"),
            ("path,split\na.png,train\nb.png,holdout\n", "line 3: split 'holdout' is none of train, val, test"),
            ("path,label\n,benign\n", "line 2: a value is missing"),
            ("label,path\nbenign,a.png\nbenign\n", "line 3: a value is missing"),
            ("path,label,slide_id\na.png,benign\n", "line 2: a value is missing"),
        ],
    )
    def test_a_table_that_cannot_be_used_is_refused(self, tmp_path: Path, text: str, message: str) -> None:
        path = table(tmp_path, text)
        assert refusal(path).startswith(str(path))
        assert message in refusal(path)

    def test_a_missing_label_column_is_refused_with_those_there_are(self, tmp_path: Path) -> None:
        message = refusal(table(tmp_path, "path,label\na.png,benign\n"), label_column="stage")
        assert message.endswith("has no column 'stage'; its columns are: path, label")

    def test_an_image_in_place_of_a_table_is_refused(self, tmp_path: Path) -> None:
        assert "cannot be read as a CSV" in refusal(picture(tmp_path / "a.png"))

    def test_what_is_not_there_is_refused(self, tmp_path: Path) -> None:
        assert "no such file or folder" in refusal(tmp_path / "missing")

    @pytest.mark.parametrize("data", [".", "index.csv"])
    def test_a_table_in_the_working_folder_has_that_folders_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str
    ) -> None:
        table(tmp_path / "set", "path\na.png\n")
        monkeypatch.chdir(tmp_path / "set")
        loaded = PatchTable.load(Path(data))
        assert (loaded.name, loaded.patches[0].organ) == ("set", "set")


class TestFolders:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        root = tmp_path / "lymphoma"
        for name in ("MCL/2.png", "CLL/b.JPG", "CLL/a.tif"):
            picture(root / name)
        (root / "CLL" / "notes.txt").write_text("not a patch")
        picture(root / "loose.png")
        return root

    def test_classes_are_folders_and_each_patch_is_its_own_group(self, folder: Path) -> None:
        loaded = PatchTable.load(folder)
        assert loaded.name == "lymphoma"
        assert [(p.label, p.group) for p in loaded.patches] == [
            ("CLL", os.path.join("CLL", "a.tif")),
            ("CLL", os.path.join("CLL", "b.JPG")),
            ("MCL", os.path.join("MCL", "2.png")),
        ]
        assert {(p.split, p.organ) for p in loaded.patches} == {(None, "lymphoma")}
        assert loaded.classes() == ("CLL", "MCL")
        assert len(set(loaded.groups().tolist())) == 3

    def test_a_folder_without_patches_is_refused(self, tmp_path: Path) -> None:
        picture(tmp_path / "loose.png")
        assert "no patches in it" in refusal(tmp_path)


class TestSelect:
    @pytest.fixture
    def loaded(self, tmp_path: Path) -> PatchTable:
        return PatchTable.load(table(tmp_path / "set", FULL))

    def test_a_split_and_classes_keep_order_and_name(self, loaded: PatchTable) -> None:
        assert loaded.select() == loaded
        train = loaded.select(split="train")
        assert train.name == "set"
        assert train.patches == loaded.patches[:2]
        assert loaded.select(classes=("malignant",)).patches == loaded.patches[1:]
        assert loaded.select(split="train", classes=("malignant",)).patches == loaded.patches[1:2]

    def test_labels_are_one_for_the_positive_class(self, loaded: PatchTable) -> None:
        labels = loaded.labels("malignant")
        assert labels.dtype == np.int64
        assert labels.tolist() == [0, 1, 1]

    def test_an_unknown_class_is_refused_with_those_there_are(self, loaded: PatchTable) -> None:
        with pytest.raises(DataError, match=r"^set: no patch of class 'gleason'; the classes are: benign, malignant$"):
            loaded.select(classes=("benign", "gleason"))

    def test_a_class_that_a_split_lacks_is_refused(self, loaded: PatchTable) -> None:
        with pytest.raises(DataError, match="no patch of split 'test' of class 'benign'; the classes are: benign"):
            loaded.select(split="test", classes=("benign",))

    def test_an_empty_split_is_refused(self, loaded: PatchTable) -> None:
        with pytest.raises(DataError, match=r"^set: no patch of split 'val'$"):
            loaded.select(split="val")

    def test_a_split_of_a_table_that_has_none_is_refused(self, tmp_path: Path) -> None:
        loaded = PatchTable.load(table(tmp_path, "path\na.png\n"))
        with pytest.raises(DataError, match="has no column 'split'"):
            loaded.select(split="train")


class TestImages:
    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK"])
    def test_any_mode_is_read_as_rgb(self, tmp_path: Path, mode: str) -> None:
        image = read_image(picture(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"), mode=mode))
        assert image.shape == (4, 6, 3)
        assert image.dtype == np.uint8
        grey = round(0.299 * RGB[0] + 0.587 * RGB[1] + 0.114 * RGB[2])
        expected = (grey,) * 3 if mode == "L" else RGB
        assert np.abs(image.astype(int) - expected).max() <= 25 * (mode == "P")  # the web palette has steps of 51

    @pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
    def test_every_suffix_that_counts_as_an_image_can_be_read(self, tmp_path: Path, suffix: str) -> None:
        image = read_image(picture(tmp_path / f"a{suffix}"))
        assert np.abs(image.astype(int) - RGB).max() <= 4

    def test_a_table_gives_its_images_in_order(self, tmp_path: Path) -> None:
        picture(tmp_path / "a.png", (6, 4))
        picture(tmp_path / "b.png", (3, 5))
        images = PatchTable.load(table(tmp_path, "path\nb.png\na.png\n")).images()
        assert [image.shape for image in images] == [(5, 3, 3), (4, 6, 3)]

    def test_pixels_are_not_read_before_they_are_asked_for(self, tmp_path: Path) -> None:
        loaded = PatchTable.load(table(tmp_path, "path,split\nmissing.png,test\na.png,train\n"))
        picture(tmp_path / "a.png")
        assert len(loaded.select(split="train").images()) == 1
        with pytest.raises(DataError, match=r"missing\.png: cannot be read as an image"):
            loaded.images()

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp", ".webp"])
    @pytest.mark.parametrize("share", [0.0, 0.1, 0.6])
    @pytest.mark.filterwarnings("default")  # Pillow warns about the damage before it raises
    def test_a_truncated_image_is_refused(self, tmp_path: Path, suffix: str, share: float) -> None:
        path = picture(tmp_path / f"a{suffix}", (40, 40))
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(DataError, match=f"a{suffix}: cannot be read as an image"):
            read_image(path)

    def test_an_image_that_claims_to_be_enormous_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = picture(tmp_path / "bomb.png", (40, 40))
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        with pytest.raises(DataError, match=r"bomb\.png: cannot be read as an image"):
            read_image(path)
