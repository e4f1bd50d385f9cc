"""`neolens check`: true models pass, and each fault of plain TransformerLens is caught."""

import pytest

import neolens
import tiny
from neolens import checking
from neolens.models import loading


@pytest.mark.parametrize("name", tiny.NAMES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_loaded_by_neolens_passes_every_line(name, dtype, tiny_folders):
    lines = checking.check(tiny_folders[name], dtype=dtype, every_layer=True)
    assert [line.what for line in lines if not line.holds] == []
    assert lines[0].figure == "0"


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("gpt2", {"resid_mid", "pos_embed"}),
        ("gpt-neo", {"resid_mid", "pos_embed", "attn_scores", "pattern", "result"}),
        ("pythia", {"rot_q", "rot_k"}),
        ("neox-sequential", {"resid_mid", "rot_q", "rot_k"}),
    ],
)
def test_the_faults_of_plain_transformer_lens_are_caught(name, broken, tiny_folders, monkeypatch):
    from transformer_lens.model_bridge import TransformerBridge

    def boot(folder, **options):
        model = TransformerBridge.boot_transformers(str(folder), device="cpu")
        model.__dict__["anatomy"] = loading.anatomy(folder)
        return model

    monkeypatch.setattr(checking, "load", boot)
    lines = checking.check(tiny_folders[name])
    failed = {line.what.partition(":")[0] for line in lines if not line.holds and "Hugging Face" not in line.what}
    assert failed >= broken


def test_a_published_loss_is_set_beside_the_measured_one(monkeypatch):
    monkeypatch.setitem(checking.PUBLISHED_LOSS, "lab/gpt2", 1.0)
    line = checking.check("lab/gpt2")[-1]
    # "Hello world!" is two unknown words to the lab: BOS, <unk>, <unk>
    assert line.what == 'loss on "Hello world!" in nats'
    assert not line.holds
    assert "published 1.000000" in line.bound


def test_the_model_is_left_as_it_was(tiny_folders, monkeypatch):
    kept = []
    monkeypatch.setattr(checking, "load", lambda *a, **k: kept.append(neolens.load(*a, **k)) or kept[-1])
    checking.check(tiny_folders["gpt2"])
    assert not any(point.has_hooks() for point in kept[0].hook_dict.values())
    assert not kept[0].cfg.use_attn_result


def test_logits_that_differ_from_hugging_faces_are_a_mismatch(tiny_folders, monkeypatch):
    import torch

    def shifted(*arguments, **options):
        model = neolens.load(*arguments, **options)
        with torch.no_grad():
            model.unembed.original_component.bias[0] += 1e-3
        return model

    monkeypatch.setattr(checking, "load", shifted)
    line = checking.check(tiny_folders["pythia"])[0]
    assert not line.holds
    assert float(line.figure) == pytest.approx(1e-3, rel=0.1)


def test_hooks_that_give_nan_are_a_mismatch(tiny_folders, monkeypatch):
    monkeypatch.setattr(checking, "_hooked", lambda model, tokens, *rest: model(tokens) * float("nan"))
    assert not any(line.holds for line in checking.check(tiny_folders["gpt2"])[1:])
