"""What other programs call our settings and models, and the line that helps for each."""

from __future__ import annotations

# RecBole's and the official GRU4Rec's names (lower case) -> ours.
SETTINGS = {
    "lr": "learning_rate",
    "epochs": "num_epochs",
    "n_epochs": "num_epochs",
    "train_batch_size": "batch_size",
    "max_item_list_length": "window",
    "max_seq_length": "window",
    "topk": "evaluation.cutoffs",
    "valid_metric": "early_stopping.metric",
    "stopping_step": "early_stopping.patience",
    "learner": "optimizer",
    "weight_decay": "optimizer.weight_decay",
    "momentum": "optimizer.momentum",
    "clip_grad_norm": "clip_norm",
    "train_neg_sample_args": "negatives",
    "neg_sampling": "negatives",
    "n_sample": "num_negatives",
    "dropout_p_embed": "dropout_embedding",
    "dropout_p_hidden": "dropout_hidden",
    "layers": "hidden_size",
    "elu_param": "loss.elu_param",
    "bpreg": "loss.bpreg",
    "logq": "loss.logq",
    "constrained_embedding": "model.input",
    "gpu_id": "device",
    "use_gpu": "device",
    "data_path": "paths.raw",
    "checkpoint_dir": "hydra.run.dir",
    "reproducibility": "seed",
    "user_id_field": "dataset.columns.session",
    "session_id_field": "dataset.columns.session",
    "item_id_field": "dataset.columns.item",
    "time_field": "dataset.columns.time",
    "field_separator": "dataset.separator",
}
MODELS = {
    "gru4rec": "id_only",
    "gru4reccpr": "id_only",
    "bpr": "bpr_mf",
    "bprmf": "bpr_mf",
    "itemknn": "item_knn",
    "sknn": "v_sknn",
    "vsknn": "v_sknn",
    "popularity": "pop",
    "p_rnn": "parallel",
    "prnn": "parallel",
}
COMMANDS = {
    "space": "p-rnn search --space {value} --trials 20 --name NAME [key=value ...] searches it",
    "study": "p-rnn study {value} runs a study",
    "checkpoint": "p-rnn evaluate checkpoint={value} evaluates it, resume={value} goes on from it, "
    "warm_start={value} starts from it on new data",
}
EXTRAS = {
    "joblib": "sweep",
    "loky": "sweep",
    "slurm": "slurm",
    "submitit_slurm": "slurm",
    "submitit_local": "slurm",
}


def ours(kind: str, name: str) -> str | None:
    """Our name for something that another program calls so."""
    table = {"setting": SETTINGS, "model": MODELS}.get(kind, {})
    return table.get(name.lower())
