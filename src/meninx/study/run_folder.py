"""The run folder: everything that a study finds, each file whole or absent."""

import json
import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import tomli_w

from meninx.errors import StudyError
from meninx.files import write_whole
from meninx.study.fold_models import FoldModels


class RunFolder:
    """A folder that a study writes to, cell by cell, and can go on with.

    Parameters
    ----------
    path
        Where it is, or will be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, study: Mapping[str, Any], is_fresh: bool) -> None:
        """Open the folder for a study.

        Parameters
        ----------
        study
            What the study is: settings, seed, versions, checksum of the cohort. Written to
            ``study.toml``. A folder that holds the same study is gone on with.
        is_fresh
            Whether to throw away what an earlier study left.

        Raises
        ------
        StudyError
            The folder holds another study, or something that is no study at all.
        """
        record = self.path / "study.toml"
        if self.path.is_dir() and any(self.path.iterdir()):
            if not record.is_file():
                raise StudyError(
                    f"{self.path} is not empty and holds no study; name another folder with -o"
                )
            if is_fresh:
                shutil.rmtree(self.path)
            else:
                self._refuse_another_study(record, study)
        write_whole(self.path / "study.toml", tomli_w.dumps(study).encode())

    def _refuse_another_study(self, record: Path, study: Mapping[str, Any]) -> None:
        earlier = tomllib.loads(record.read_text())
        differing = sorted(
            key for key in earlier.keys() | study.keys() if earlier.get(key) != study.get(key)
        )
        if differing == ["pseudonyms_key"]:
            raise StudyError(
                f"{self.path} was written with another key of pseudonyms; name that key's file in "
                "MENINX_KEY, add --fresh to replace it, or name another folder with -o"
            )
        if differing:
            raise StudyError(
                f"{self.path} holds another study (its {', '.join(differing)} differ); "
                "add --fresh to replace it, or name another folder with -o"
            )

    @property
    def models(self) -> FoldModels:
        """What cross-validation trained, until the study removes it."""
        return FoldModels(self.path / "models")

    def write_json(self, name: str, content: object) -> None:
        """Write a JSON file; numbers that are none are refused."""
        text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
        write_whole(self.path / name, text.encode())

    def read_json(self, name: str) -> Any:  # noqa: ANN401
        """Read a JSON file that was written before, or None if it is not there."""
        try:
            return json.loads((self.path / name).read_bytes())
        except FileNotFoundError:
            return None

    def write_csv(self, name: str, table: pd.DataFrame) -> None:
        """Write a table without its index."""
        write_whole(self.path / name, table.to_csv(index=False).encode())

    def write_cell(self, cell: str, predictions: pd.DataFrame, record: Mapping[str, Any]) -> None:
        """Write a cell's result. Its ``cell.json`` comes last: with it the result is whole."""
        content = predictions.to_parquet(index=False)
        write_whole(self.path / "cells" / cell / "oof.parquet", content)
        self.write_json(f"cells/{cell}/cell.json", record)

    def read_cell(self, cell: str) -> tuple[pd.DataFrame, dict[str, Any]] | None:
        """Read a cell's result, or None if it is not there whole."""
        folder = self.path / "cells" / cell
        try:
            record = json.loads((folder / "cell.json").read_bytes())
            return pd.read_parquet(folder / "oof.parquet"), record
        except FileNotFoundError:
            return None
