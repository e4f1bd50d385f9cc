"""From a name to a folder: a lab model in the package, a local folder, or the Hugging Face hub through its cache.

The hub is asked for config.json first, so that a model that neolens does not handle is refused before its weights
are fetched. Nothing from the hub is ever executed, and safetensors are preferred over pickled weights.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from neolens.checks import check_text, did_you_mean, shown
from neolens.files import read_json
from neolens.models.catalogue import Entry, catalogue, find
from neolens.models.lab_models import lab_folder, lab_names
from neolens.models.tokenizers import TOKENIZER_FILES
from neolens.models.weights import refuse_adapter

_EXPECTED = (
    "a catalogue name (see `neolens models`), a hub id such as EleutherAI/pythia-160m, "
    "or a folder that holds config.json"
)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Source:
    """Where a model comes from: a local folder, or a repository on the hub at a revision.

    `name`: as errors write it. `label`: as results, tables and figures write it.
    """

    name: str
    label: str
    local: Path | None = None
    hub_id: str | None = None
    revision: str | None = None
    entry: Entry | None = None

    @property
    def identity(self) -> tuple[str, str | None]:
        """What two names of one model have in common: the folder however it is spelled, or the hub id and revision."""
        if self.local is not None:
            return str(self.local.resolve()), None
        return str(self.hub_id).lower(), self.revision

    @cached_property
    def config(self) -> dict[str, Any]:
        """What the model's config.json holds; from the catalogue where the name stands there, at any revision."""
        if self.entry is not None:
            return dict(self.entry.config)
        return self.read_config(self.local or _download(self, ["config.json"]))

    @cached_property
    def folder(self) -> Path:
        """The folder with the weights, fetched if it is not in the cache."""
        if self.local is not None:
            return self.local
        _download(self, ["config.json"])
        folder = _download(self, [*TOKENIZER_FILES, "*.safetensors"])
        if not any(folder.glob("*.safetensors")):
            folder = _download(self, [*TOKENIZER_FILES, "pytorch_model*.bin"])
            if not any(folder.glob("pytorch_model*.bin")):  # the cache holds the texts only, and nothing was fetched
                raise ValueError(_unreachable(self))
        return folder

    def read_config(self, folder: Path) -> dict[str, Any]:
        """The parsed config.json of a folder.

        Raises:
            ValueError: there is none, or it is not a JSON object.
        """
        path = folder / "config.json"
        if (folder / "state.pt").is_file() and not path.is_file():
            raise ValueError(
                f"{self.name}: the folder holds a training of the lab that is not finished: run the same training "
                "again, which goes on where this one stopped, or give one of its step folders"
            )
        if not path.is_file():
            refuse_adapter(folder if self.local else _download(self, ["adapter_config.json"]), self.name)
            raise ValueError(
                f"{self.name}: the folder has no config.json: expected a model folder written by save_pretrained"
            )
        return read_json(path, "the JSON object that save_pretrained writes; save the model anew")


def resolve(name: str | Path, revision: str | None = None) -> Source:
    """The source that a catalogue name, a hub id or a folder stands for. Touches no network.

    Args:
        name: also `LABEL=NAME`, which gives the model a label of its own. By default it is the last component of a
            folder's path, and of any other model its name.

    Raises:
        TypeError: `name` is neither a string nor a path.
        ValueError: no model goes by that name; the nearest names are given.
    """
    if not isinstance(name, (str, Path)):
        raise TypeError(f"a model is named by a string or a path, got {shown(name)}")
    if revision is not None:
        check_text(revision, "revision", example="step1000")
        if len(revision) > 200 or not revision.isprintable():
            raise ValueError(f"no revision {shown(revision)}: expected a branch, tag or commit, such as step1000")
    text = str(name).strip()
    if not text or "\0" in text:
        raise ValueError(f"no model {shown(text)}: expected {_EXPECTED}")
    label, equals, rest = text.partition("=")
    if isinstance(name, str) and equals and not _as_path(text).exists():
        if not label.strip() or not rest.strip() or "/" in label:
            raise ValueError(f"{text!r}: expected LABEL=NAME, a label without slashes and a folder, hub id or name")
        source = _resolve(rest.strip(), revision, is_path=False)
        return replace(source, label=label.strip())
    return _resolve(text, revision, is_path=isinstance(name, Path))


def check_config_fields(names: Sequence[str], fields: Collection[str]) -> None:
    """Check that every field to ignore is in the config.json of one of the models.

    Raises:
        ValueError: one is in none.
    """
    there = {field for name in names for field in resolve(name).config}
    if absent := [field for field in fields if field not in there]:
        near = did_you_mean(absent[0], there)
        raise ValueError(f"field {shown(absent[0])}: {near}expected a field of a model's config.json, or none")


def _resolve(text: str, revision: str | None, *, is_path: bool) -> Source:
    if text.lower().startswith("lab/"):
        lab_name, folder = lab_folder(text, revision)
        return Source(lab_name, lab_name, local=folder, revision=revision)
    folder = _as_path(text)
    if folder.is_file():
        raise ValueError(f"{text} is a file: give the folder that holds config.json and the weights")
    if folder.is_dir() and ((folder / "config.json").is_file() or find(text) is None):
        if revision is not None:
            raise ValueError(f"{text}: a local folder has no revision {revision!r}: leave it out")
        return Source(text, Path(os.path.abspath(folder)).name or text, local=folder)
    entry = find(text)
    if entry is not None:
        return Source(entry.name, entry.name, hub_id=entry.hub_id, revision=revision, entry=entry)
    if not is_path and _HUB_ID.fullmatch(text) and not text.startswith("."):
        return Source(text, text, hub_id=text, revision=revision)
    raise ValueError(
        f"no model {shown(text, 120)}: {did_you_mean(text, [*lab_names(), *catalogue()])}expected {_EXPECTED}"
    )


def _as_path(text: str) -> Path:
    """A path, with `~` replaced where that is possible.

    Raises:
        ValueError: the file system does not say whether it exists.
    """
    path = Path(text)
    with suppress(RuntimeError):  # no such user
        path = path.expanduser()
    try:
        path.exists()
    except OSError as error:  # too long, or in a folder that may not be read
        raise ValueError(f"no model {shown(text)} ({error.strerror}): expected {_EXPECTED}") from error
    return path


def _download(source: Source, patterns: list[str]) -> Path:
    """The local snapshot of a repository with the files that match, fetched or from the cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(snapshot_download(str(source.hub_id), revision=source.revision, allow_patterns=patterns))
    except RepositoryNotFoundError as error:
        raise ValueError(
            f"no model {source.hub_id!r} on the Hugging Face hub, or it is private: "
            f"{did_you_mean(source.name, [*lab_names(), *catalogue()])}check the name or log in with `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise ValueError(
            f"{source.hub_id} has no revision {source.revision!r}: expected a branch, tag or commit "
            "(Pythia: step0 to step143000; Stanford's GPT-2: checkpoint-10 to checkpoint-400000)"
        ) from error
    except HFValidationError as error:
        raise ValueError(f"no model {shown(source.name)}: expected {_EXPECTED}") from error
    except (OSError, HfHubHTTPError) as error:
        raise ValueError(_unreachable(source)) from error


def _unreachable(source: Source) -> str:
    revision = f" --revision {source.revision}" if source.revision else ""
    return (
        f"{source.name} is not in the cache and the Hugging Face hub cannot be reached: fetch it beforehand with "
        f"`hf download {source.hub_id}{revision}`, or give the folder of a saved copy; "
        f"without a network these work at once: {', '.join(lab_names()) or 'local folders'}"
    )
