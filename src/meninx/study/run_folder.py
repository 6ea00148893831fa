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
from meninx.study.fold_networks import FoldNetworks


class RunFolder:
    """A folder that a study writes to, model by model, and can go on with.

    Parameters
    ----------
    path
        Where it is, or will be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, study: Mapping[str, Any], fresh: bool) -> None:
        """Open the folder for a study.

        Parameters
        ----------
        study
            What the study is: settings, seed, versions, checksum of the cohort. Written to
            ``study.toml``. A folder that holds the same study is gone on with.
        fresh
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
            if fresh:
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
    def fold_networks(self) -> FoldNetworks:
        """What cross-validation trained, until the study removes it."""
        return FoldNetworks(self.path / "fold_networks")

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

    def write_model(self, model: str, predictions: pd.DataFrame, record: Mapping[str, Any]) -> None:
        """Write a model's result. Its ``model.json`` comes last: with it the result is whole."""
        content = predictions.to_parquet(index=False)
        write_whole(self.path / "models" / model / "oof.parquet", content)
        self.write_json(f"models/{model}/model.json", record)

    def read_model(self, model: str) -> tuple[pd.DataFrame, dict[str, Any]] | None:
        """Read a model's result, or None if it is not there whole."""
        folder = self.path / "models" / model
        try:
            record = json.loads((folder / "model.json").read_bytes())
            return pd.read_parquet(folder / "oof.parquet"), record
        except FileNotFoundError:
            return None
