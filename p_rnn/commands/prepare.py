"""Prepare a data set without training: p-rnn prepare dataset=globo."""

from __future__ import annotations

import logging

from p_rnn.commands.script import hydra_script
from p_rnn.data.features import has_features, prepare_features
from p_rnn.data.prepare import prepare
from p_rnn.data.verify import verified
from p_rnn.settings.commands import PrepareConfig
from p_rnn.settings.resolve import load_plugins

log = logging.getLogger(__name__)


@hydra_script("prepare", PrepareConfig)
def main(config: PrepareConfig) -> None:
    """Print what each rule dropped, what the features contain, and where the result is."""
    load_plugins(config.plugins or [])
    dataset = prepare(config.dataset, config.paths)
    if has_features(config.dataset, config.paths, dataset):
        prepare_features(config.dataset, config.paths, dataset, None)
    if config.verify:
        log.info("\n%s", verified(dataset))
    log.info("\nprepared: %s", dataset.folder)
