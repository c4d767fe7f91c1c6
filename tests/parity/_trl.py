"""The losses of TRL 1.16.0, out of its wheel: `tools/setup.sh test` puts it beside the one of axolotl.

TRL imports data set libraries that no loss uses and that are not installed here; modules without content stand for them.
Its methods get tensors of transformers' logits in place of a trainer with a model and a data set.
"""
import importlib.abc
import importlib.machinery
import os
import sys
import types
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import torch

ROOT = Path(__file__).resolve().parents[2]
WHEEL = ROOT / ".venv" / "template-wheels" / "trl-1.16.0-py3-none-any.whl"


class Empty(types.ModuleType):
    __version__ = "99.0.0"

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        setattr(self, name, type(name, (), {"__class_getitem__": classmethod(lambda kind, item: kind)}))
        return getattr(self, name)


class EmptyModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in ("datasets", "pyarrow", "pandas"):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return Empty(spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, EmptyModules())
sys.path.insert(0, str(WHEEL))
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
from trl.experimental.cpo.cpo_trainer import CPOTrainer  # noqa: E402
from trl.experimental.orpo.orpo_trainer import ORPOTrainer  # noqa: E402
from trl.trainer.dpo_trainer import DPOTrainer  # noqa: E402
from trl.trainer.kto_trainer import KTOTrainer  # noqa: E402

ALONE = SimpleNamespace(device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x)


def trainer(**fields):
    return SimpleNamespace(model=SimpleNamespace(training=True), accelerator=ALONE, aux_loss_enabled=False, _total_train_tokens=0,
                           _tp_size=1, _metrics={"train": defaultdict(list)}, **fields)


def outputs(log_probs):
    """What TRL's fused head gives; entropy and mean logits are for metrics that Bezel does not have."""
    none = torch.zeros_like(log_probs.detach())
    return SimpleNamespace(log_probs=log_probs, entropy=none, mean_logits=none, is_top1=none.bool())


def means(fake):
    return {key: sum(values) / len(values) for key, values in fake._metrics["train"].items()}


def dpo(log_probs, rows, reference, beta=0.1, losses=("sigmoid",), weights=None, **fields):
    """`rows` holds input_ids, attention_mask and completion_mask of all chosen answers and then all rejected ones."""
    fake = trainer(ld_alpha=None, precompute_ref_logps=True, f_divergence_type="reverse_kl", loss_types=list(losses),
                   loss_weights=list(weights or [1.0] * len(losses)), beta=beta, label_smoothing=0.0, use_weighting=False, **fields)
    chosen, rejected = reference.chunk(2)
    inputs = dict(rows, ref_chosen_logps=chosen, ref_rejected_logps=rejected)
    loss = DPOTrainer._compute_loss(fake, lambda **_: outputs(log_probs), inputs, False)
    return loss, means(fake)


def kto(log_probs, rows, labels, reference, kl_logps, kl_reference, beta=0.1, desirable=1.0, undesirable=1.0):
    fake = trainer(loss_type="kto", beta=beta, desirable_weight=desirable, undesirable_weight=undesirable, calculate_KL=True,
                   precompute_ref_logps=True)
    fake._compute_kl_logps = lambda model, batch: kl_logps
    inputs = dict(rows, label=labels, ref_logps=reference, ref_KL_logps=kl_reference)
    loss = KTOTrainer._compute_loss(fake, lambda **_: outputs(log_probs), inputs, False)
    return loss, means(fake)


def answer_labels(rows):
    return rows["input_ids"].masked_fill(rows["completion_mask"] == 0, -100)


def token_mean(logits, labels):
    """Both trainers' cross_entropy_loss, which is local to concatenated_forward."""
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def orpo(logits, rows, beta=0.1):
    count = len(logits) // 2
    whole = torch.where(rows["attention_mask"] == 1, rows["input_ids"], -100)
    logps = ORPOTrainer.get_batch_logps(logits, answer_labels(rows), average_log_prob=True)
    fake = trainer(beta=beta)
    fake.odds_ratio_loss = lambda *logps: ORPOTrainer.odds_ratio_loss(fake, *logps)
    fake.concatenated_forward = lambda model, batch: (logps[:count], logps[count:], logits[:count], logits[count:],
                                                      token_mean(logits[:count], whole[:count]))
    return ORPOTrainer.get_batch_loss_metrics(fake, None, None)


def simpo(logits, rows, beta=0.1, gamma=0.5, cpo_alpha=0.0, label_smoothing=0.0):
    count = len(logits) // 2
    labels = answer_labels(rows)
    logps = CPOTrainer.get_batch_logps(logits, labels.clone(), average_log_prob=True)
    fake = trainer(beta=beta, simpo_gamma=gamma, loss_type="simpo", cpo_alpha=cpo_alpha, alpha=0.0, label_smoothing=label_smoothing)
    fake.cpo_loss = lambda *logps: CPOTrainer.cpo_loss(fake, *logps)
    fake.concatenated_forward = lambda model, batch: (logps[:count], logps[count:], logits[:count], logits[count:],
                                                      token_mean(logits[:count], labels[:count]))
    return CPOTrainer.get_batch_loss_metrics(fake, None, None)
