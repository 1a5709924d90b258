"""`wsicomp models`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Cli, fails
from wsicomp.models.registry import shipped
from wsicomp.models.shipped import read_shipped


def test_every_shipped_weight_is_listed(cli: Cli) -> None:
    ended = cli("models", "--json")
    document = ended.document
    assert (ended.code, document["command"], document["status"]) == (0, "models", "ok")
    assert [item["name"] for item in document["results"]] == list(shipped())
    for item in document["results"]:
        content, sha256 = read_shipped(item["name"])
        assert (item["bytes"], item["sha256"]) == (len(content), sha256)
    ended = cli("models")
    assert "perticarari2023: perticarari2023, " in ended.out
    assert len(ended.out.splitlines()) == len(shipped())


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_weight_has_a_card(cli: Cli, name: str) -> None:
    ended = cli("models", name)
    assert ended.code == 0
    for word in ("ata", "icen", "wsicomp train"):  # data, licence, and the command that made it
        assert word in ended.out
    assert cli("models", name, "--json").document["card"].rstrip() + "\n" == ended.out


def test_no_such_weights(cli: Cli, tmp_path: Path) -> None:
    fails(cli, tmp_path, 3, ("none-such", "perticarari2023"), "none-such", command="models")
