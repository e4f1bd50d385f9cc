"""What all studies share: check, measure network by network, save, resume, and publish record, results and report.

Results of a network are saved as soon as it is measured, with a stamp of what they come from; a run, `--resume` and
`--from` read them through the same reader, so a report never mixes settings, prompts, versions or weights.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import typer
from tqdm.auto import tqdm

from neolens import files, report, results
from neolens.models import from_record
from neolens.network import fingerprint
from neolens.processes import cores, one_thread, remedy, run_tasks
from neolens.studies import inputs, models, record, settings, store
from neolens.studies.digest import digest, source
from neolens.studies.finding import StudyWarning, as_csv
from neolens.studies.models import Models
from neolens.studies.page import answers, failures, page, unanswered
from neolens.studies.study import ExactCheck, Measured, Prepared, Study, Summary

PROCESSES = 8
"""Side by side at most, each with about 1 GB."""


def run(study: Study, config: Any, *, resume: bool = False) -> int:
    """Measure the models of a config, and write results, record and report into its folder.

    Args:
        resume: keep the networks that the folder already holds with these settings, prompts, versions and weights.

    Returns:
        The exit code: 1 if an exact check failed.

    Raises:
        ValueError: a setting, a model or a folder that cannot be used; nothing is measured then.
    """
    began = time.perf_counter()
    chosen = models.read_models(config, study.seeds)
    prepared = study.prepare(config, chosen)
    models.fetched(config)
    saved = _record(study, chosen, prepared)
    stamps, folder = record.stamps(saved, config), files.claim_folder(config.out)
    with remedy(f"networks measured so far are kept in {folder}, run the command again with --resume"):
        _measure_all(study, chosen, prepared, stamps, folder, resume)
        measured = _read(study, config, saved, stamps, folder)
        return _publish(study, measured, saved, folder, lambda: time.perf_counter() - began, resume)


def redraw(study: Study, source: Path, out: Path) -> int:
    """Write the report once more, from what a folder holds and without a model.

    Raises:
        ValueError: a folder without a record of this study, or without the results that it lists.
    """
    saved, config = record.read(source, study.name, study.config)
    one_thread()
    measured = _read(study, config, saved, record.stamps(saved, config), source)
    summary = study.summarise(measured)
    checks = list(study.exact_checks(measured, summary))
    folder = files.claim_folder(out)
    _write_findings(folder, summary)
    path = report.write(folder / "report.html", page(study, measured, summary, checks, saved))
    typer.echo(f"Drawn again from {source}. Open {path}")
    return _exit_code(checks)


def command(study: Study, config: Any) -> str:
    """The command that repeats a run: every setting but those that are None or that another one replaces."""
    replaced = settings.replaced(config)
    values = {each.name: getattr(config, each.name) for each in dataclasses.fields(config) if each.name not in replaced}
    names, out = values.pop("models"), values.pop("out")
    words = [_invocation(study), "--models", *map(shlex.quote, names)]
    for name, value in values.items():
        if value is not None:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words += [f"--{name.replace('_', '-')}", shlex.quote(text)]
    return " ".join([*words, "--out", shlex.quote(out)])


def _invocation(study: Study) -> str:
    """What a command line with this study begins with."""
    if study.summarise.__module__.startswith("neolens."):
        return f"neolens run {study.name}"
    module = inspect.getmodule(study.summarise)
    spec = getattr(module, "__spec__", None)
    return f"python {Path(str(getattr(module, '__file__', ''))).name}" if spec is None else f"python -m {spec.name}"


def _measure_all(
    study: Study,
    chosen: Models,
    prepared: Prepared,
    stamps: Mapping[str, Mapping[str, store.Stamp]],
    folder: Path,
    resume: bool,
) -> None:
    """Measure every network that is not kept, small ones side by side."""
    config, done, total = chosen.config, 0, 0
    tasks: list[tuple[Any, ...]] = []
    for name, by_network in stamps.items():
        for network, stamp in by_network.items():
            own, path = study.of_network(prepared.prompts[name], network), store.path_of(folder, network)
            parts = len(study.parts(own, config))
            total += parts
            if resume and _is_kept(config, network, path, stamp):
                done += parts
            else:
                tasks.append((study, network, own, config, path, stamp))
    with tqdm(total=total, initial=done, desc=study.name.replace("_", " "), unit="part", disable=None) as bar:
        if chosen.small and config.threads is None:
            one_thread()
        elif config.threads is not None:
            torch.set_num_threads(config.threads)
        processes = min(cores(), PROCESSES, len(tasks)) if chosen.small and config.threads is None else 1
        if processes < 2:
            tasks = [(*task, bar.update) for task in tasks]
        for parts in run_tasks(_measure, tasks, max(1, processes)):
            bar.update(parts if processes > 1 else 0)


def _measure(
    study: Study,
    network: str,
    prompts: Any,
    config: Any,
    path: Path,
    stamp: store.Stamp,
    tick: Callable[[], Any] = lambda: None,
) -> int:
    """Measure one network and save it; returns of how many parts."""
    model = models.load(config, network)
    parts = {}
    for name, result in study.measure(model, prompts, config):
        parts[name] = result
        tick()
    store.write(parts, path, {**stamp, "fingerprint": fingerprint(model)})
    return len(parts)


def _is_kept(config: Any, network: str, path: Path, stamp: store.Stamp) -> bool:
    """Whether all of a network was measured: of these weights, on these prompts, with these settings and versions."""
    if not path.is_file() or not store.is_complete(path, stamp):  # without loading the model
        return False
    return store.is_complete(path, {**stamp, "fingerprint": fingerprint(models.load(config, network))})


def _record(study: Study, chosen: Models, prepared: Prepared) -> dict[str, Any]:
    """What was measured of which models with which versions, as the record holds it."""
    scope = json.loads(json.dumps(dict(prepared.scope)))
    networks = {name: list(chosen.networks[name]) for name in prepared.prompts}
    return {
        "study": study.name,
        "config": json.loads(json.dumps(dataclasses.asdict(chosen.config))),
        "versions": dict(results.versions()),
        "asked": {"networks": networks, **scope},
        "prompts": {name: digest(prompts) for name, prompts in prepared.prompts.items()},
        "measure": digest(source(study.measure)),
        "anatomies": {facts.name: json.dumps(dataclasses.asdict(facts)) for facts in chosen.anatomies},
        "inputs": inputs.record(prepared.inputs),
        "notes": inputs.sentences(prepared.inputs),
    }


def _read(
    study: Study,
    config: Any,
    saved: Mapping[str, Any],
    stamps: Mapping[str, Mapping[str, store.Stamp]],
    folder: Path,
) -> Measured:
    """All that was measured, from the files of the networks.

    Raises:
        ValueError: a file that is missing, is damaged, or has another stamp.
    """
    of_path = {store.path_of(folder, name): stamp for each in stamps.values() for name, stamp in each.items()}
    parts = store.read_all(of_path) if of_path else {}
    by_seed = {
        name: {models.seed_of(network): parts[store.path_of(folder, network)] for network in each}
        for name, each in stamps.items()
    }
    texts = saved.get("anatomies") or {
        name: store.origin(next(iter(each.values()))).get("anatomy", "") for name, each in by_seed.items()
    }
    anatomies = tuple(from_record(text) for text in texts.values())
    scope = {name: value for name, value in saved["asked"].items() if name != "networks"}
    return Measured(
        config,
        anatomies,
        by_seed,
        scope,
        record.inputs_of(saved),
        saved.get("notes", []),
        command(study, config),
    )


def _publish(
    study: Study,
    measured: Measured,
    saved: dict[str, Any],
    folder: Path,
    seconds: Callable[[], float],
    resumed: bool,
) -> int:
    """Write record, results and report; print the findings."""
    summary = study.summarise(measured)
    checks = list(study.exact_checks(measured, summary))
    saved |= {
        "fingerprints": _fingerprints(measured),
        "seconds": round(seconds(), 1),
        "resumed": resumed,
        "checks_pass": all(check.passes for check in checks),
        "exact_checks": [dataclasses.asdict(check) for check in checks],
        "warnings": [dataclasses.asdict(one) for one in (*_notes(measured), *summary.warnings)],
        "findings": [dataclasses.asdict(one) for one in summary.findings],
        **summary.record,
    }
    report.write_record(folder, saved)
    typer.echo("All is measured; drawing the report ...", err=True)
    written = page(study, measured, summary, checks, saved)
    _write_findings(folder, summary)
    if summary.results:
        results.save(results.stack(summary.results), folder / "result.nc")
    else:
        (folder / "result.nc").unlink(missing_ok=True)
    path = report.write(folder / "report.html", written)
    for line in [*failures(checks), *unanswered(summary, saved)]:
        typer.echo(line, err=True)
    for line in answers(study, summary, saved):
        typer.echo(line)
    typer.echo(f"Done in {saved['seconds']} s. Open {path}")
    return _exit_code(checks)


def _write_findings(folder: Path, summary: Summary) -> None:
    """Write `findings.csv`, whole or not at all."""
    text = as_csv(summary.findings)
    files.write_whole(folder / "findings.csv", lambda path: path.write_text(text, encoding="utf-8"))


def _notes(measured: Measured) -> list[StudyWarning]:
    """What is peculiar to the prompts of each model."""
    return [StudyWarning("", "prompts", text) for text in measured.notes]


def _fingerprints(measured: Measured) -> dict[str, str]:
    """Network -> the fingerprint of its weights."""
    return {
        f"{name}@{seed}" if len(by_seed) > 1 else name: str(store.origin(parts)["fingerprint"])
        for name, by_seed in measured.results.items()
        for seed, parts in by_seed.items()
    }


def _exit_code(checks: Sequence[ExactCheck]) -> int:
    return 0 if all(check.passes for check in checks) else 1
