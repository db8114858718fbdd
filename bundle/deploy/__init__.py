"""The network out of the notebook: batch norm folded, exported, quantised, measured."""
